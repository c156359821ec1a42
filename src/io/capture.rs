//! Collects what an exec writes, for ExecSync.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::source::{Found, Source};
use super::{Fifos, IoError};

/// Bytes of one read: execs are many and short, and most say little.
const READ: usize = 16 * 1024;

/// What an exec wrote, each stream cut at a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Collects an exec's output in memory, at most `limit` bytes a stream; the rest is read and dropped.
#[derive(Debug)]
pub struct Capture {
    stdout: Kept,
    stderr: Kept,
    over: watch::Sender<bool>,
    running: TaskTracker,
    /// Dropping them ends the readers and closes the FIFOs.
    _readers: Vec<AbortOnDropHandle<()>>,
}

/// What was read of a stream so far.
type Kept = Arc<Mutex<Vec<u8>>>;

impl Capture {
    /// Opens the FIFOs and starts reading, on the caller's runtime.
    ///
    /// # Errors
    /// A FIFO cannot be opened.
    pub fn open(fifos: Fifos, limit: usize) -> Result<Self, IoError> {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let (over, told_over) = watch::channel(false);
        let stderr_path = if fifos.terminal { None } else { fifos.stderr };
        let mut sources = Vec::new();
        for (path, kept) in [(fifos.stdout, &stdout), (stderr_path, &stderr)] {
            if let Some(path) = path {
                sources.push((Source::open(&path)?, kept.clone()));
            }
        }
        let running = TaskTracker::new();
        let readers = sources
            .into_iter()
            .map(|(source, kept)| running.spawn(read(source, kept, limit, told_over.clone())))
            .map(AbortOnDropHandle::new)
            .collect();
        running.close();
        Ok(Self { stdout, stderr, over, running, _readers: readers })
    }

    /// Everything read once all writers closed, or what there is after `drain`. Called once the exec has ended, or
    /// could not be started.
    pub async fn finish(self, drain: Duration) -> Captured {
        self.over.send_replace(true);
        // Late or not, the answer is what was read: a grandchild may hold the pipe for ever.
        let _late = timeout(drain, self.running.wait()).await;
        Captured {
            stdout: std::mem::take(&mut *open(&self.stdout)),
            stderr: std::mem::take(&mut *open(&self.stderr)),
        }
    }
}

fn open(kept: &Kept) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(kept: &Kept, bytes: &[u8], limit: usize) {
    let mut kept = open(kept);
    let room = limit.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

async fn read(source: Source, kept: Kept, limit: usize, mut over: watch::Receiver<bool>) {
    let mut buffer = vec![0; READ];
    loop {
        let told = *over.borrow_and_update();
        let found = source.hung_up().and_then(|closed| Ok((closed, source.read(&mut buffer)?)));
        match found {
            Ok((_, Found::Bytes(count))) => {
                keep(&kept, &buffer[..count], limit);
                tokio::task::yield_now().await;
            }
            Ok((closed, Found::NoWriter)) if closed || told => return,
            Ok(_) => tokio::select! {
                () = source.ready() => {}
                Ok(()) = over.changed() => {}
            },
            Err(error) => {
                tracing::warn!(%error, "exec output cannot be read");
                return;
            }
        }
    }
}
