//! What pods and containers use, read straight from the kernel's files. Only of what runs in a kernel of its own a shim
//! is asked.
//!
//! ```text
//! measure.rs   one pass over the containers or pods of a call, off the async threads
//! cgroup.rs    what a cgroup uses        detail.rs   what only metrics show
//! network.rs   a pod's interfaces        disk.rs     devices and filesystems by name
//! foreign.rs   containers in virtual machines
//! rate.rs      CPU time per second       parse.rs    the files' formats, pure
//! metric.rs    the names and labels of metrics       metrics.rs   the figures under them
//! ```
//!
//! Invariant: a figure was read, or it is not there.

mod cgroup;
mod detail;
mod disk;
mod foreign;
#[cfg(test)]
mod fuzz;
mod measure;
mod metric;
mod metrics;
mod network;
mod parse;
mod rate;

pub use cgroup::{Memory, Swap, Usage};
pub use measure::{ContainerStats, PodStats, Stats, StatsError};
pub use metric::descriptors;
pub use network::Network;
pub use parse::{Interface, Pressure, Stall, Traffic};
