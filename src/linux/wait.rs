//! Waits that the runtime has no words for: for a descriptor this once, and for less than its clock counts.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until there is something to read, or nobody left who would write. It is watched for this wait alone: a pipe
/// that is watched all the time wakes its watcher at each write, whether there was something in it or not (pipe_write
/// in Linux' fs/pipe.c).
///
/// # Errors
/// It cannot be watched, or the runtime is going down.
pub async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: it is borrowed, and so stays open, for longer than its registration, which ends with this call.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    watched.readable().await.map(drop)
}

/// A clock for waits below a millisecond, which is the least that tokio's tells apart (timerfd_create(2)).
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// On the caller's runtime.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor stays open as long as its registration, which owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Waits that long, which must not be zero. One wait at a time; one that was broken off may shorten the next.
    ///
    /// # Errors
    /// The runtime is going down.
    pub async fn sleep(&self, time: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        // Each expiry is an event of its own, so nobody needs to read how many there were.
        self.0.readable().await.map(|mut expired| expired.clear_ready())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_there_before_and_an_end_are_heard_of() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        assert!(readable(read.as_fd()).now_or_never().is_none());
        rustix::io::write(&write, b"x").unwrap();
        readable(read.as_fd()).await.unwrap();
        // It is there still.
        readable(read.as_fd()).await.unwrap();
        rustix::io::read(&read, &mut [0; 8]).unwrap();
        assert!(readable(read.as_fd()).now_or_never().is_none());
        drop(write);
        readable(read.as_fd()).await.unwrap();
    }

    #[tokio::test]
    async fn each_wait_lasts_at_least_as_long_as_was_asked() {
        let timer = Timer::new().unwrap();
        for _ in 0..3 {
            let began = Instant::now();
            timer.sleep(Duration::from_micros(300)).await.unwrap();
            assert!(began.elapsed() >= Duration::from_micros(300));
        }
    }
}
