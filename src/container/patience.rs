//! How long a checkpoint or restore may take, and whether anybody waits for it still. Unlike a start or a creation, it is
//! of no use to somebody who asks again: when its caller goes away, it is broken off.

use std::io;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ContainerError;

/// Cheap to clone; all clones run out together.
#[derive(Clone, Debug)]
pub struct Patience {
    limit: Duration,
    until: Instant,
    gone: CancellationToken,
}

impl Patience {
    /// Patience of so much time, and as long as the guard is kept.
    pub fn new(limit: Duration) -> (Self, DropGuard) {
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        (Self { limit, until: Instant::now() + limit, gone }, guard)
    }

    /// Waits until it has run out; why.
    pub(super) async fn over(&self) -> ContainerError {
        tokio::select! {
            () = tokio::time::sleep_until(self.until) => ContainerError::TooLate { limit: self.limit },
            () = self.gone.cancelled() => ContainerError::CallerGone,
        }
    }

    /// The same, of the present moment.
    pub fn check(&self) -> Result<(), ContainerError> {
        if self.gone.is_cancelled() {
            Err(ContainerError::CallerGone)
        } else if Instant::now() >= self.until {
            Err(ContainerError::TooLate { limit: self.limit })
        } else {
            Ok(())
        }
    }

    /// Awaits work that can be dropped at any point.
    pub(super) async fn bound<T>(
        &self,
        work: impl Future<Output = Result<T, ContainerError>>,
    ) -> Result<T, ContainerError> {
        tokio::select! {
            done = work => done,
            over = self.over() => Err(over),
        }
    }
}

/// A writer that fails once patience has run out: how blocking work is broken off.
pub(super) struct Patient<W>(pub W, pub Patience);

impl<W: io::Write> io::Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.check().map_err(io::Error::other)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_runs_out_with_time_and_with_its_caller() {
        let (patience, guard) = Patience::new(Duration::from_secs(3));
        let mut writer = Patient(Vec::new(), patience.clone());
        writer.write_all(b"x").unwrap();
        let late = patience.bound(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert!(matches!(late, ContainerError::TooLate { .. }), "{late}");
        writer.write_all(b"y").unwrap_err();

        drop(guard);
        assert!(matches!(patience.check(), Err(ContainerError::CallerGone)));
    }
}
