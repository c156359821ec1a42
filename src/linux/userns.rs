//! User namespaces: made in a child process, since a process with threads may not enter one; pinned by a bind mount.
//!
//! Invariant: the child does nothing but wait, and has ended before any function here returns.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::mount_bind;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{LinuxError, netns, on_thread};

/// One range of ids: `inside` is `outside` on the node, and so on for `length` ids (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub length: u32,
}

impl IdRange {
    /// The node's id for one inside; `None` where the range has none.
    pub fn outside_of(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside).filter(|offset| *offset < self.length)?;
        self.outside.checked_add(offset)
    }
}

/// What users and groups inside are on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMaps {
    pub uids: IdRange,
    pub gids: IdRange,
}

/// Makes a user namespace and pins it at `pin`; with `netns`, a network namespace that it owns is pinned there, `lo` up.
/// Neither path may exist.
///
/// Not stopped by dropping the future. After an error `pin` may stand: whoever owns it unmounts it in any case.
pub async fn create(pin: &Path, ids: IdMaps, netns: Option<&Path>) -> Result<(), LinuxError> {
    let (target, netns) = (pin.to_owned(), netns.map(Path::to_owned));
    let work = move || make(&target, &ids, netns.as_deref());
    on_thread("make the user namespace", pin, netns::SMALL_STACK, work).await?
}

/// Runs on a thread that ends right after: the child's life is bound to it.
fn make(pin: &Path, ids: &IdMaps, netns: Option<&Path>) -> Result<(), LinuxError> {
    let child = Child::start(netns.is_some()).map_err(LinuxError::on("make the user namespace for", pin))?;
    child.map("uid_map", &ids.uids)?;
    child.map("gid_map", &ids.gids)?;
    if let Some(dir) = pin.parent() {
        fs::create_dir_all(dir).map_err(LinuxError::on("make the folder", dir))?;
    }
    fs::File::create_new(pin).map_err(LinuxError::on("make the file", pin))?;
    mount_bind(child.file("ns/user"), pin).map_err(LinuxError::on("pin the user namespace at", pin))?;
    netns.map_or(Ok(()), |path| netns::pin_of(&child.file("ns/net"), path))
}

/// A process in new namespaces, which only waits; killed and reaped on drop.
struct Child(Pid);

impl Child {
    /// A child in a user namespace of its own, and in a network namespace that this one owns.
    fn start(with_network: bool) -> io::Result<Self> {
        let network = if with_network { libc::CLONE_NEWNET } else { 0 };
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: all fields are numbers, for which zero means "not used" (clone(2), clone3).
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = (libc::CLONE_NEWUSER | network) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        // SAFETY: without CLONE_VM the child has a copy of this thread's memory and stack. It makes system calls only:
        // no lock that another thread held at this moment is touched, nothing is allocated, nothing returns from here.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => wait_for_the_end(parent),
            pid => Ok(Self(Pid::from_raw(pid as i32).expect("the kernel's pids are above 0"))),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0.as_raw_nonzero()).into()
    }

    fn map(&self, file: &str, range: &IdRange) -> Result<(), LinuxError> {
        let path = self.file(file);
        let line = format!("{} {} {}\n", range.inside, range.outside, range.length);
        // One write, as the kernel demands.
        fs::write(&path, &line).map_err(|source| LinuxError::Call {
            action: "map ids",
            object: format!("{} in {}", line.trim_end(), path.display()),
            source,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not reaped yet, so the pid is still its own. Both calls can only fail where there is nothing to do.
        let _ = kill_process(self.0, Signal::KILL);
        while matches!(waitpid(Some(self.0), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    }
}

/// The child's whole life. System calls only.
fn wait_for_the_end(parent: i32) -> ! {
    // SAFETY: none of these touches memory. The descriptors are copies: closing them leaves the parent's open.
    unsafe {
        // Else a pipe or lock that the daemon closes meanwhile would stay open here.
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Where the daemon went before the line above, nobody would end this process.
        if libc::getppid() != parent {
            libc::_exit(0);
        }
        loop {
            libc::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::{mount, require_root};

    const IDS: IdMaps = IdMaps {
        uids: IdRange { inside: 0, outside: 100_000, length: 65_536 },
        gids: IdRange { inside: 0, outside: 200_000, length: 1_000 },
    };

    #[test]
    fn a_range_maps_its_ids_and_no_other() {
        let range = IdRange { inside: 10, outside: 1_000, length: 5 };
        for (inside, outside) in [(9, None), (10, Some(1_000)), (14, Some(1_004)), (15, None)] {
            assert_eq!(range.outside_of(inside), outside, "{inside}");
        }
        assert_eq!(IdRange { outside: u32::MAX, ..range }.outside_of(11), None);
    }

    #[tokio::test]
    async fn the_namespaces_outlive_their_child() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let (pin, net) = (dir.path().join("pinned/user"), netns::choose_path(dir.path()));
        create(&pin, IDS, Some(&net)).await.unwrap();
        assert!(netns::is_pinned(&pin) && netns::is_pinned(&net));
        let up = netns::run(&net, || std::net::TcpListener::bind("127.0.0.1:80").is_ok()).await.unwrap();
        create(&pin, IDS, None).await.expect_err("the path is taken");
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        netns::remove(&net).await.unwrap();
        mount::unmount_all(&pin).unwrap();
        assert!(up, "loopback must work inside");
        assert_eq!(fs::read_link("/proc/self/ns/user").unwrap(), own);
        // Other tests' children are in this user namespace; a zombie is in none, and theirs are waited for in time.
        let children = || {
            let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
            let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let pids: Vec<String> = lists
                .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            pids
        };
        let elsewhere =
            |pid: &String| fs::read_link(format!("/proc/{pid}/ns/user")).ok().as_ref() != Some(&own);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while children().iter().any(elsewhere) {
            assert!(std::time::Instant::now() < deadline, "every child has ended");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn ids_that_the_kernel_refuses_are_told() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let empty = IdRange { inside: 0, outside: 0, length: 0 };
        let refused = create(&dir.path().join("user"), IdMaps { uids: empty, ..IDS }, None).await;
        assert!(refused.unwrap_err().to_string().contains("map ids 0 0 0"));
    }
}
