//! The streams of a process that somebody talks with: bytes as they come, nothing logged.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Sender;
use tokio::time::sleep;

use super::IoError;
use super::source::{Found, hung_up, open_fifo, read_more, widen};
use crate::chunk::{CHUNK, Chunk};
use crate::linux::wait::{Timer, readable};

/// How often a FIFO is tried that nobody reads yet. There is nothing that would tell.
const UNREAD: Duration = Duration::from_millis(2);

/// Bytes that a command's pipe holds: what whoever may widen pipes gets by default (pipe(7)).
const PIPE: usize = 1 << 20;
/// So many bytes at once come of who has more to say.
const MUCH: usize = 16 << 10;
/// How long the pipe may then fill, at least and at most, so that it is not each of the shim's writes that is passed on
/// by itself.
const FILLING: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(2);
/// Bytes that should come together in that time: more, and the writer may have to wait; less, and the client is woken
/// for little.
const GATHERED: Range<usize> = PIPE / 4..PIPE / 2;

/// What a process writes to one of its streams.
#[derive(Debug)]
pub struct Outflow {
    fifo: OwnedFd,
    chunk: Chunk,
    /// Whether the pipe is left to fill before the next read.
    fills: bool,
    /// For how long.
    filling: Duration,
    /// Bytes read since it was last left to.
    gathered: usize,
    /// Made when it first is.
    timer: Option<Timer>,
}

impl Outflow {
    /// Opens the FIFO for reading.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let fifo = open_fifo(path, OFlags::RDONLY)?;
        widen(&fifo, PIPE);
        let filling = *FILLING.start();
        Ok(Self { fifo, chunk: Chunk::default(), fills: false, filling, gathered: 0, timer: None })
    }

    /// The next bytes; `None` once all writers closed. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The FIFO cannot be read.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.fills {
            self.fill().await;
        }
        // Asked before the last read: what a writer left behind is in the pipe.
        let mut closed = false;
        loop {
            let found = read_more(&self.fifo, self.chunk.room())?;
            match found {
                Found::Bytes(count) => {
                    self.gathered += count;
                    self.fills = (MUCH..CHUNK).contains(&count);
                    return Ok(Some(self.chunk.take()));
                }
                Found::NoWriter if closed => return Ok(None),
                Found::NoWriter | Found::Empty => {
                    closed = found == Found::NoWriter && hung_up(&self.fifo)?;
                    if !closed {
                        readable(self.fifo.as_fd()).await?;
                    }
                }
            }
        }
    }

    /// Lets the pipe fill for a while, at whatever pace it does. For want of a descriptor to wait with, it is read at
    /// once.
    async fn fill(&mut self) {
        self.filling = next_filling(self.filling, self.gathered);
        if self.timer.is_none() {
            self.timer = Timer::new().ok();
        }
        if let Some(timer) = &self.timer {
            let _woken = timer.sleep(self.filling).await;
        }
        (self.fills, self.gathered) = (false, 0);
    }
}

/// How long a pipe may fill that has filled for so long, and had so many bytes then.
fn next_filling(filling: Duration, gathered: usize) -> Duration {
    match gathered {
        few if few < GATHERED.start => (filling * 2).min(*FILLING.end()),
        many if many >= GATHERED.end => (filling / 2).max(*FILLING.start()),
        _ => filling,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_fills_for_as_long_as_its_pace_wants() {
        // Bytes in a microsecond, and how long it then fills in the end.
        for (pace, least, most) in [(10, 2000, 2000), (300, 850, 1750), (1200, 200, 450), (20_000, 100, 100)]
        {
            let mut filling = *FILLING.start();
            for _ in 0..10 {
                filling = next_filling(filling, (filling.as_micros() as usize * pace).min(PIPE));
            }
            let range = Duration::from_micros(least)..=Duration::from_micros(most);
            assert!(range.contains(&filling), "{pace} bytes/us: {filling:?}");
        }
    }
}
