//! Other processes: kernel, peers, pids.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid, Signal, kill_process};

use super::LinuxError;

/// The kernel's version, major and minor.
pub fn kernel_version() -> (u32, u32) {
    version_of(&kernel_release())
}

/// The kernel's release, which names the folder of its modules (uname's release).
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `6.18.5-cloud` is (6, 18); a distribution may write nearly anything behind the numbers.
fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The node's name (uname's nodename).
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Has this process keep to itself what is in its memory, secrets among it: no core of it is dumped, wherever the node
/// has them go. And has what it makes get the modes that are asked for, whatever it was started with: a pod's hosts file
/// is there for the pod's users to read, and nothing for others to write.
pub fn keep_to_itself() -> Result<(), LinuxError> {
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(LinuxError::on("forbid core dumps of", Path::new("/proc/self")))
}

/// `oom_score_adj` of a process.
pub fn oom_score_adj(pid: i32) -> Result<i32, LinuxError> {
    let path = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
    let text = fs::read_to_string(&path).map_err(LinuxError::on("read", &path))?;
    text.trim()
        .parse()
        .map_err(|e| LinuxError::on("understand", &path)(io::Error::new(io::ErrorKind::InvalidData, e)))
}

/// A process' `oom_score_adj`, held open: it stays that process' even when another takes over the pid.
#[derive(Debug)]
pub struct OomScore {
    path: PathBuf,
    file: fs::File,
}

impl OomScore {
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn open(pid: u32) -> Result<Self, LinuxError> {
        let path = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
        let file = fs::File::options().read(true).write(true).open(&path);
        Ok(Self { file: file.map_err(LinuxError::on("open", &path))?, path })
    }

    /// Sets it, where it is as expected: a process may have chosen its own. One that has ended is left in peace.
    ///
    /// # Errors
    /// Of a score that this process may not give (proc_pid_oom_score_adj(5)).
    pub fn change(&self, from: i32, to: i32) -> Result<(), LinuxError> {
        let mut text = [0; 16];
        let outcome = self.file.read_at(&mut text, 0).and_then(|length| {
            let found = String::from_utf8_lossy(&text[..length]);
            if found.trim() == from.to_string() {
                self.file.write_all_at(to.to_string().as_bytes(), 0)?;
            }
            Ok(())
        });
        match outcome {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            outcome => outcome.map_err(LinuxError::on("write", &self.path)),
        }
    }
}

/// Another process' environment, as it was at its start; of two variables of one name the first counts.
pub fn environment(pid: i32) -> Result<BTreeMap<String, String>, LinuxError> {
    let path = PathBuf::from(format!("/proc/{pid}/environ"));
    let bytes = fs::read(&path).map_err(LinuxError::on("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    let variables = text.split('\0').rev().filter_map(|entry| entry.split_once('='));
    Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The folders where another process looks for programs.
pub fn search_path(pid: i32) -> Result<Vec<PathBuf>, LinuxError> {
    let path = environment(pid)?.remove("PATH").unwrap_or_default();
    Ok(std::env::split_paths(&path).collect())
}

/// The first program of that name in these folders; a name with a `/` is a path itself.
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    folders.iter().map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

/// Whether it is a file that somebody may run.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// A folder, known again whatever it is called, even when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderIdentity {
    device: u64,
    inode: u64,
}

impl FolderIdentity {
    /// The folder's at a path, as it is now.
    pub fn of(path: &Path) -> Result<Self, LinuxError> {
        let metadata = fs::metadata(path).map_err(LinuxError::on("look at", path))?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Kills every process that has the folder itself open; how many those were. Blocks.
    pub fn kill_holders(self) -> usize {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        let pids = entries(Path::new("/proc")).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holds = |pid: &i32| {
            let files = entries(&PathBuf::from(format!("/proc/{pid}/fd")));
            let mut opened = files.filter_map(|file| fs::metadata(file.path()).ok());
            opened.any(|file| file.is_dir() && Self { device: file.dev(), inode: file.ino() } == self)
        };
        let others = pids.filter(|pid| *pid != std::process::id() as i32);
        let holders: Vec<_> = others.filter(holds).filter_map(Pid::from_raw).collect();
        for pid in &holders {
            // One that has just ended is what is wanted.
            let _ = kill_process(*pid, Signal::KILL);
        }
        holders.len()
    }
}

/// Every process that this one can see.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The arguments that a process was started with; none of one that is gone, or of the kernel's own.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if words.is_empty() {
        return Vec::new();
    }
    words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Whose child a process is; `None` of one that is gone.
pub fn parent(pid: u32) -> Option<u32> {
    parent_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// All that descend from a process, as far as their parents live.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<_> = pids().into_iter().filter_map(|child| Some((child, parent(child)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// The inode of a process' network namespace; `None` of one that is gone.
pub fn network_namespace(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|namespace| namespace.ino())
}

/// Whether a process is in the mount namespace of this one: whether a path means the same to both.
pub fn shares_mounts(pid: u32) -> bool {
    let namespace =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).ok().map(|found| found.ino());
    let own = namespace("self");
    own.is_some() && namespace(&pid.to_string()) == own
}

/// Whether a process with this pid lives; zombies, and who is on the way there, do not.
pub fn is_alive(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| lives(&stat).unwrap_or(false))
}

fn parent_in(stat: &[u8]) -> Option<u32> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// What follows the name in `pid (comm) state ppid pgrp session tty_nr tpgid flags …` (proc_pid_stat(5)).
fn fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    // comm may itself hold parentheses and blanks, so the state follows the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace())
}

fn lives(stat: &[u8]) -> Option<bool> {
    /// PF_EXITING, of include/linux/sched.h: its namespaces may be gone already.
    const EXITING: u32 = 4;
    let mut fields = fields(stat)?;
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    Some(!matches!(state, "Z" | "X" | "x") && flags & EXITING == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn whoever_is_on_the_way_out_does_not_live() {
        for (stat, alive) in [
            ("7 (a b) c) S 1 7 7 0 -1 4194560 98", true),
            ("7 (sh) R 1 7 7 0 -1 4194564 98", false),
            ("7 (sh) Z 1 7 7 0 -1 4194564 98", false),
        ] {
            assert_eq!(lives(stat.as_bytes()), Some(alive), "{stat}");
        }
        assert_eq!(lives(b"7 (sh) S 1"), None);
        assert_eq!(parent_in(b"7 (a b) c) S 12 7 7"), Some(12));
        assert_eq!(parent_in(b"7 (sh) S"), None);
    }

    #[test]
    fn releases_of_all_kinds_are_read() {
        assert_eq!(version_of("6.18.5-cloud-amd64"), (6, 18));
        assert_eq!(version_of("5.4"), (5, 4));
        assert_eq!(version_of("4.18.0-553.el8_10.x86_64"), (4, 18));
        assert_eq!(version_of("6.1-rc3"), (6, 1));
        assert_eq!(version_of(""), (0, 0));
        assert!(kernel_version() >= (4, 0));
    }

    #[test]
    fn a_program_is_the_first_on_the_path() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [PathBuf::from("/nowhere"), a.path().to_owned(), b.path().to_owned()];
        fs::write(a.path().join("runc"), "no program").unwrap();
        assert_eq!(find_program("runc", &folders), None);
        let program = b.path().join("runc");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program("runc", &folders), Some(program));
        assert_eq!(find_program("/opt/runc", &folders), Some("/opt/runc".into()));
    }

    #[test]
    fn who_has_a_folder_open_is_killed_though_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &Path| {
            let mut sleep = std::process::Command::new("sleep");
            sleep.arg("1000").stdin(fs::File::open(path).unwrap()).spawn().unwrap()
        };
        let (mut holder, mut other) = (of(folder.path()), of(Path::new("/tmp")));
        let identity = FolderIdentity::of(folder.path()).unwrap();
        folder.close().unwrap();
        assert_eq!(identity.kill_holders(), 1);
        assert!(!holder.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "it holds another folder");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_process_is_known_by_its_arguments_and_its_family() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60; :", ""]).spawn().unwrap();
        let pid = child.id();
        let below = loop {
            if let [below] = descendants(pid)[..] {
                break below;
            }
        };
        assert!(descendants(own).contains(&below) && pids().contains(&pid));
        assert_eq!((parent(below), parent(pid)), (Some(pid), Some(own)));
        assert_eq!(command_line(pid), ["sh", "-c", "sleep 60; :", ""]);
        assert_eq!(network_namespace(pid), network_namespace(own));
        assert!(shares_mounts(pid));
        rustix::process::kill_process(Pid::from_raw(below as i32).unwrap(), Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!((parent(pid), network_namespace(pid), shares_mounts(pid)), (None, None, false));
        assert!(command_line(pid).is_empty() && descendants(pid).is_empty());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        assert!(is_alive(std::process::id() as i32));
        while is_alive(pid) {
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "not waited for, so a zombie");
        child.wait().unwrap();
        assert!(!is_alive(pid));
    }

    #[test]
    fn an_oom_score_is_changed_where_it_is_as_expected() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (pid, score) = (child.id() as i32, OomScore::open(child.id()).unwrap());
        let own = oom_score_adj(pid).unwrap();
        score.change(own + 1, 999).unwrap();
        assert_eq!(oom_score_adj(pid).unwrap(), own);
        score.change(own, 999).unwrap();
        assert_eq!(oom_score_adj(pid).unwrap(), 999);
        score.change(999, 5000).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        score.change(999, 998).unwrap();
        OomScore::open(pid as u32).unwrap_err();
    }

    #[test]
    fn the_oom_score_of_a_missing_process_is_not_found() {
        oom_score_adj(std::process::id() as i32).unwrap();
        assert_eq!(oom_score_adj(i32::MAX).unwrap_err().kind(), crate::error::Kind::NotFound);
    }
}
