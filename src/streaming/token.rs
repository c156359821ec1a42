//! Tokens: who has one may use, once and soon, what it stands for.
//!
//! Invariant: a token cannot be guessed, is worth something for [`LIFETIME`] at most, and for one use.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::StreamingError;

/// How long a client may take to come (contract §5).
const LIFETIME: Duration = Duration::from_secs(60);
/// Tokens out at once (contract §5).
const MAX_PENDING: usize = 1000;

/// What tokens stand for.
pub struct Tokens<T>(Mutex<HashMap<String, Pending<T>>>);

struct Pending<T> {
    until: Instant,
    work: T,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Tokens<T> {
    /// A fresh token: 32 hex digits of the system's randomness.
    ///
    /// # Errors
    /// [`StreamingError::TooManyPending`].
    pub fn issue(&self, work: T) -> Result<String, StreamingError> {
        let mut pending = self.open();
        let now = Instant::now();
        pending.retain(|_, entry| entry.until > now);
        if pending.len() >= MAX_PENDING {
            return Err(StreamingError::TooManyPending(MAX_PENDING));
        }
        let token = format!("{:032x}", rand::random::<u128>());
        pending.insert(token.clone(), Pending { until: now + LIFETIME, work });
        Ok(token)
    }

    /// What the token stands for; from now on nothing.
    pub fn redeem(&self, token: &str) -> Option<T> {
        let entry = self.open().remove(token)?;
        (entry.until > Instant::now()).then_some(entry.work)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Pending<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let [first, second] = [1, 2].map(|work| tokens.issue(work).unwrap());
        assert_ne!(first, second);
        assert_eq!(tokens.redeem("0"), None);
        assert_eq!(tokens.redeem(&first), Some(1));
        assert_eq!(tokens.redeem(&first), None);
        tokio::time::advance(LIFETIME).await;
        assert_eq!(tokens.redeem(&second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_is_bounded_until_some_expire() {
        let tokens = Tokens::default();
        for work in 0..MAX_PENDING {
            tokens.issue(work).unwrap();
        }
        assert!(matches!(tokens.issue(0), Err(StreamingError::TooManyPending(_))));
        tokio::time::advance(LIFETIME).await;
        tokens.issue(0).unwrap();
    }
}
