//! containerd's API, as far as 1.6 has it, in this program's own words. The only place that names its protobuf.
//!
//! Every call has a deadline; a call that meets a vanished containerd fails with [`Kind::Unavailable`] at once.
//!
//! [`Kind::Unavailable`]: crate::error::Kind::Unavailable

mod call;
mod checkpoint;
mod client;
mod containers;
mod content;
mod convert;
mod diff;
mod error;
mod events;
mod images;
mod ingest;
mod introspection;
mod leases;
mod runtime;
mod sandboxes;
mod shims;
mod snapshots;
mod tasks;
mod usage;

pub use call::{CallKind, answers};
pub use client::Containerd;
pub use containers::ContainerRecord;
pub use content::{ContentInfo, IngestStatus};
pub use diff::PLAIN_LAYER;
pub use error::ContainerdError;
pub use events::{Event, EventStream};
pub use images::{Collect, Descriptor, ImageRecord};
pub use ingest::ContentWriter;
pub use introspection::{Plugin, ServerInfo, Version};
pub use leases::LeaseInfo;
pub use runtime::RuntimeSelection;
pub use shims::Shim;
pub use snapshots::{SnapshotInfo, SnapshotKind, SnapshotMount, SnapshotUsage};
pub use tasks::{All, ExecProcess, Exit, NewTask, StdioPaths, TaskInfo, TaskState};
pub use usage::{TaskMemory, TaskSwap, TaskUsage};

/// A value with its type's name, as containerd's records carry them (`google.protobuf.Any`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedBlob {
    pub type_url: String,
    pub value: Vec<u8>,
}

/// Type URL of an OCI runtime spec in JSON.
pub const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// Type URL of an OCI process in JSON.
pub const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// Type URL of OCI resources in JSON.
pub const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
