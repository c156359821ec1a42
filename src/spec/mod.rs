//! OCI runtime specs out of CRI configs. Pure: what the host must be asked comes in as facts.
//!
//! Invariant: a config that cannot be run as asked is an error that names the field; nothing is left out in silence.

mod accounts;
mod annotations;
mod base;
mod caps;
mod cdi;
mod classes;
mod container;
mod devices;
mod error;
mod field;
#[cfg(test)]
mod fuzz;
mod glob;
mod labels;
mod lsm;
mod mounts;
mod namespaces;
mod pause;
mod process;
mod profile;
mod resources;
mod seccomp;
mod seccomp_default;
mod seccomp_file;
mod stored;
mod sysctls;
#[cfg(test)]
mod tests;
mod user;
mod view;

pub use base::cgroups_path;
pub use cdi::{CdiEdits, CdiName, Document as CdiDocument, wanted as cdi_wanted};
pub use classes::{BlockIoClasses, Class, ClassKind, class_of};
pub use container::{ContainerSpec, PreparedDevice, PreparedMount, container};
pub use error::SpecError;
pub use glob::matches as glob;
pub use labels::{Label, Labels};
pub use lsm::DEFAULT_APPARMOR_PROFILE;
pub use namespaces::UserNamespace;
pub use pause::{PauseSpec, pause};
pub use process::exec_process;
pub use resources::check_resources;
pub use seccomp::{pause_seccomp_path, seccomp_path};
pub use stored::StoredSpec;
pub use user::needs_passwd;
pub use view::{cgroups_path_of, mount_label_of, resources_of, user_of};

use crate::linux::caps::CapSet;
use crate::linux::cgroup::CgroupMode;

/// What the node is and allows, the same for every container.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    pub hostname: String,
    pub cgroup_mode: CgroupMode,
    /// Controllers present, by name (`memory`, `hugetlb`, …).
    pub controllers: Vec<String>,
    /// Whether memory+swap can be limited (v1 memsw file, v2 memory.swap.max).
    pub swap_controller: bool,
    /// Options of the host's cgroup2 mount that a mount without a cgroup namespace must repeat
    /// (`nsdelegate`, `memory_recursiveprot`).
    pub cgroup2_options: Vec<String>,
    pub kernel: (u32, u32),
    /// What a privileged container may have at most: containerd's own effective set.
    pub containerd_caps: CapSet,
    /// The lowest `oom_score_adj` that containerd may give.
    pub oom_score_floor: i32,
    pub apparmor: bool,
    pub selinux: bool,
    pub seccomp: bool,
    /// Whether containerd starts a container in the shim of the sandbox that its record names, without running the
    /// shim's program once more, and ends that shim with its last task (from 2.4 on); and whether its own CRI plugin keeps
    /// records of sandboxes in its store.
    pub knows_sandboxes: bool,
}

/// Which process' PID namespace a container joins (CRI NamespaceMode, resolved to pids).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    /// One of its own.
    Container,
    /// The pause's, or the target container's.
    Of(u32),
    /// The node's.
    Node,
}
