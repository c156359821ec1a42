//! A service manager, as far as the server needs one: it hears what it is told, and holds file descriptors from one
//! server to the next, as systemd does (sd_notify(3), sd_listen_fds(3)).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio_util::task::AbortOnDropHandle;

pub struct Manager {
    path: PathBuf,
    socket: Arc<UnixDatagram>,
    held: Arc<Mutex<Vec<Held>>>,
    _hearing: AbortOnDropHandle<()>,
}

struct Held {
    name: String,
    descriptor: OwnedFd,
    /// Whether it goes when its other end does.
    watched: bool,
}

impl Manager {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("manager.sock");
        let socket = Arc::new(UnixDatagram::bind(&path).expect("a socket"));
        let held = Arc::<Mutex<Vec<Held>>>::default();
        let hearing = {
            let (socket, held) = (socket.clone(), held.clone());
            async move {
                loop {
                    socket.readable().await.expect("a socket");
                    hear_all(&socket, &held);
                }
            }
        };
        Self { path, socket, held, _hearing: AbortOnDropHandle::new(tokio::spawn(hearing)) }
    }

    /// The names of what it holds, in their order.
    pub fn holds(&self) -> Vec<String> {
        hear_all(&self.socket, &self.held);
        let mut names: Vec<_> = self.held.lock().unwrap().iter().map(|held| held.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Holds this too, from wherever it came.
    pub fn hold(&self, name: &str, descriptor: OwnedFd) {
        self.held.lock().unwrap().push(Held { name: name.to_owned(), descriptor, watched: false });
    }

    /// A command that starts the program with all that is held.
    pub fn starts(&self, program: &str) -> Command {
        hear_all(&self.socket, &self.held);
        // Above where they are to be, so that none is in another's way.
        let above = RawFd::try_from(self.held.lock().unwrap().len()).expect("not that many") + 100;
        let held: Vec<(String, OwnedFd)> = (self.held.lock().unwrap().iter())
            .map(|held| {
                let copy = rustix::io::fcntl_dupfd_cloexec(&held.descriptor, above);
                (held.name.clone(), copy.expect("a free number"))
            })
            .collect();
        let names: Vec<_> = held.iter().map(|(name, _)| name.as_str()).collect();
        // Only the process itself knows its number before it is the program.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"export LISTEN_PID=$$; exec "$0" "$@""#, program])
            .env("NOTIFY_SOCKET", &self.path)
            .env("LISTEN_FDS", held.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let hand_over = move || {
            for (target, (_, descriptor)) in (3..).zip(&held) {
                // SAFETY: takes two numbers, and may be called after a fork.
                if unsafe { libc::dup2(descriptor.as_raw_fd(), target) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: it only makes system calls, and allocates nothing.
        unsafe { command.pre_exec(hand_over) };
        command
    }
}

/// Does all that it was told to, and lets go of what it watches in vain.
fn hear_all(socket: &UnixDatagram, held: &Mutex<Vec<Held>>) {
    let mut held = held.lock().unwrap();
    while let Ok((text, descriptor)) = socket.try_io(Interest::READABLE, || receive(socket)) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        match (value("FDNAME"), descriptor) {
            (Some(name), Some(descriptor)) if value("FDSTORE") == Some("1") => {
                let watched = value("FDPOLL") != Some("0");
                held.push(Held { name: name.to_owned(), descriptor, watched });
            }
            (Some(name), None) if value("FDSTOREREMOVE") == Some("1") => {
                held.retain(|held| held.name != name)
            }
            // Of its start, its life and its end.
            _ => {}
        }
    }
    held.retain(|held| {
        let mut polled = [PollFd::new(&held.descriptor, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).expect("a descriptor");
        !(held.watched && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
    });
}

fn receive(socket: &UnixDatagram) -> io::Result<(String, Option<OwnedFd>)> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok((String::from_utf8_lossy(&text[..received.bytes]).into_owned(), descriptor))
}
