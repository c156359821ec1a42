//! Network namespaces: made on a throw-away thread, pinned by a bind mount, entered by closure.
//!
//! Invariant: a thread that has left the host's namespace ends; none goes back to any pool.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rustix::mount::mount_bind;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::{LinuxError, file, link, mount, on_thread};

/// `statfs` type of what /proc/PID/ns/* lead to (include/uapi/linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Stack of a thread that only makes a few system calls.
pub(super) const SMALL_STACK: usize = 128 * 1024;

/// Stack of a thread that runs somebody's closure.
const WORK_STACK: usize = 512 * 1024;

/// A fresh path for a namespace in `dir`, `cni-<uuid>` as containerd names them. Makes nothing.
pub fn choose_path(dir: &Path) -> PathBuf {
    let mut uuid: [u8; 16] = rand::rng().random();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let hex = hex::encode(uuid);
    dir.join(format!("cni-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Makes a namespace with `lo` up and pins it at `path`, which must not exist. Leaves nothing behind on error.
///
/// Not stopped by dropping the future: what was begun is ended, so an undo must wait for this future first.
pub async fn create(path: &Path) -> Result<(), LinuxError> {
    let target = path.to_owned();
    on_thread("make the network namespace", path, SMALL_STACK, move || make(&target)).await?
}

/// Runs on a thread that ends right after.
fn make(path: &Path) -> Result<(), LinuxError> {
    pin(path, || {
        // SAFETY: NEWNET changes no descriptor table; the calling thread is thrown away.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(LinuxError::on("unshare the network namespace for", path))
    })
}

/// Brings up `lo` in another process' namespace (`/proc/PID/ns/net`), and pins it at `path`, which must not exist. The
/// calling thread has to end afterwards.
pub(super) fn pin_of(namespace: &Path, path: &Path) -> Result<(), LinuxError> {
    pin(path, || enter(namespace))
}

/// Pins the namespace that `enter` takes this thread into.
fn pin(path: &Path, enter: impl FnOnce() -> Result<(), LinuxError>) -> Result<(), LinuxError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(LinuxError::on("make the folder", dir))?;
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)
        .map_err(LinuxError::on("make the file", path))?;
    let pinned = enter().and_then(|()| {
        link::bring_up("lo").map_err(LinuxError::on("bring up lo of", path))?;
        mount_bind("/proc/thread-self/ns/net", path)
            .map_err(LinuxError::on("pin the network namespace at", path))
    });
    pinned.inspect_err(|_| {
        // Ours, made above; there is nothing to add to the first error.
        let _ = fs::remove_file(path);
    })
}

fn enter(path: &Path) -> Result<(), LinuxError> {
    let namespace = File::open(path).map_err(LinuxError::on("open the network namespace", path))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
        .map_err(LinuxError::on("enter the network namespace", path))
}

/// Unpins and unlinks. What is already gone is fine; a plain file at `path` is unlinked too.
pub async fn remove(path: &Path) -> Result<(), LinuxError> {
    let target = path.to_owned();
    on_thread("remove the network namespace", path, SMALL_STACK, move || {
        mount::unmount_all(&target)?;
        file::remove(&target).map_err(LinuxError::on("unlink the network namespace", &target))
    })
    .await?
}

/// Whether a namespace is pinned at `path` (nsfs is mounted there).
pub fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == NSFS_MAGIC)
}

/// Runs `work` on a thread of its own inside the namespace at `path`. It runs to its end even if the future is
/// dropped.
pub async fn run<T, F>(path: &Path, work: F) -> Result<T, LinuxError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let target = path.to_owned();
    on_thread("work in the network namespace", path, WORK_STACK, move || {
        enter(&target)?;
        Ok(work())
    })
    .await?
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::linux::require_root;

    #[test]
    fn paths_are_named_as_containerd_names_them() {
        let path = choose_path(Path::new("/run/netns"));
        let name = path.file_name().unwrap().to_str().unwrap();
        let parts: Vec<usize> = name.strip_prefix("cni-").unwrap().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(name.as_bytes()[18], b'4', "a random uuid: {name}");
        assert_ne!(path, choose_path(Path::new("/run/netns")));
    }

    #[tokio::test]
    async fn a_namespace_has_lo_up_and_its_own_ports() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let path = choose_path(&dir.path().join("made"));
        let before = fs::read_link("/proc/thread-self/ns/net").unwrap();
        create(&path).await.unwrap();
        assert!(is_pinned(&path));
        let (inside, reached) = run(&path, || {
            let server = TcpListener::bind("127.0.0.1:80").unwrap();
            let client = TcpStream::connect(server.local_addr().unwrap());
            (fs::read_link("/proc/thread-self/ns/net").unwrap(), client.is_ok())
        })
        .await
        .unwrap();
        assert!(reached, "loopback must work inside");
        assert_ne!(inside, before);
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), before, "the runtime's threads stay");

        create(&path).await.expect_err("the path is taken");
        assert!(is_pinned(&path), "a failed creation must not hurt the holder of the path");
        for _ in 0..2 {
            remove(&path).await.unwrap();
            assert!(!path.exists() && !is_pinned(&path));
        }
        run(&path, || ()).await.expect_err("nothing to enter");
    }

    #[tokio::test]
    async fn many_are_made_at_once() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..16).map(|_| choose_path(dir.path())).collect();
        let made = futures::future::join_all(paths.iter().map(|p| create(p))).await;
        let pinned = paths.iter().filter(|p| is_pinned(p)).count();
        futures::future::join_all(paths.iter().map(|p| remove(p))).await;
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        assert_eq!(pinned, 16);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_plain_file_is_no_namespace_and_is_removed() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(!is_pinned(&path));
        run(&path, || ()).await.expect_err("a plain file cannot be entered");
        remove(&path).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_panic_inside_is_an_error() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let path = choose_path(dir.path());
        create(&path).await.unwrap();
        let outcome = run(&path, || -> () { panic!("on purpose") }).await;
        remove(&path).await.unwrap();
        assert!(outcome.unwrap_err().to_string().contains("work in the network namespace"));
    }
}
