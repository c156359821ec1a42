//! Threads that are thrown away after one piece of work: what enters a namespace must not go back to any pool.

use std::io;
use std::path::Path;

use super::LinuxError;

/// Runs `work` on a fresh thread and waits for it.
pub(super) async fn on_thread<T: Send + 'static>(
    action: &'static str,
    path: &Path,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinuxError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("namespace".into())
        .stack_size(stack)
        .spawn(move || {
            // A receiver that went away no longer wants to know.
            let _ = done.send(work());
        })
        .map_err(LinuxError::on(action, path))?;
    result.await.map_err(|_| LinuxError::on(action, path)(io::Error::other("its thread panicked")))
}
