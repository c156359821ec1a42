//! Waiting for what will be so, and giving up on what is never so.

use std::time::Duration;

/// How long anything may take that takes a moment on an idle machine. Nothing is measured against it.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until there is something, for [`DEADLINE`] at most.
///
/// # Panics
/// When it never comes; the text says what was waited for.
#[track_caller]
pub fn until<T, Look, Answer>(what: impl Into<String>, mut look: Look) -> impl Future<Output = T>
where
    Look: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    let (what, caller) = (what.into(), std::panic::Location::caller());
    async move {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(DEADLINE, looking).await {
            Ok(found) => found,
            Err(_) => panic!("waited {DEADLINE:?} in vain at {caller}: {what}"),
        }
    }
}
