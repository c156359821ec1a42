//! Network namespaces: made on a throw-away thread, pinned by a bind mount, entered by closure.

use std::path::{Path, PathBuf};

use super::LinuxError;

/// A fresh path for a namespace in `dir`, `cni-<uuid>` as containerd names them. Makes nothing.
pub fn choose_path(dir: &Path) -> PathBuf {
    unimplemented!("{dir:?}")
}

/// Makes a namespace with `lo` up and pins it at `path`, which must not exist. Leaves nothing behind on error.
pub async fn create(path: &Path) -> Result<(), LinuxError> {
    unimplemented!("{path:?}")
}

/// Unpins and unlinks. What is already gone is fine; a plain file at `path` is unlinked too.
pub async fn remove(path: &Path) -> Result<(), LinuxError> {
    unimplemented!("{path:?}")
}

/// Whether a namespace is pinned at `path` (nsfs is mounted there).
pub fn is_pinned(path: &Path) -> bool {
    unimplemented!("{path:?}")
}

/// Runs `work` on a thread of its own inside the namespace at `path`.
pub async fn run<T, F>(path: &Path, work: F) -> Result<T, LinuxError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let _ = work;
    unimplemented!("{path:?}")
}
