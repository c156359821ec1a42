//! What was seen on a node, as plain data.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::containerd::Shim;
use crate::id::{LeaseId, SnapshotKey};
use crate::linux::cgroup_names::NamedCgroup;
use crate::network::Trace;

/// All that was looked at: things first, and then who may own them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub shims: Vec<ShimSeen>,
    pub cgroups: Vec<NamedCgroup>,
    /// Results of CNI, and addresses that host-local holds.
    pub traces: Vec<TraceSeen>,
    pub pins: Vec<Pin>,
    pub mounts: Vec<Mount>,
    pub folders: Vec<Folder>,
    pub snapshots: Vec<Snapshot>,
    pub leases: Vec<LeaseId>,
    /// Ids in the sandbox store.
    pub sandboxes: Vec<String>,
    pub tasks: Vec<Task>,
    /// Of every namespace of this containerd.
    pub records: Vec<Record>,
    pub making: Making,
}

/// A shim of any containerd.
#[derive(Clone, Debug, PartialEq)]
pub struct ShimSeen {
    pub shim: Shim,
    /// Whether our containerd started it in our namespace.
    pub ours: bool,
    /// Whether any process is below it.
    pub has_children: bool,
}

/// A trace of an attachment.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSeen {
    pub trace: Trace,
    /// Whether the network namespace that it tells of stands.
    pub has_netns: bool,
}

/// A network namespace's file, named as containerd's CRI and cridge name them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pin {
    pub path: PathBuf,
    /// A process in the namespace.
    pub process: Option<u32>,
}

/// A mount in a place that is named by an id.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub path: PathBuf,
    pub id: String,
}

/// A folder of a pod or container below root or state.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    pub path: PathBuf,
    pub id: String,
    /// A checkpoint is unpacked in it: the one thing that comes before its record.
    pub restoring: bool,
}

/// A snapshot that is no image's layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub snapshotter: String,
    pub key: SnapshotKey,
    /// The container or pod that it is named after.
    pub id: String,
}

/// A task of our namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: String,
    pub pid: u32,
    /// Whose child its process is; `None` where that is gone.
    pub parent: Option<u32>,
}

/// Who may own things: a container record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: String,
    /// Whether it is of our namespace.
    pub ours: bool,
    pub role: Role,
    /// As the CRI's objects are told apart; empty where it has none.
    pub name: String,
    pub snapshot: SnapshotKey,
    /// Names of the network namespaces' files that it is about.
    pub pins: Vec<String>,
}

/// What a record stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    Pod,
    Container {
        /// `None` where the metadata cannot be read.
        pod: Option<String>,
    },
    /// Not of a CRI: of `ctr` or nerdctl.
    Other,
}

/// What may be without a record or a task because somebody is at work on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Making {
    /// No daemon serves.
    #[default]
    Nothing,
    /// These ids are known to be in a daemon's hands.
    These(HashSet<String>),
    /// A daemon serves, and this is not it.
    Unknown,
}

impl Making {
    /// Whether this id is in somebody's hands for sure.
    pub fn holds(&self, id: &str) -> bool {
        matches!(self, Self::These(ids) if ids.contains(id))
    }
}
