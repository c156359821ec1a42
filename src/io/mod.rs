//! A container's standard streams: FIFOs between shim and daemon, and the CRI log that is pumped out of them.
//!
//! Invariant: what the pipe accepted is in the log, whole and in order; a log that cannot be written never blocks
//! the container, and what is dropped then is counted and said.
//!
//! A pipe cannot be read without emptying it, so its bytes are first duplicated (tee(2)), written to the log, and only
//! then read away. An unfinished line stays in the pipe. The daemon may thus end at any instant and lose nothing: what
//! it had not logged is where it was, as the shim holds both ends of the FIFOs. Once the container has ended the shim
//! lets go: whoever keeps the daemon's ends ([`Keeper`]) is then the only one who does.

mod capture;
mod error;
mod fifo;
mod kept;
mod lines;
mod listen;
mod live;
mod log;
mod pump;
mod source;

pub use capture::{Capture, Captured};
pub use error::IoError;
pub use fifo::{Fifos, Stdin};
pub use kept::Keeper;
pub use listen::Listener;
pub use live::{Inflow, Outflow};
pub use log::{DROPPED_BYTES, LogTarget, WRITTEN_BYTES};
pub use pump::ContainerIo;

#[cfg(test)]
mod tests;
