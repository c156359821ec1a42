//! How a process ended, told to somebody who is not its parent (pidfd_open(2), PIDFD_GET_INFO in linux/pidfd.h).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, held: it stays that process even when another takes over the pid.
#[derive(Debug)]
pub struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Takes hold of a process, on the caller's runtime.
    ///
    /// # Errors
    /// There is none with that pid.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: the descriptor stays open as long as its registration, which owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// The runtime is going down.
    pub async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Sends it a signal; one that has ended is fine.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.0.get_ref(), signal) {
            Err(Errno::SRCH) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Its exit code, with 128 and the signal's number for one that was killed. `None` while it lives, until its parent
    /// has reaped it, and always on kernels before 6.15, which do not keep it.
    pub fn exit_code(&self) -> Option<u32> {
        // SAFETY: `pidfd_info` is plain data for which all zeroes is a value.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = libc::PIDFD_INFO_EXIT.into();
        // SAFETY: the code takes a pointer to a `pidfd_info`, whose size is part of it, that lives across the call.
        let outcome =
            unsafe { libc::ioctl(self.0.get_ref().as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        let told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        (outcome == 0 && told).then(|| code_of(info.exit_code))
    }
}

/// From a wait status (wait(2)).
fn code_of(status: i32) -> u32 {
    let status = status.cast_unsigned();
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::linux::process::kernel_version;

    async fn code_after(script: &str) -> Option<u32> {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let held = Pidfd::open(child.id()).unwrap();
        held.ended().await.unwrap();
        assert_eq!(held.exit_code(), None, "not reaped yet");
        child.wait().unwrap();
        held.exit_code()
    }

    #[tokio::test]
    async fn an_end_is_told_to_who_is_not_the_parent() {
        let told = |code| (kernel_version() >= (6, 15)).then_some(code);
        assert_eq!(code_after("exit 7").await, told(7));
        assert_eq!(code_after("exit 0").await, told(0));
        assert_eq!(code_after("kill -KILL $$").await, told(137));
    }

    #[tokio::test]
    async fn who_is_held_is_signalled_and_no_other() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let held = Pidfd::open(child.id()).unwrap();
        held.signal(Signal::KILL).unwrap();
        held.ended().await.unwrap();
        child.wait().unwrap();
        held.signal(Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn nothing_is_told_of_who_lives() {
        let own = Pidfd::open(std::process::id()).unwrap();
        assert_eq!(own.exit_code(), None);
        assert_eq!(Pidfd::open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        Pidfd::open(i32::MAX as u32).unwrap_err();
    }

    #[test]
    fn a_dumped_core_is_no_part_of_the_code() {
        assert_eq!(code_of(0x80 | 11), 139);
    }
}
