//! A container's log file: appended to in whole batches, swapped between them.
//!
//! Policy for a log that cannot be written (disk full, quota, I/O error): the batch stays in the pipe and is tried again
//! for [`HOLD`], so that a rotation or a clean-up loses nothing; after that, output is dropped and counted, each batch
//! being tried once, until one is written. Every change between these states is logged once.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::IoError;
use crate::meter::Counter;

/// How long a container may wait for its log: several times what a log rotation or the kubelet's eviction of a dead
/// container takes to free some space, and short enough for most liveness probes.
pub const HOLD: Duration = Duration::from_secs(5);

/// Bytes of containers' output that went to their logs, and those that could not, over all.
pub static WRITTEN_BYTES: Counter = Counter::new();
pub static DROPPED_BYTES: Counter = Counter::new();

/// Where a container's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A CRI log file; its folders are made (0755), the file appended to (0640).
    File { path: PathBuf, max_line: usize },
    /// Read and dropped: no log path was given.
    Discard,
}

/// An open log file, shared by a container's two streams.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    state: Mutex<State>,
    /// Bytes of output, of all time, that are not in the log. Not in the state, which may be locked while a disk is slow.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Nothing was appended since it was opened. Only then is its end looked at: until then, an earlier pump of this
    /// process may be at work on the same file.
    fresh: bool,
    failing: Option<Failing>,
}

/// The log could not be written when last tried.
#[derive(Debug)]
struct Failing {
    since: Instant,
    dropped: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In the file, or dropped and counted: the pipe can be emptied of it.
    Settled,
    /// Nothing of it is in the file: it is to be tried again.
    Held,
}

impl Log {
    /// # Errors
    /// A folder or the file cannot be made or opened.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let state = Mutex::new(State { file: open(path)?, fresh: true, failing: None });
        Ok(Self { path: path.to_owned(), state, dropped: AtomicU64::new(0) })
    }

    /// Opens the path anew. On error the old file stays in use.
    pub fn reopen(&self) -> Result<(), IoError> {
        let fresh = open(&self.path)?;
        let old = {
            let mut state = self.state();
            state.fresh = true;
            std::mem::replace(&mut state.file, fresh)
        };
        // Closing may wait for the disk, so not under the lock.
        drop(old);
        Ok(())
    }

    /// Appends the batch whole, or nothing of it. `source_bytes`: how much of the container's output is in it.
    pub fn append(&self, batch: &[u8], source_bytes: usize) -> Fate {
        let bytes = u64::try_from(source_bytes).unwrap_or(u64::MAX);
        let mut state = self.state();
        match state.write(batch) {
            Ok(()) => {
                WRITTEN_BYTES.add(bytes);
                if let Some(failing) = state.failing.take() {
                    let (log, dropped) = (self.path.display(), failing.dropped);
                    tracing::warn!(%log, dropped, "container log is written again");
                }
                Fate::Settled
            }
            Err(error) if state.waits(&self.path, &error) => Fate::Held,
            Err(error) => {
                state.drops(&self.path, &error, bytes);
                self.dropped.fetch_add(bytes, Ordering::Relaxed);
                DROPPED_BYTES.add(bytes);
                Fate::Settled
            }
        }
    }

    /// Bytes of output that could not be written, of all time.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A panic between two batches leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.fresh {
            end_torn_line(&self.file)?;
            self.fresh = false;
        }
        write_whole(&self.file, batch)
    }

    /// Whether the batch that could not be written is to be tried again.
    fn waits(&mut self, log: &Path, error: &io::Error) -> bool {
        let failing = self.failing.get_or_insert_with(|| {
            tracing::warn!(log = %log.display(), %error, "container log cannot be written, its output waits");
            Failing { since: Instant::now(), dropped: 0 }
        });
        failing.since.elapsed() < HOLD
    }

    fn drops(&mut self, log: &Path, error: &io::Error, bytes: u64) {
        let Some(failing) = &mut self.failing else { return };
        if failing.dropped == 0 {
            tracing::error!(log = %log.display(), %error, "container log cannot be written, its output is dropped");
        }
        failing.dropped += bytes;
    }
}

fn open(path: &Path) -> Result<File, IoError> {
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(IoError::on("create", folder))?;
    }
    // Should it be a FIFO that nobody reads: an error, not a wait for ever.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags of open(2) are an int");
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640).custom_flags(flags);
    options.open(path).map_err(IoError::on("open log", path))
}

/// A daemon killed during a write leaves a line without end, which the next would continue.
fn end_torn_line(mut file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let mut last = [b'\n'];
    if found.is_file() && found.len() > 0 {
        file.read_exact_at(&mut last, found.len() - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Takes back what was written of a batch that does not fit, so that it can be tried again from its beginning.
fn write_whole(mut file: &File, batch: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < batch.len() {
        match file.write(&batch[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if written > 0 {
                    let length = file.metadata()?.len();
                    file.set_len(length.saturating_sub(written as u64))?;
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folders_and_file_are_made_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/app/0.log");
        let log = Log::open(&path).unwrap();
        assert_eq!(log.append(b"line\n", 4), Fate::Settled);
        assert_eq!(fs::read(&path).unwrap(), b"line\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_torn_line_is_ended_and_a_whole_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "whole\ntor").unwrap();
        for _ in 0..2 {
            assert_eq!(Log::open(&path).unwrap().append(b"next\n", 4), Fate::Settled);
        }
        assert_eq!(fs::read(&path).unwrap(), b"whole\ntor\nnext\nnext\n");
    }

    #[test]
    fn output_waits_first_and_is_then_dropped_and_counted() {
        let log = Log::open(Path::new("/dev/full")).unwrap();
        assert_eq!(log.append(b"line\n", 4), Fate::Held);
        assert_eq!(log.dropped(), 0);
        log.state().failing.as_mut().unwrap().since -= HOLD;
        assert_eq!(log.append(b"line\n", 4), Fate::Settled);
        assert_eq!(log.append(b"line\n", 4), Fate::Settled);
        assert_eq!(log.dropped(), 8);

        log.state().file = tempfile::tempfile().unwrap();
        assert_eq!(log.append(b"line\n", 4), Fate::Settled);
        assert!(log.state().failing.is_none());
        assert_eq!(log.dropped(), 8);
    }

    #[test]
    fn a_log_that_cannot_be_reopened_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = Log::open(&path).unwrap();
        let moved = dir.path().join("0.log.1");
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(log.reopen().is_err());
        assert_eq!(log.append(b"line\n", 4), Fate::Settled);
        assert_eq!(fs::read(&moved).unwrap(), b"line\n");
    }
}
