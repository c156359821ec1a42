//! The streams of a process that somebody talks with: bytes as they come, nothing logged.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Sender;
use tokio::time::sleep;

use super::IoError;
use super::source::{Found, Source, open_fifo, widen};
use crate::chunk::{CHUNK, Chunk};

/// How often a FIFO is tried that nobody reads yet. There is nothing that would tell.
const UNREAD: Duration = Duration::from_millis(2);

/// Bytes that a command's pipe holds: what whoever may widen pipes gets by default (pipe(7)).
const PIPE: usize = 1 << 20;
/// So many bytes at once come of who has more to say.
const MUCH: usize = 16 << 10;
/// How long the pipe may then fill, so that it is not each of the shim's writes that wakes us, and the client.
const FILLING: Duration = Duration::from_millis(1);

/// What a process writes to one of its streams.
#[derive(Debug)]
pub struct Outflow {
    source: Source,
    chunk: Chunk,
    /// Whether the pipe is left to fill before the next read.
    filling: bool,
}

impl Outflow {
    /// Opens the FIFO for reading, on the caller's runtime.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let source = Source::open(path)?;
        source.widen(PIPE);
        Ok(Self { source, chunk: Chunk::default(), filling: false })
    }

    /// The next bytes; `None` once all writers closed. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The FIFO cannot be read.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.filling {
            sleep(FILLING).await;
            self.filling = false;
        }
        // Asked before the last read: what a writer left behind is in the pipe.
        let mut closed = false;
        loop {
            let found = self.source.read_more(self.chunk.room())?;
            match found {
                Found::Bytes(count) => {
                    self.filling = (MUCH..CHUNK).contains(&count);
                    return Ok(Some(self.chunk.take()));
                }
                Found::NoWriter if closed => return Ok(None),
                Found::NoWriter | Found::Empty => {
                    closed = found == Found::NoWriter && self.source.hung_up()?;
                    if !closed {
                        self.source.ready().await;
                    }
                }
            }
        }
    }
}

/// What a process reads from its standard input. Dropping it closes this end.
#[derive(Debug)]
pub struct Inflow(Sender);

impl Inflow {
    /// Opens the FIFO of a command that was started, as soon as it has a reader: a shim opens its end in the background,
    /// and may still be about to when it says that the process runs.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub async fn open(path: &Path) -> Result<Self, IoError> {
        loop {
            match open_fifo(path, OFlags::WRONLY) {
                Err(error) if error.errno() == Some(Errno::NXIO) => sleep(UNREAD).await,
                fifo => {
                    let fifo = fifo?;
                    widen(&fifo, PIPE);
                    return Self::over(fifo).map_err(IoError::on("write to FIFO", path));
                }
            }
        }
    }

    pub(super) fn over(fifo: OwnedFd) -> io::Result<Self> {
        Sender::from_owned_fd(fifo).map(Self)
    }

    /// Writes all of it, as the process reads.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}
