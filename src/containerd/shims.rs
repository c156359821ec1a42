//! Shims as processes, found by their command lines: containerd can lose one, and then nobody else knows of it.
//!
//! containerd starts a shim by a command of its own. Where the call that asked for it is broken off (its client died,
//! or containerd did), that command is killed, or its answer lost, while the shim stays: a process without a task, a
//! mount or a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::Containerd;
use crate::linux::pidfd::Pidfd;
use crate::linux::{LinuxError, process};

/// How long a shim may take to end on SIGTERM, and then on SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);
/// Flags of shims that take no value (containerd, "Runtime v2", "Flags").
const SWITCHES: [&str; 5] = ["debug", "v", "version", "info", "h"];

/// A shim that serves tasks, of whichever containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    pub pid: u32,
    /// What it was started for: a pod, and in its shim live the pod's containers.
    pub id: String,
    pub namespace: String,
    /// The socket of the containerd that started it.
    pub address: PathBuf,
}

impl Shim {
    /// Every shim that this process can see. Reads /proc.
    pub fn all() -> Vec<Self> {
        process::pids().into_iter().filter_map(Self::look).collect()
    }

    fn look(pid: u32) -> Option<Self> {
        Self::parse(pid, &process::command_line(pid))
    }

    /// `PROGRAM -namespace NAMESPACE -id ID -address SOCKET`; with a word behind it is a command that ends by itself.
    fn parse(pid: u32, words: &[String]) -> Option<Self> {
        let (mut namespace, mut id, mut address) = (None, None, None);
        let mut words = words.iter().skip(1).map(String::as_str);
        while let Some(word) = words.next() {
            let flag = word.strip_prefix("--").or(word.strip_prefix('-'))?;
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value),
                None if SWITCHES.contains(&flag) => continue,
                None => (flag, words.next()?),
            };
            match name {
                "namespace" => namespace = Some(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                "address" => address = Some(PathBuf::from(value)),
                _ => {}
            }
        }
        Some(Self { pid, namespace: namespace?, id: id?, address: address? })
    }

    /// Ends it, and all that is left below it. One that has ended is fine.
    ///
    /// # Errors
    /// Where it outlives SIGKILL, or may not be signalled.
    pub async fn end(&self) -> Result<(), LinuxError> {
        let path = PathBuf::from(format!("/proc/{}", self.pid));
        let failed = |source: std::io::Error| LinuxError::on("end the shim", &path)(source);
        // It is held before it is looked at again, so that no other process is hit that has got its pid.
        let shim = match Pidfd::open(self.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            other => other.map_err(failed)?,
        };
        if Self::look(self.pid).as_ref() != Some(self) {
            return Ok(());
        }
        let below: Vec<_> =
            process::descendants(self.pid).into_iter().filter_map(|pid| Pidfd::open(pid).ok()).collect();
        let mut ended = false;
        // On SIGTERM it takes its socket along.
        for signal in [Signal::TERM, Signal::KILL] {
            shim.signal(signal).map_err(failed)?;
            ended = tokio::time::timeout(PATIENCE, shim.ended()).await.is_ok();
            if ended {
                break;
            }
        }
        for child in below {
            child.signal(Signal::KILL).map_err(failed)?;
        }
        if ended { Ok(()) } else { Err(failed(std::io::ErrorKind::TimedOut.into())) }
    }
}

impl Containerd {
    /// Whether a shim is this containerd's, in this namespace. A path says so only to who sees the same files: a node
    /// within a container has the usual paths, too.
    pub fn started(&self, shim: &Shim) -> bool {
        shim.namespace == self.namespace()
            && same_socket(&shim.address, self.socket())
            && process::shares_mounts(shim.pid)
    }

    /// Ends the shim that it started for this id and does not know any more; none is fine. Call only where it has no such
    /// task, and nobody asks it for one.
    ///
    /// # Errors
    /// Those of [`Shim::end`].
    pub async fn end_lost_shim(&self, id: &str) -> Result<(), LinuxError> {
        for shim in self.shims(&[id]).await? {
            shim.end().await?;
            tracing::info!(pid = shim.pid, id, "ended a shim that containerd has lost");
        }
        Ok(())
    }

    /// Whether a shim lives that it started for any of these ids.
    ///
    /// # Errors
    /// None can be looked for now.
    pub async fn has_shim(&self, ids: &[&str]) -> Result<bool, LinuxError> {
        Ok(!self.shims(ids).await?.is_empty())
    }

    async fn shims(&self, ids: &[&str]) -> Result<Vec<Shim>, LinuxError> {
        let broken_off = LinuxError::on("look for shims in", Path::new("/proc"));
        let shims = tokio::task::spawn_blocking(Shim::all).await;
        let mut shims = shims.map_err(|why| broken_off(std::io::Error::other(why)))?;
        shims.retain(|shim| ids.contains(&shim.id.as_str()) && self.started(shim));
        Ok(shims)
    }
}

/// The same path, or two paths to the same socket.
fn same_socket(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    a == b || identity(a).is_some_and(|found| Some(found) == identity(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Shim> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Shim::parse(7, &words)
    }

    #[test]
    fn a_shim_is_known_by_its_flags() {
        let shim =
            Shim { pid: 7, id: "abc".into(), namespace: "k8s.io".into(), address: "/run/c.sock".into() };
        for line in [
            "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id abc -address /run/c.sock",
            "shim -debug -namespace=k8s.io --id abc -address /run/c.sock -socket x",
        ] {
            assert_eq!(parsed(line).as_ref(), Some(&shim), "{line}");
        }
    }

    #[test]
    fn commands_of_a_shim_and_other_programs_are_none() {
        for line in [
            "shim -namespace k8s.io -address /run/c.sock -publish-binary /c -id abc -bundle /b start",
            "shim -namespace k8s.io -id abc delete",
            "shim -namespace k8s.io -id abc",
            "shim -namespace k8s.io -address /run/c.sock -id",
            "sh -c x",
            "",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }

    #[test]
    fn a_socket_may_have_two_paths() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("socket"), dir.path().join("link"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert!(same_socket(&link, &socket));
        assert!(same_socket(Path::new("/gone"), Path::new("/gone")));
        assert!(!same_socket(Path::new("/gone"), &socket) && !same_socket(dir.path(), &socket));
    }

    #[tokio::test]
    async fn a_process_that_is_not_this_shim_is_left_alone() {
        let mut other = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let pid = other.id().unwrap();
        let shim = Shim { pid, id: "abc".into(), namespace: "test".into(), address: "/nowhere".into() };
        shim.end().await.unwrap();
        assert!(other.try_wait().unwrap().is_none());
        other.kill().await.unwrap();
        shim.end().await.unwrap();
    }
}
