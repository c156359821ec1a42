//! Pod networks: calls CNI plugins as libcni would, and keeps their results where libcni keeps them.
//!
//! CNI in short: a *network* is a list of plugins in a file. To attach a container, each plugin is run in order with
//! its part of the file on stdin, the command in its environment and the result so far as `prevResult`; what the last
//! one prints is the network's result. To detach, they are run in reverse with the result of then.
//!
//! Knows nothing of pods beyond the names that CNI_ARGS carries. Invariants: whatever may have been attached has a
//! cache file, written before the first plugin runs; every plugin process of a pod holds the pod's lock.

mod bandwidth;
mod cache;
mod capability;
mod chain;
mod conflist;
mod error;
mod folder;
#[cfg(test)]
mod fuzz;
mod generate;
mod plugin;
mod pod;
mod pod_lock;
mod pod_result;
mod result;
mod template;
mod traces;
mod version;
mod watch;

pub use bandwidth::Bandwidth;
pub use capability::{PodNetwork, PortMapping};
pub use error::{Call, NetworkError, PluginSaid};
pub use generate::load_template;
pub use pod::{Attachment, Networks};
pub use template::PodCidrs;
pub use traces::{Trace, TraceKind};
