//! The daemon's reading end of a FIFO, whose bytes can be looked at before they are taken.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

use super::IoError;

/// Bytes of one look: what a pipe holds by default (pipe(7)).
pub const LOOK: usize = 64 * 1024;

/// How often a FIFO is read whose writers had all gone before another came: shims do not do that.
const RETURNED: Duration = Duration::from_millis(10);

/// A FIFO opened for reading.
///
/// A reader that comes before the first writer reads "end of file" (0 bytes), yet poll(2) reports no hang-up until a
/// writer has come and gone. So it is the hang-up that counts as the end, and a read of 0 bytes does not.
#[derive(Debug)]
pub struct Source(Receiver);

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Bytes(usize),
    /// Nothing yet.
    Empty,
    /// Nothing, and nobody has it open for writing: the end, or a writer has yet to come.
    NoWriter,
}

impl Source {
    /// Opens without waiting for a writer. Must be called in the context of the runtime that will wait for it.
    ///
    /// # Errors
    /// The path is missing or no FIFO.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        Self::over(open_fifo(path, OFlags::RDONLY)?, path)
    }

    /// Over an end that is open for reading; else as [`Self::open`].
    ///
    /// # Errors
    /// It is none.
    pub fn over(end: OwnedFd, path: &Path) -> Result<Self, IoError> {
        Receiver::from_owned_fd(end).map(Self).map_err(IoError::on("watch FIFO", path))
    }

    /// Waits until there may be something new. Cancel-safe.
    pub async fn ready(&self) {
        // It fails only when the runtime is going down, and with it the caller.
        let Ok(ready) = self.0.ready(Interest::READABLE).await else { return std::future::pending().await };
        // Cleared before the look, so that what comes during it wakes again.
        let _cleared = self.0.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        // A hang-up stays noted, even where another writer came after it.
        if ready.is_read_closed() && self.hung_up().is_ok_and(|closed| !closed) {
            sleep(RETURNED).await;
        }
    }

    /// As [`hung_up`].
    pub fn hung_up(&self) -> io::Result<bool> {
        hung_up(&self.0)
    }

    /// How many bytes the pipe holds.
    pub fn len(&self) -> io::Result<usize> {
        let held = rustix::io::ioctl_fionread(&self.0)?;
        Ok(usize::try_from(held).unwrap_or(usize::MAX))
    }

    /// Takes what is there, at most the buffer's length.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Found> {
        found(retry_on_intr(|| rustix::io::read(&self.0, &mut *buffer)))
    }

    /// Takes `count` bytes that were looked at; `buffer` is overwritten.
    pub fn consume(&self, mut count: usize, buffer: &mut [u8]) -> io::Result<()> {
        while count > 0 {
            let most = count.min(buffer.len());
            match self.read(&mut buffer[..most])? {
                Found::Bytes(taken) => count -= taken,
                Found::Empty | Found::NoWriter => {
                    return Err(io::Error::other("another process reads from this FIFO"));
                }
            }
        }
        Ok(())
    }
}

/// Opens a FIFO without waiting for the other end; whatever else is at the path is refused, for it may come from
/// somebody else's record.
pub fn open_fifo(path: &Path, access: OFlags) -> Result<OwnedFd, IoError> {
    let open = || {
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Fifo => Ok(fd),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO")),
        }
    };
    open().map_err(IoError::on("open FIFO", path))
}

/// Whether all writers that there were have closed. What they wrote is in the pipe.
pub fn hung_up(end: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&end, PollFlags::IN)];
    retry_on_intr(|| rustix::event::poll(&mut polled, Some(&Timespec::default())))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// Takes what is there and fits behind what the buffer has.
pub fn read_more(end: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Found> {
    found(retry_on_intr(|| rustix::io::read(&end, rustix::buffer::spare_capacity(&mut *buffer))))
}

/// Makes the pipe hold that much, so that neither side waits for the other as often. Best effort: whoever is not root
/// may have reached a limit.
pub fn widen(end: impl AsFd, bytes: usize) {
    let _ = rustix::pipe::fcntl_setpipe_size(end, bytes);
}

/// Makes the pipe at this path hold as much as the system lets it (pipe(7), `pipe-max-size`). Best effort, as with
/// [`widen`].
pub fn widen_fifo(path: &Path) {
    let most = fs::read_to_string("/proc/sys/fs/pipe-max-size");
    let most = most.ok().and_then(|most| most.trim().parse().ok());
    if let (Ok(end), Some(most)) = (open_fifo(path, OFlags::RDONLY), most) {
        widen(&end, most);
    }
}

fn found(result: Result<usize, Errno>) -> io::Result<Found> {
    match result {
        Ok(0) => Ok(Found::NoWriter),
        Ok(count) => Ok(Found::Bytes(count)),
        Err(Errno::AGAIN) => Ok(Found::Empty),
        Err(errno) => Err(errno.into()),
    }
}

/// A pipe to duplicate others into; empty between looks.
#[derive(Debug)]
pub struct Mirror {
    read: OwnedFd,
    write: OwnedFd,
}

impl Mirror {
    /// # Errors
    /// No more file descriptors.
    pub fn new() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// Copies what the source holds, from its beginning, and leaves it there. `true`: it may hold more than that, or no
    /// more fits into it.
    pub fn look(&mut self, source: &Source, buffer: &mut [u8]) -> io::Result<(Found, bool)> {
        let (from, to) = (source.0.as_fd(), self.write.as_fd());
        let teed = retry_on_intr(|| rustix::pipe::tee(from, to, buffer.len(), SpliceFlags::NONBLOCK));
        let Found::Bytes(count) = found(teed)? else { return Ok((found(teed)?, false)) };
        let result = self.drain(&mut buffer[..count]);
        if result.is_err() {
            // One container's bytes must not turn up in another's log.
            *self = Self::new()?;
        }
        result.map(|full| (Found::Bytes(count), full))
    }

    fn drain(&self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.write, PollFlags::OUT)];
        retry_on_intr(|| rustix::event::poll(&mut polled, Some(&Timespec::default())))?;
        let full = !polled[0].revents().contains(PollFlags::OUT);
        let mut filled = 0;
        while filled < buffer.len() {
            filled += retry_on_intr(|| rustix::io::read(&self.read, &mut buffer[filled..]))?;
        }
        Ok(full)
    }
}
