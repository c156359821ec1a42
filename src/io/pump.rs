//! Moves bytes from a task's FIFOs to its log, and to whoever is attached.
//!
//! All pumps share one thread with a runtime of its own: a write to a log blocks while the kernel flushes to a slow
//! disk, and that may hold up other logs, but never a request. It is also why a pump that is dropped and one opened on
//! the same FIFO never run at once, and why all can share one set of buffers.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::kept::{Keeper, STDIN};
use super::lines::{Format, Stream, Tail};
use super::listen::{Listener, Listeners};
use super::live::Inflow;
use super::log::{Fate, Log, LogTarget};
use super::source::{Found, LOOK, Mirror, Source, widen_fifo};
use super::{Fifos, IoError};
use crate::time::Timestamp;

/// Bytes of formatted lines after which a batch is written.
const BATCH: usize = 256 * 1024;
/// How often a log is tried that could not be written, or a pipe that could not be read.
const RETRY: Duration = Duration::from_millis(100);
/// How soon, and later how often, a pipe with an unfinished line is looked at. A writer that fills a pipe which is not
/// empty, and then blocks, wakes no reader (pipe_write in Linux' fs/pipe.c).
const RECHECK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// The daemon's ends of one container's FIFOs, with the tasks that pump them. Dropping it ends the pumps and closes
/// the daemon's ends; the container is not touched, and what is in its pipes is for the next who opens them.
#[derive(Debug)]
pub struct ContainerIo {
    fifos: Fifos,
    keeper: Keeper,
    log: Option<Arc<Log>>,
    /// Told once the task is over and no new writer will come.
    over: watch::Sender<bool>,
    running: TaskTracker,
    /// One for each stream; dropping them ends the pumps.
    pumps: Vec<AbortOnDropHandle<()>>,
    /// Held open, so that the container's standard input does not end while nobody is attached.
    stdin: Option<OwnedFd>,
    stdout: Arc<Listeners>,
    stderr: Arc<Listeners>,
}

impl ContainerIo {
    /// Opens the FIFOs (never blocking, no false end of file before the shim opens its side), or takes their ends from
    /// who has kept them, and starts pumping.
    ///
    /// # Errors
    /// A FIFO or the log cannot be opened; then nothing is read.
    pub fn open(fifos: Fifos, log: LogTarget, keeper: Keeper) -> Result<Self, IoError> {
        let (log, max_line) = match log {
            LogTarget::File { path, max_line } => (Some(Arc::new(Log::open(&path)?)), max_line.max(1)),
            LogTarget::Discard => (None, 1),
        };
        // For reading too: for writing alone, it would have to wait for the shim.
        let stdin = fifos.stdin.as_deref().map(|path| keeper.open(STDIN, path, OFlags::RDWR)).transpose()?;
        let stderr = if fifos.terminal { None } else { fifos.stderr.as_deref() };
        let (over, told_over) = watch::channel(false);
        let (to_stdout, to_stderr) = (Arc::<Listeners>::default(), Arc::<Listeners>::default());
        let streams =
            [(Stream::Stdout, fifos.stdout.as_deref(), &to_stdout), (Stream::Stderr, stderr, &to_stderr)];
        let mut pumps = Vec::new();
        let mut shared = None;
        for (stream, path, listeners) in streams {
            let Some(path) = path else {
                listeners.end();
                continue;
            };
            let (thread, bench) = log_thread().map_err(IoError::on("start the log thread for", path))?;
            let source = {
                let _context = thread.enter();
                Source::over(keeper.open(stream.name(), path, OFlags::RDONLY)?, path)?
            };
            let format = Format { stream, time: Timestamp::NEVER, max_line, max_batch: BATCH };
            let log = log.clone();
            let listeners = listeners.clone();
            let pump = Pump { source, log, format, unfinished: 0, listeners, told: 0, bench };
            pumps.push((pump, told_over.clone()));
            shared = Some(thread);
        }
        let running = TaskTracker::new();
        let spawn = |thread: &Handle| {
            let spawned = pumps.into_iter().map(|(pump, over)| running.spawn_on(pump.run(over), thread));
            spawned.map(AbortOnDropHandle::new).collect()
        };
        let pumps = shared.as_ref().map(spawn).unwrap_or_default();
        running.close();
        Ok(Self { fifos, keeper, log, over, running, pumps, stdin, stdout: to_stdout, stderr: to_stderr })
    }

    /// The FIFOs, for the task request and for removal.
    pub fn fifos(&self) -> &Fifos {
        &self.fifos
    }

    /// Listens to what comes from now on, on standard output and standard error.
    pub fn listen(&self) -> (Listener, Listener) {
        (self.stdout.join(), self.stderr.join())
    }

    /// Another end of the container's standard input; `None` if it has none, or none any more.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn stdin(&self) -> io::Result<Option<Inflow>> {
        self.stdin.as_ref().map(|fifo| Inflow::over(fifo.try_clone()?)).transpose()
    }

    /// Lets go of the container's standard input: it ends when all others do.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
        self.keeper.forget(STDIN);
    }

    /// Opens the log path anew (after a rotation); every line is whole in the old file or in the new one. The parts of
    /// a line beyond the limit may be in both.
    ///
    /// # Errors
    /// The path cannot be opened; the old file stays in use.
    pub async fn reopen_log(&self) -> Result<(), IoError> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        match tokio::task::spawn_blocking(move || log.reopen()).await {
            Ok(result) => result,
            // Only when the runtime is going down.
            Err(_) => Ok(()),
        }
    }

    /// Waits until every writer closed its end and all is in the log, at most `limit` (a grandchild may hold the pipe
    /// for ever). `true`: nothing is left to come. Called once the task has ended, or could not be started: a stream
    /// that never had a writer then counts as ended.
    pub async fn drained(&self, limit: Duration) -> bool {
        self.over.send_replace(true);
        timeout(limit, self.running.wait()).await.is_ok()
    }

    /// Ends the pumps between two batches, none of which is then logged twice, and has the pipes hold as much as they may
    /// until the next daemon reads.
    pub async fn leave(self) {
        for pump in self.pumps {
            pump.abort();
            // That it was is no news.
            let _ended = pump.await;
        }
        let outputs = [&self.fifos.stdout, &self.fifos.stderr];
        outputs.into_iter().flatten().for_each(|path| widen_fifo(path));
    }

    /// Bytes of output that are not in the log because it could not be written.
    pub fn dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.dropped())
    }
}

/// What one look works with. It is empty between looks.
#[derive(Debug)]
struct Bench {
    mirror: Mirror,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The thread of all pumps, started by the first.
fn log_thread() -> io::Result<(Handle, Arc<Mutex<Bench>>)> {
    static THREAD: Mutex<Option<(Handle, Arc<Mutex<Bench>>)>> = Mutex::new(None);
    let mut started = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(thread) = &*started {
        return Ok(thread.clone());
    }
    let bench = Bench { mirror: Mirror::new()?, input: vec![0; LOOK], output: Vec::with_capacity(LOOK) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = (runtime.handle().clone(), Arc::new(Mutex::new(bench)));
    thread::Builder::new().name("logs".into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(started.insert(thread).clone())
}

/// One stream on its way to the log.
#[derive(Debug)]
struct Pump {
    source: Source,
    log: Option<Arc<Log>>,
    format: Format,
    /// Bytes of an unfinished line that were seen, and left in the pipe.
    unfinished: usize,
    listeners: Arc<Listeners>,
    /// Bytes at the pipe's front that listeners were told of already.
    told: usize,
    bench: Arc<Mutex<Bench>>,
}

/// What a look at the pipe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Something was settled; there may be more.
    Moved,
    /// Nothing new.
    Quiet,
    /// The log takes nothing now.
    Held,
    /// The stream has ended, and all of it is settled.
    Ended,
}

impl Pump {
    async fn run(mut self, mut over: watch::Receiver<bool>) {
        let mut recheck = RECHECK.0;
        loop {
            let (unfinished, told) = (self.unfinished, *over.borrow_and_update());
            let look = self.look(told).unwrap_or_else(|error| {
                tracing::warn!(stream = self.format.stream.name(), %error, "container output cannot be read");
                Look::Held
            });
            recheck = if unfinished == self.unfinished { RECHECK.1.min(recheck * 2) } else { RECHECK.0 };
            match look {
                // Other containers' turn.
                Look::Moved => tokio::task::yield_now().await,
                Look::Held => sleep(RETRY).await,
                Look::Ended => return self.listeners.end(),
                Look::Quiet => tokio::select! {
                    () = self.source.ready() => {}
                    () = sleep(recheck), if self.unfinished > 0 => {}
                    Ok(()) = over.changed() => {}
                },
            }
        }
    }

    /// Looks at what the pipe holds, logs what can be logged of it, and takes that away.
    fn look(&mut self, over: bool) -> io::Result<Look> {
        // Asked first: what the last writer wrote before it closed is then in the look.
        let closed = self.source.hung_up()?;
        if !closed && self.unfinished > 0 && self.source.len()? == self.unfinished {
            return Ok(Look::Quiet);
        }
        self.unfinished = 0;
        let mut bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        let Bench { mirror, input, output } = &mut *bench;
        let (found, full) = match self.log {
            Some(_) => mirror.look(&self.source, input)?,
            None => (self.source.read(input)?, false),
        };
        let (count, log) = match (found, &self.log) {
            (Found::Bytes(count), Some(log)) => (count, log),
            (Found::Bytes(count), None) => {
                self.listeners.tell(&input[..count]);
                return Ok(Look::Moved);
            }
            (Found::NoWriter, _) if closed || over => return Ok(Look::Ended),
            (Found::NoWriter | Found::Empty, _) => return Ok(Look::Quiet),
        };
        // At once, and not by lines: a prompt has no end.
        self.listeners.tell(input.get(self.told..count).unwrap_or_default());
        self.told = self.told.max(count);
        output.clear();
        self.format.time = self.format.time.max(Timestamp::now());
        let tail = if closed && !full { Tail::Closed } else { Tail::Open };
        let mut settled = self.format.write(&input[..count], tail, output);
        if settled == 0 && full {
            // The pipe holds less than a line may have: the writer waits for room, so part of it must go.
            settled = self.format.write(&input[..count], Tail::Closed, output);
        }
        if settled == 0 {
            self.unfinished = count;
            return Ok(Look::Quiet);
        }
        match log.append(output, settled) {
            Fate::Held => Ok(Look::Held),
            Fate::Settled => {
                self.source.consume(settled, input)?;
                self.told = self.told.saturating_sub(settled);
                Ok(Look::Moved)
            }
        }
    }
}
