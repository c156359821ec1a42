//! Moves bytes from a task's FIFOs to its log (and, later, to whoever is attached).

use std::path::PathBuf;
use std::time::Duration;

use super::{Fifos, IoError};

/// Where a container's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A CRI log file; its folders are made (0755), the file appended to (0640).
    File { path: PathBuf, max_line: usize },
    /// Read and dropped: no log path was given.
    Discard,
}

/// The daemon's ends of one container's FIFOs, with the tasks that pump them. Dropping it ends the pumps and closes
/// the daemon's ends; the container is not touched.
#[derive(Debug)]
pub struct ContainerIo(());

impl ContainerIo {
    /// Opens the FIFOs (never blocking, no false end of file before the shim opens its side) and starts pumping.
    pub fn open(fifos: Fifos, log: LogTarget) -> Result<Self, IoError> {
        unimplemented!("{fifos:?} {log:?}")
    }

    /// The FIFOs, for the task request and for removal.
    pub fn fifos(&self) -> &Fifos {
        unimplemented!()
    }

    /// Opens the log path anew (after a rotation); every line is whole in the old file or in the new one.
    pub async fn reopen_log(&self) -> Result<(), IoError> {
        unimplemented!()
    }

    /// Waits until every writer closed its end and all is in the log, at most `limit` (a grandchild may hold the pipe
    /// for ever). `true`: all arrived.
    pub async fn drained(&self, limit: Duration) -> bool {
        unimplemented!("{limit:?}")
    }
}

/// What an exec wrote, each stream cut at a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Collects an exec's output in memory, at most `limit` bytes a stream; the rest is read and dropped.
#[derive(Debug)]
pub struct Capture(());

impl Capture {
    /// Opens the FIFOs and starts reading.
    pub fn open(fifos: Fifos, limit: usize) -> Result<Self, IoError> {
        unimplemented!("{fifos:?} {limit}")
    }

    /// Everything read once all writers closed, or what there is after `drain`.
    pub async fn finish(self, drain: Duration) -> Captured {
        unimplemented!("{drain:?}")
    }
}
