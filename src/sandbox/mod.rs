//! The pause sandbox: a pod's namespaces, network and shared files, and the process that holds them.
//!
//! ```text
//! run.rs       check · name · record · netns · (CNI ADD beside task create) · start
//! teardown.rs  the one way down, idempotent: a failed run, a stop, a removal and recovery all take it
//! store.rs     what is known of every sandbox, by id
//! update.rs    a pod's resources, remembered
//! state.rs     what may follow what
//! changes.rs   what happens, told as it happens
//! rootfs.rs    snapshots as a pod in a user namespace must see them
//! selinux.rs   labels, and levels that no other pod has
//! dial.rs      a port of the pod, from inside its network
//! ```
//!
//! Invariant: the record in containerd comes before, and goes after, all else that a sandbox owns.

mod changes;
mod check;
mod dial;
mod error;
mod features;
mod files;
mod handler;
mod image_volumes;
mod node;
mod pause;
mod pod_network;
mod rootfs;
mod run;
mod selinux;
mod state;
mod store;
mod teardown;
mod update;

pub use changes::{Change, Changes, Happening};
pub use error::SandboxError;
pub use handler::{Handler, HandlerError, Handlers};
pub use node::load_facts;
pub use rootfs::{Rootfs, give_to_root};
pub use selinux::{HeldLevel, Labels, SeLinux};
pub use state::SandboxState;
pub use store::{NetworkHold, Sandbox, SandboxFacts, Sandboxes};
pub(crate) use teardown::{delete_task, end_task, gone_is_fine};
