//! Which namespaces a process gets anew, joins, or shares with the node.
//!
//! Containers join the pause's net, ipc and uts whatever the pod's modes are: where the pod shares the node's, the
//! pause has none of its own, and joining it is sharing the node's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType};

use super::base::Draft;
use super::field::{self, SECURITY};
use super::{PidNamespace, SpecError};
use crate::proto::cri::{self, NamespaceMode};

/// Sets a namespace, in the place of an earlier one of its kind.
pub(super) fn set(namespaces: &mut Vec<LinuxNamespace>, kind: LinuxNamespaceType, path: Option<PathBuf>) {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace.set_path(path);
    match namespaces.iter_mut().find(|old| old.typ() == kind) {
        Some(old) => *old = namespace,
        None => namespaces.push(namespace),
    }
}

/// Leaves a namespace out: it is the node's then.
pub(super) fn unset(namespaces: &mut Vec<LinuxNamespace>, kind: LinuxNamespaceType) {
    namespaces.retain(|namespace| namespace.typ() != kind);
}

/// Puts a container into its pod's namespaces.
pub(super) fn join(draft: &mut Draft, pause_pid: u32, pid: PidNamespace) {
    let of = |pid: u32, name: &str| Some(PathBuf::from(format!("/proc/{pid}/ns/{name}")));
    let namespaces = &mut draft.namespaces;
    set(namespaces, LinuxNamespaceType::Network, of(pause_pid, "net"));
    set(namespaces, LinuxNamespaceType::Ipc, of(pause_pid, "ipc"));
    set(namespaces, LinuxNamespaceType::Uts, of(pause_pid, "uts"));
    match pid {
        PidNamespace::Container => set(namespaces, LinuxNamespaceType::Pid, None),
        PidNamespace::Of(pid) => set(namespaces, LinuxNamespaceType::Pid, of(pid, "pid")),
        PidNamespace::Node => unset(namespaces, LinuxNamespaceType::Pid),
    }
}

/// A pod's user namespace.
#[derive(Debug, PartialEq)]
pub(super) struct UserNamespace {
    uids: Vec<LinuxIdMapping>,
    gids: Vec<LinuxIdMapping>,
}

impl UserNamespace {
    /// What the options ask for; `None` is the node's.
    ///
    /// # Errors
    /// For another mode than POD or NODE, and for mappings without POD or the other way round.
    pub fn of(options: Option<&cri::UserNamespace>) -> Result<Option<Self>, SpecError> {
        let name = format!("{SECURITY}.namespace_options.userns_options");
        let Some(options) = options else { return Ok(None) };
        let empty = (options.uids.is_empty(), options.gids.is_empty());
        match NamespaceMode::try_from(options.mode) {
            Ok(NamespaceMode::Node) if empty == (true, true) => Ok(None),
            Ok(NamespaceMode::Node) => Err(SpecError::invalid(name, "has mappings, but its mode is NODE")),
            Ok(NamespaceMode::Pod) if empty == (false, false) => {
                Ok(Some(Self { uids: id_mappings(&options.uids), gids: id_mappings(&options.gids) }))
            }
            Ok(NamespaceMode::Pod) => {
                Err(SpecError::invalid(name, "mode POD needs mappings for uids and for gids"))
            }
            _ => Err(SpecError::invalid(
                format!("{name}.mode"),
                format!("{} is neither POD nor NODE", options.mode),
            )),
        }
    }

    /// Puts a process into it: into a new one without `path`. The mappings are repeated in both cases.
    pub fn enter(self, draft: &mut Draft, path: Option<PathBuf>) {
        set(&mut draft.namespaces, LinuxNamespaceType::User, path);
        draft.linux.set_uid_mappings(Some(self.uids));
        draft.linux.set_gid_mappings(Some(self.gids));
    }
}

/// A container's user namespace: its pod's, whose options it must repeat.
pub(super) fn user_of_container(
    config: &cri::ContainerConfig,
    pod: &cri::PodSandboxConfig,
) -> Result<Option<UserNamespace>, SpecError> {
    let options = field::security(config).namespace_options.as_ref().and_then(|o| o.userns_options.as_ref());
    let own = UserNamespace::of(options)?;
    if own != UserNamespace::of(field::sandbox_namespaces(pod).userns_options.as_ref())? {
        return Err(SpecError::invalid(
            format!("{SECURITY}.namespace_options.userns_options"),
            "differs from the sandbox's; all containers of a pod share its user namespace",
        ));
    }
    Ok(own)
}

/// Mappings in the OCI's words.
pub(super) fn id_mappings(mappings: &[cri::IdMapping]) -> Vec<LinuxIdMapping> {
    mappings
        .iter()
        .map(|mapping| {
            LinuxIdMappingBuilder::default()
                .host_id(mapping.host_id)
                .container_id(mapping.container_id)
                .size(mapping.length)
                .build()
                .expect("its builder checks nothing")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_need_mappings_exactly_when_they_are_the_pods() {
        let map = vec![cri::IdMapping { host_id: 65536, container_id: 0, length: 65536 }];
        let options = |mode: NamespaceMode, uids: &[cri::IdMapping], gids: &[cri::IdMapping]| {
            cri::UserNamespace { mode: mode.into(), uids: uids.to_vec(), gids: gids.to_vec() }
        };
        assert_eq!(UserNamespace::of(None), Ok(None));
        assert_eq!(UserNamespace::of(Some(&options(NamespaceMode::Node, &[], &[]))), Ok(None));
        let user = UserNamespace::of(Some(&options(NamespaceMode::Pod, &map, &map))).unwrap().unwrap();
        assert_eq!((user.uids[0].host_id(), user.gids[0].size()), (65536, 65536));
        for bad in [
            options(NamespaceMode::Pod, &[], &[]),
            options(NamespaceMode::Pod, &map, &[]),
            options(NamespaceMode::Node, &map, &map),
            options(NamespaceMode::Container, &map, &map),
            cri::UserNamespace { mode: 77, ..Default::default() },
        ] {
            let error = UserNamespace::of(Some(&bad)).unwrap_err().to_string();
            assert!(
                error.starts_with("config.linux.security_context.namespace_options.userns_options"),
                "{error}"
            );
        }
    }

    #[test]
    fn containers_join_the_pause() {
        let of = |pid| {
            let mut draft = Draft::without_limits();
            join(&mut draft, 7, pid);
            let paths = |kind| {
                draft
                    .namespaces
                    .iter()
                    .find(|ns| ns.typ() == kind)
                    .map(|ns| ns.path().clone().unwrap_or_default())
            };
            assert_eq!(paths(LinuxNamespaceType::Network), Some("/proc/7/ns/net".into()));
            assert_eq!(paths(LinuxNamespaceType::Ipc), Some("/proc/7/ns/ipc".into()));
            assert_eq!(paths(LinuxNamespaceType::Uts), Some("/proc/7/ns/uts".into()));
            assert_eq!(paths(LinuxNamespaceType::Mount), Some("".into()));
            paths(LinuxNamespaceType::Pid)
        };
        assert_eq!(of(PidNamespace::Container), Some("".into()));
        assert_eq!(of(PidNamespace::Of(9)), Some("/proc/9/ns/pid".into()));
        assert_eq!(of(PidNamespace::Node), None);
    }
}
