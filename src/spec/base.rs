//! What every spec starts from: containerd's default Linux spec (its `pkg/oci`), or a handler's own.
//!
//! The default is a document in the field's own format, `base.json`: oci-spec's `Default` values are opinions of its own.

use std::path::Path;
use std::sync::LazyLock;

use oci_spec::runtime::{Hooks, Linux, LinuxNamespace, LinuxResources, Mount, Process, Root, Spec};

use super::SpecError;
use super::field;
use super::mounts::Access;
use crate::config::HandlerConfig;
use crate::proto::cri;

static BASE: LazyLock<Spec> = LazyLock::new(|| {
    serde_json::from_str(include_str!("base.json")).expect("a test of this module parses it")
});

/// The shim's types whose containers are processes of this node, held by its kernel.
const RUNC_TYPES: &str = "io.containerd.runc.";

/// Where containerd puts a container without a cgroup parent: below its namespace's name.
const DEFAULT_CGROUP_PARENT: &str = "/k8s.io";

/// The slice of a container without a cgroup parent under systemd, as runc itself chooses.
const DEFAULT_SLICE: &str = "system.slice";

/// A spec in the making: the parts that always exist, taken out of their options.
pub(super) struct Draft {
    spec: Spec,
    pub process: Process,
    pub linux: Linux,
    pub namespaces: Vec<LinuxNamespace>,
    pub resources: LinuxResources,
    pub mounts: Vec<Mount>,
}

impl Draft {
    /// The default spec. It sets no rlimits and no profiles: those of containerd and of the config count.
    pub fn without_limits() -> Self {
        Self::of(BASE.clone())
    }

    /// A handler's `base_runtime_spec`, without its /run, which images bring.
    pub fn on(base: &Spec) -> Self {
        let mut draft = Self::of(base.clone());
        draft.mounts.retain(|mount| mount.destination() != Path::new("/run"));
        draft
    }

    fn of(mut spec: Spec) -> Self {
        let empty = "{}";
        let process = spec.process_mut().take().unwrap_or_else(|| BASE_PROCESS.clone());
        let mut linux = spec.linux_mut().take().unwrap_or_else(|| parsed(empty));
        Self {
            process,
            namespaces: linux.namespaces_mut().take().unwrap_or_default(),
            resources: linux.resources_mut().take().unwrap_or_default(),
            linux,
            mounts: spec.mounts_mut().take().unwrap_or_default(),
            spec,
        }
    }

    /// The root filesystem: where containerd's shim mounts it.
    pub fn root(&mut self, access: Access) {
        let mut root: Root = parsed(r#"{"path":"rootfs"}"#);
        let of_base = self.spec.root().as_ref().and_then(Root::readonly).unwrap_or(false);
        root.set_readonly(Some(access == Access::ReadOnly || of_base));
        self.spec.set_root(Some(root));
    }

    /// The name that the runtime gives the UTS namespace it makes.
    pub fn hostname(&mut self, hostname: &str) {
        self.spec.set_hostname(Some(hostname.into()));
    }

    /// What runtimes run beside the container.
    pub fn hooks(&mut self) -> &mut Hooks {
        self.spec.hooks_mut().get_or_insert_default()
    }

    /// Adds annotations; later ones win.
    pub fn annotate(&mut self, annotations: impl IntoIterator<Item = (String, String)>) {
        self.spec.annotations_mut().get_or_insert_default().extend(annotations);
    }

    /// The spec, put together.
    pub fn finish(mut self) -> Spec {
        self.linux.set_namespaces(Some(self.namespaces));
        self.linux.set_resources(Some(self.resources));
        self.spec.set_linux(Some(self.linux));
        self.spec.set_process(Some(self.process));
        self.spec.set_mounts(Some(self.mounts));
        self.spec
    }
}

static BASE_PROCESS: LazyLock<Process> =
    LazyLock::new(|| BASE.process().clone().expect("a test of this module finds it"));

/// A value of oci-spec's out of literal JSON, where its own `Default` holds opinions.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(literal: &'static str) -> T {
    serde_json::from_str(literal).expect("literals of this folder are of their type")
}

/// Whether the handler's containers are processes of this node's kernel, whose rules then apply to them.
pub(super) fn on_this_kernel(handler: &HandlerConfig) -> bool {
    handler.runtime_type.starts_with(RUNC_TYPES)
}

/// The cgroup of a container: `slice:cri-containerd:id` in a systemd slice, else a path below the parent.
///
/// # Errors
/// When the parent's form is not that of the handler's cgroup driver: runc would refuse it without naming the cause.
pub fn cgroups_path(
    config: &cri::PodSandboxConfig,
    handler: &HandlerConfig,
    id: &str,
) -> Result<String, SpecError> {
    let name = "config.linux.cgroup_parent";
    let parent = config.linux.as_ref().map_or("", |linux| linux.cgroup_parent.as_str());
    let systemd = handler.options.get("SystemdCgroup").and_then(toml::Value::as_bool).unwrap_or(false);
    if parent.is_empty() {
        return Ok(match systemd {
            true => format!("{DEFAULT_SLICE}:cri-containerd:{id}"),
            false => format!("{DEFAULT_CGROUP_PARENT}/{id}"),
        });
    }
    let clean = field::container_path(name, &format!("/{}", parent.trim_start_matches('/')))?;
    let last = clean.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let slice = last.ends_with(".slice");
    if on_this_kernel(handler) && slice != systemd {
        let (driver, fix) = match systemd {
            true => ("systemd", "whose parents end in .slice; set the kubelet's cgroupDriver to systemd"),
            false => ("cgroupfs", "which knows no slices; set SystemdCgroup in the handler's options"),
        };
        return Err(SpecError::invalid(
            name,
            format!("the handler's cgroup driver is {driver}, {fix}: {parent:?}"),
        ));
    }
    Ok(match slice {
        true => format!("{last}:cri-containerd:{id}"),
        false => clean.join(id).to_str().map_or_else(String::new, Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_document_is_a_spec_with_all_its_parts() {
        let spec = &*BASE;
        assert!(spec.process().is_some() && spec.linux().is_some() && spec.root().is_some());
        assert_eq!(spec.hostname(), &None);
        assert_eq!(spec.version(), "1.1.0");
        let text = serde_json::to_value(spec).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(include_str!("base.json")).unwrap();
        // Sets have no order; everything else survives.
        for set in ["bounding", "effective", "permitted"] {
            let names = document["process"]["capabilities"][set].take();
            assert_eq!(names.as_array().unwrap().len(), 14);
            let mut sorted = [names, text["process"]["capabilities"][set].clone()].map(|names| {
                let mut names: Vec<_> =
                    names.as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect();
                names.sort();
                names
            });
            assert_eq!(sorted[0], sorted[1]);
            document["process"]["capabilities"][set] = sorted[0].split_off(0).into();
        }
        assert_eq!(text["mounts"], document["mounts"]);
        assert_eq!(text["linux"], document["linux"]);
    }

    fn path(parent: &str, systemd: bool) -> Result<String, SpecError> {
        let config = cri::PodSandboxConfig {
            linux: Some(cri::LinuxPodSandboxConfig { cgroup_parent: parent.into(), ..Default::default() }),
            ..Default::default()
        };
        let mut handler = HandlerConfig::default();
        handler.options.insert("SystemdCgroup".into(), systemd.into());
        cgroups_path(&config, &handler, "ID")
    }

    #[test]
    fn cgroups_are_below_their_parent_in_the_drivers_form() {
        assert_eq!(path("", false).unwrap(), "/k8s.io/ID");
        assert_eq!(path("", true).unwrap(), "system.slice:cri-containerd:ID");
        assert_eq!(path("/kubepods/burstable/podX", false).unwrap(), "/kubepods/burstable/podX/ID");
        assert_eq!(path("kubepods//podX/", false).unwrap(), "/kubepods/podX/ID");
        assert_eq!(
            path("/kubepods.slice/kubepods-podX.slice", true).unwrap(),
            "kubepods-podX.slice:cri-containerd:ID"
        );
    }

    #[test]
    fn a_parent_of_the_other_driver_or_outside_is_refused() {
        for (parent, systemd) in
            [("/a.slice", false), ("/kubepods", true), ("/a/../..", false), ("/..", false)]
        {
            let error = path(parent, systemd).unwrap_err();
            assert!(error.to_string().starts_with("config.linux.cgroup_parent: "), "{error}");
        }
    }
}
