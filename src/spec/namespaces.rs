//! Which namespaces a process gets anew, joins, or shares with the node.
//!
//! Containers join the pause's net, ipc and uts whatever the pod's modes are: where the pod shares the node's, the
//! pause has none of its own, and joining it is sharing the node's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, User};

use super::base::Draft;
use super::field::{self, SECURITY};
use super::{PidNamespace, SpecError};
use crate::linux::userns::{IdMaps, IdRange};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    pub ids: IdMaps,
}

impl UserNamespace {
    /// What a pod's config asks for; `None` is the node's.
    ///
    /// # Errors
    /// As [`UserNamespace::of`].
    pub fn of_pod(config: &cri::PodSandboxConfig) -> Result<Option<Self>, SpecError> {
        Self::of(field::sandbox_namespaces(config).userns_options.as_ref())
    }

    /// What the options ask for; `None` is the node's.
    ///
    /// # Errors
    /// For another mode than POD or NODE, for mappings with NODE, and unless POD comes with one mapping of uids and one
    /// of gids that both have a root: several ranges are not what the kubelet gives, nor what snapshots can have.
    pub(super) fn of(options: Option<&cri::UserNamespace>) -> Result<Option<Self>, SpecError> {
        let name = format!("{SECURITY}.namespace_options.userns_options");
        let Some(options) = options else { return Ok(None) };
        match NamespaceMode::try_from(options.mode) {
            Ok(NamespaceMode::Node) if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
            Ok(NamespaceMode::Node) => Err(SpecError::invalid(name, "has mappings, but its mode is NODE")),
            Ok(NamespaceMode::Pod) => {
                let uids = range(&format!("{name}.uids"), &options.uids)?;
                let gids = range(&format!("{name}.gids"), &options.gids)?;
                Ok(Some(Self { ids: IdMaps { uids, gids } }))
            }
            _ => Err(SpecError::invalid(
                format!("{name}.mode"),
                format!("{} is neither POD nor NODE", options.mode),
            )),
        }
    }

    /// Puts a process into the one at `path`. Runtimes want the mappings repeated, and compare them.
    pub(super) fn enter(self, draft: &mut Draft, path: PathBuf) {
        set(&mut draft.namespaces, LinuxNamespaceType::User, Some(path));
        draft.linux.set_uid_mappings(Some(vec![mapping(&self.ids.uids)]));
        draft.linux.set_gid_mappings(Some(vec![mapping(&self.ids.gids)]));
    }

    /// The user and group on the node that the process of a spec has here.
    ///
    /// # Errors
    /// For one that the namespace does not have: a runtime would only say that an argument is invalid.
    pub fn owner(&self, user: &User) -> Result<(u32, u32), SpecError> {
        let find = |range: &IdRange, kind: &str, id| {
            range.outside_of(id).ok_or_else(|| {
                let last = range.inside + (range.length - 1);
                let why =
                    format!("the pod's user namespace has no {kind} {id}, only {} to {last}", range.inside);
                SpecError::invalid(format!("{SECURITY}.run_as_{kind}"), why)
            })
        };
        for gid in user.additional_gids().iter().flatten() {
            find(&self.ids.gids, "group", *gid)?;
        }
        Ok((find(&self.ids.uids, "user", user.uid())?, find(&self.ids.gids, "group", user.gid())?))
    }

    /// Labels that tell a snapshotter how to show a snapshot (containerd, `core/snapshots`).
    pub fn snapshot_labels(&self) -> [(String, String); 2] {
        let label = |kind: &str, range: &IdRange| {
            let IdRange { inside, outside, length } = range;
            (format!("containerd.io/snapshot/{kind}mapping"), format!("{inside}:{outside}:{length}"))
        };
        [label("uid", &self.ids.uids), label("gid", &self.ids.gids)]
    }
}

/// The one mapping that there must be.
fn range(name: &str, mappings: &[cri::IdMapping]) -> Result<IdRange, SpecError> {
    let [one] = mappings else {
        let why = format!("has {} mappings; mode POD takes one", mappings.len());
        return Err(SpecError::invalid(name, why));
    };
    let range = IdRange { inside: one.container_id, outside: one.host_id, length: one.length };
    if range.inside != 0 || range.length == 0 {
        let why = format!("maps {} ids from {} on; root, 0, must be among them", range.length, range.inside);
        return Err(SpecError::invalid(name, why));
    }
    // The last number of all stands for "no id".
    if u64::from(range.outside) + u64::from(range.length) > u64::from(u32::MAX) {
        let why =
            format!("maps {} ids to {} and up, where there are not as many", range.length, range.outside);
        return Err(SpecError::invalid(name, why));
    }
    Ok(range)
}

/// A container's user namespace: its pod's, whose options it must repeat.
pub(super) fn user_of_container(
    config: &cri::ContainerConfig,
    pod: &cri::PodSandboxConfig,
) -> Result<Option<UserNamespace>, SpecError> {
    let options = field::security(config).namespace_options.as_ref().and_then(|o| o.userns_options.as_ref());
    let own = UserNamespace::of(options)?;
    if own != UserNamespace::of_pod(pod)? {
        return Err(SpecError::invalid(
            format!("{SECURITY}.namespace_options.userns_options"),
            "differs from the sandbox's; all containers of a pod share its user namespace",
        ));
    }
    Ok(own)
}

/// A range in the OCI's words.
fn mapping(range: &IdRange) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .host_id(range.outside)
        .container_id(range.inside)
        .size(range.length)
        .build()
        .expect("its builder checks nothing")
}

/// Mappings of a mount in the OCI's words.
pub(super) fn id_mappings(mappings: &[cri::IdMapping]) -> Vec<LinuxIdMapping> {
    let range =
        |one: &cri::IdMapping| IdRange { inside: one.container_id, outside: one.host_id, length: one.length };
    mappings.iter().map(|one| mapping(&range(one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(host_id: u32, container_id: u32, length: u32) -> Vec<cri::IdMapping> {
        vec![cri::IdMapping { host_id, container_id, length }]
    }

    fn options(mode: NamespaceMode, uids: &[cri::IdMapping], gids: &[cri::IdMapping]) -> cri::UserNamespace {
        cri::UserNamespace { mode: mode.into(), uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn user_namespaces_need_one_mapping_exactly_when_they_are_the_pods() {
        let good = map(65536, 0, 65536);
        assert_eq!(UserNamespace::of(None), Ok(None));
        assert_eq!(UserNamespace::of(Some(&options(NamespaceMode::Node, &[], &[]))), Ok(None));
        let user =
            UserNamespace::of(Some(&options(NamespaceMode::Pod, &good, &map(7, 0, 9)))).unwrap().unwrap();
        assert_eq!(user.ids.uids, IdRange { inside: 0, outside: 65536, length: 65536 });
        assert_eq!(
            user.snapshot_labels(),
            [("uid", "0:65536:65536"), ("gid", "0:7:9")]
                .map(|(kind, text)| (format!("containerd.io/snapshot/{kind}mapping"), text.to_owned()))
        );
        let pod = |bad: &[cri::IdMapping]| options(NamespaceMode::Pod, &good, bad);
        for (bad, field) in [
            (pod(&[]), ".gids"),
            (pod(&[good.clone(), good.clone()].concat()), ".gids"),
            (pod(&map(65536, 1, 65536)), ".gids"),
            (pod(&map(65536, 0, 0)), ".gids"),
            (pod(&map(u32::MAX, 0, 1)), ".gids"),
            (pod(&map(1, 0, u32::MAX)), ".gids"),
            (options(NamespaceMode::Pod, &[], &good), ".uids"),
            (options(NamespaceMode::Node, &good, &good), ""),
            (options(NamespaceMode::Container, &good, &good), ".mode"),
            (cri::UserNamespace { mode: 77, ..Default::default() }, ".mode"),
        ] {
            let error = UserNamespace::of(Some(&bad)).unwrap_err().to_string();
            let field = format!("config.linux.security_context.namespace_options.userns_options{field}: ");
            assert!(error.starts_with(&field), "{error}");
        }
    }

    #[test]
    fn a_process_runs_as_somebody_whom_the_namespace_has() {
        let range = |outside| IdRange { inside: 0, outside, length: 1000 };
        let namespace = UserNamespace { ids: IdMaps { uids: range(5_000), gids: range(9_000) } };
        let user = |uid, gid, group| {
            let mut user = User::default();
            user.set_uid(uid).set_gid(gid).set_additional_gids(Some(vec![group]));
            user
        };
        assert_eq!(namespace.owner(&user(0, 999, 1)), Ok((5_000, 9_999)));
        for (bad, field) in [
            (user(1000, 0, 0), "run_as_user"),
            (user(0, 1000, 0), "run_as_group"),
            (user(0, 0, 1000), "run_as_group"),
        ] {
            let error = namespace.owner(&bad).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("1000, only 0 to 999"), "{error}");
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
