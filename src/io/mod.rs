//! A container's standard streams: FIFOs between shim and daemon, and the CRI log that is pumped out of them.
//!
//! Invariant: what the pipe accepted is in the log, whole and in order; a log that cannot be written never blocks
//! the container, and what is dropped then is counted and said.

mod error;
mod fifo;
mod pump;

pub use error::IoError;
pub use fifo::{Fifos, Stdin};
pub use pump::{Capture, Captured, ContainerIo, LogTarget};
