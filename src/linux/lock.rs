//! A lock on a file, held by an open descriptor: for one daemon per state folder, and for the CNI plugins of one pod.
//!
//! Invariant: a lock's descriptor reaches a child only through [`inherit`]; every other exec closes it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::LinuxError;

/// Takes the exclusive lock on `path` (made if missing) or says `None` at once when somebody holds it.
/// The lock goes with the last descriptor: dropped here and in every child that inherited it.
pub fn try_exclusive(path: &Path) -> Result<Option<File>, LinuxError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(LinuxError::on("open the lock", path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(LinuxError::on("lock", path)(error)),
    }
}

/// Lets the child that `command` starts, and what that child starts, hold the lock too.
pub fn inherit(command: &mut std::process::Command, lock: Arc<File>) {
    let keep_open = move || {
        rustix::io::fcntl_setfd(&*lock, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec only one system call is made: no allocation, no lock.
    unsafe { command.pre_exec(keep_open) };
}

/// Kills every other process that has the lock file open, and says how many there were.
///
/// A child of this process between fork and exec has a copy of all descriptors for some microseconds; it still runs
/// this program and is left alone.
pub fn kill_holders(path: &Path) -> Result<usize, LinuxError> {
    let lock = fs::metadata(path).map_err(LinuxError::on("look at the lock", path))?;
    let own_program = fs::read_link("/proc/self/exe").ok();
    let mut killed = 0;
    for pid in all_pids()? {
        if pid.as_raw_pid() == std::process::id() as i32 || !has_open(pid, &lock) {
            continue;
        }
        if own_program.is_some()
            && fs::read_link(format!("/proc/{}/exe", pid.as_raw_pid())).ok() == own_program
        {
            continue;
        }
        // The pidfd comes before the second look, so that a recycled pid is never hit.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if has_open(pid, &lock) && pidfd_send_signal(&process, Signal::KILL).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
}

fn all_pids() -> Result<Vec<Pid>, LinuxError> {
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(LinuxError::on("list", proc))?;
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw);
    Ok(entries.flatten().filter_map(pid).collect())
}

fn has_open(pid: Pid, file: &fs::Metadata) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())) else { return false };
    descriptors.flatten().any(|entry| {
        fs::metadata(entry.path()).is_ok_and(|open| open.dev() == file.dev() && open.ino() == file.ino())
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A child that another test starts has every descriptor for a moment, until its exec.
    fn becomes_free(path: &Path) -> bool {
        (0..1000).any(|_| {
            let free = try_exclusive(path).unwrap().is_some();
            if !free {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            free
        })
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_exclusive(&path).unwrap().expect("nobody holds a fresh lock");
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(becomes_free(&path));
    }

    #[test]
    fn a_lock_in_a_missing_folder_is_an_error_that_names_it() {
        let error = try_exclusive(Path::new("/nonexistent/lock")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::NotFound);
        assert!(error.to_string().contains("/nonexistent/lock"));
    }

    #[test]
    fn an_heir_keeps_the_lock_and_can_be_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Arc::new(try_exclusive(&path).unwrap().unwrap());
        let mut command = Command::new("sleep");
        command.arg("600");
        inherit(&mut command, lock.clone());
        let mut heir = command.spawn().unwrap();
        drop((command, lock));
        assert!(try_exclusive(&path).unwrap().is_none(), "the heir must still hold it");
        assert_eq!(kill_holders(&path).unwrap(), 1);
        heir.wait().unwrap();
        assert!(becomes_free(&path));
    }

    #[test]
    fn without_inherit_a_child_does_not_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = try_exclusive(&path).unwrap().unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        drop(lock);
        let free = becomes_free(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(free);
    }
}
