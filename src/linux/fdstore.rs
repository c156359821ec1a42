//! The service manager's store of file descriptors: it holds what it is given over any end of this process, by SIGKILL
//! too, and hands it to the next (sd_notify(3), "FDSTORE=1"; sd_listen_fds(3)).
//!
//! Messages go out in order by a task of their own: a manager that is busy holds up nobody.
//! Invariant: no more is in the store than the next process can be started with.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Where the first descriptor is (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// What a descriptor is called that was given no name.
const UNNAMED: &str = "unknown";
/// The names reach the next process in one variable of its environment. The kernel starts no program with one of more
/// than 128 KiB (execve(2)); some is left for other descriptors of the unit.
const NAMES: usize = 120 << 10;
/// Messages that may wait for the manager; what comes then is not sent.
const WAITING: usize = 4096;
/// How long the manager may take no message, as while it reads its units anew.
const BUSY: Duration = Duration::from_secs(60);

/// What the manager handed to this process, by their names.
#[derive(Debug, Default)]
pub struct Inherited(BTreeMap<String, Vec<OwnedFd>>);

impl Inherited {
    /// Takes the descriptors, and out of the environment what tells of them, so that no child is told too. Call once,
    /// before there is a second thread.
    pub fn take() -> Self {
        let told = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(|name| {
            let value = env::var(name).ok();
            #[expect(clippy::disallowed_methods, reason = "there is no other thread yet")]
            // SAFETY: there is no other thread yet.
            unsafe {
                env::remove_var(name);
            }
            value
        });
        let [pid, count, names] = told.each_ref().map(Option::as_deref);
        let mut found = Self::default();
        for (number, name) in handed_over(std::process::id(), pid, count, names) {
            // SAFETY: of a number that is not open, it says so.
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
                break;
            }
            // SAFETY: it is open, was opened for this process, and nobody else here knows of it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            found.0.entry(name).or_default().push(descriptor);
        }
        found
    }
}

/// The numbers and names of what was handed to process `own`, from the three variables.
fn handed_over<'a>(
    own: u32,
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&'a str>,
) -> impl Iterator<Item = (RawFd, String)> + use<'a> {
    let ours = pid.is_some_and(|pid| pid.parse() == Ok(own));
    let count = if ours { count.and_then(|count| count.parse().ok()).unwrap_or(0) } else { 0 };
    let names = names.into_iter().flat_map(|names| names.split(':')).chain(std::iter::repeat(UNNAMED));
    (FIRST..RawFd::MAX).zip(names).take(count).map(|(number, name)| (number, name.to_owned()))
}

/// A handle on the store, cheap to clone. Without a manager that has one, it keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct FdStore(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// How many descriptors the manager takes, where it says so.
    most: usize,
    state: Mutex<State>,
    messages: mpsc::Sender<Message>,
}

#[derive(Debug)]
struct State {
    /// Handed over, and not asked for yet.
    inherited: BTreeMap<String, Vec<OwnedFd>>,
    /// What the store holds.
    names: BTreeSet<String>,
    /// It was told once that no more fit.
    full: bool,
}

#[derive(Debug)]
enum Message {
    Keep(String, OwnedFd),
    Forget(String),
    /// All before it were sent.
    Flushed(oneshot::Sender<()>),
}

impl FdStore {
    /// The store of the manager that has started this process, on the caller's runtime.
    pub fn of_manager(inherited: Inherited) -> Self {
        let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        // Told from systemd 254 on.
        let most = env::var("FDSTORE").ok().and_then(|most| most.parse().ok());
        Self::behind(socket.into(), inherited, most.unwrap_or(usize::MAX))
    }

    fn behind(socket: PathBuf, inherited: Inherited, most: usize) -> Self {
        let (messages, waiting) = mpsc::channel(WAITING);
        tokio::spawn(send_all(socket, waiting));
        let inherited = inherited.0;
        let names = inherited.keys().cloned().collect();
        let state = Mutex::new(State { inherited, names, full: false });
        Self(Some(Arc::new(Inner { most, state, messages })))
    }

    /// What the process before has kept under this name. The store holds it on.
    pub fn take(&self, name: &str) -> Vec<OwnedFd> {
        self.0.as_ref().and_then(|inner| inner.state().inherited.remove(name)).unwrap_or_default()
    }

    /// Where that is, for a file.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let state = self.0.as_ref()?.state();
        let number = state.inherited.get(name)?.first()?.as_raw_fd();
        std::fs::read_link(format!("/proc/self/fd/{number}")).ok()
    }

    /// The names of what the process before has kept and nobody has taken.
    pub fn untaken(&self) -> Vec<String> {
        self.0.as_ref().map(|inner| inner.state().inherited.keys().cloned().collect()).unwrap_or_default()
    }

    /// Has the store hold the descriptor, in place of what it holds under this name: at most 255 bytes of ASCII, without
    /// a colon. Nobody is told of a store that takes no more, but the log.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        let Some(inner) = &self.0 else { return };
        self.forget(name);
        let mut state = inner.state();
        let bytes: usize = state.names.iter().map(|name| name.len() + 1).sum();
        if state.names.len() >= inner.most || bytes + name.len() > NAMES {
            let full = std::mem::replace(&mut state.full, true);
            if !full {
                let held = state.names.len();
                tracing::warn!(
                    held,
                    "the service manager's store of file descriptors is full: see its unit's FileDescriptorStoreMax"
                );
            }
            return;
        }
        match descriptor.try_clone_to_owned() {
            Ok(descriptor) => {
                state.names.insert(name.to_owned());
                inner.send(Message::Keep(name.to_owned(), descriptor));
            }
            Err(error) => tracing::warn!(name, %error, "cannot be handed to the service manager"),
        }
    }

    /// Has the store let go of what it holds under this name.
    pub fn forget(&self, name: &str) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.state();
        state.inherited.remove(name);
        if state.names.remove(name) {
            inner.send(Message::Forget(name.to_owned()));
        }
    }

    /// Waits until the manager was told all, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let Some(inner) = &self.0 else { return };
        let (tell, told) = oneshot::channel();
        inner.send(Message::Flushed(tell));
        if timeout(limit, told).await.is_err() {
            tracing::warn!("the service manager was not told of all file descriptors in time");
        }
    }
}

impl Inner {
    /// Nothing is ever half done under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            tracing::warn!(
                "the service manager takes no messages: its store of file descriptors is not up to date"
            );
        }
    }
}

async fn send_all(socket: PathBuf, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let (text, descriptor) = match message {
            // Left to itself, the manager lets go of a pipe whose other end was closed: just when it is wanted. Before
            // systemd 246 it does so anyway.
            Message::Keep(name, descriptor) => {
                (format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}\n"), Some(descriptor))
            }
            Message::Forget(name) => (format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), None),
            Message::Flushed(tell) => {
                // Whoever waited may have lost patience.
                let _ = tell.send(());
                continue;
            }
        };
        let sent = timeout(BUSY, send(&socket, &text, descriptor.as_ref()));
        if let Err(error) = sent.await.unwrap_or_else(|late| Err(late.into())) {
            tracing::warn!(%error, "cannot tell the service manager of a file descriptor");
        }
    }
}

/// Over a connection of its own: one to a manager that was replaced would be of no use.
async fn send(path: &Path, text: &str, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut control, flags)?;
        Ok(())
    };
    socket.async_io(Interest::WRITABLE, send).await
}

#[cfg(test)]
#[path = "fdstore_tests.rs"]
pub(crate) mod tests;
