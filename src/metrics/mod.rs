//! Figures on the daemon and on what it does, for Prometheus.
//!
//! ```text
//! family.rs   every figure there is, with its name, labels and meaning: docs/metrics.md
//! gather.rs   what they are just now
//! process.rs  those of the process
//! page.rs     Prometheus' text format
//! serve.rs    where they are told
//! ```
//!
//! What is counted lies with whoever counts it, in plain numbers (`meter`); only this folder knows how it is called.
//! Invariant: no figure names a pod, container or image, so that their number does not grow with what the node does.

mod family;
mod gather;
mod page;
mod process;
mod serve;

pub use gather::Sources;
pub use serve::{Listener, MetricsError, bind, serve};
