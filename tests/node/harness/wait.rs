//! Waiting for what will be so, and giving up on what is never so.

use std::sync::LazyLock;
use std::time::Duration;

/// How long anything may take that takes a moment on an idle machine. Nothing is measured against it.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Whether each instruction is emulated, and so takes ten times as long, while waits are as ever.
pub fn is_emulated() -> bool {
    static EMULATED: LazyLock<bool> = LazyLock::new(|| {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        processors.contains("QEMU TCG")
    });
    *EMULATED
}

/// How long may be waited for what takes so long at most on an idle machine.
pub fn patience(usual: Duration) -> Duration {
    usual * if is_emulated() { 10 } else { 1 }
}

/// Looks until there is something, for a minute at most on an idle machine.
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
        let deadline = patience(DEADLINE);
        match tokio::time::timeout(deadline, looking).await {
            Ok(found) => found,
            Err(_) => panic!("waited {deadline:?} in vain at {caller}: {what}"),
        }
    }
}
