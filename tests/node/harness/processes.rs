//! Processes of pods and containers, found without asking anybody: those who could be asked may be dead.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::Node;

/// A shim that reports to a node's containerd.
pub struct ShimProcess {
    pub pid: u32,
    /// Of the pod that it was started for.
    pub id: String,
    /// Its command, in words.
    pub line: String,
}

impl ShimProcess {
    /// Whether it only starts the one that stays.
    pub fn is_starting(&self) -> bool {
        self.line.split_whitespace().any(|word| word == "start")
    }
}

pub fn shims(node: &Node) -> Vec<ShimProcess> {
    let socket = node.dir.join("containerd.sock").display().to_string();
    let shim = |process: PathBuf| {
        let line = fs::read(process.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.contains("containerd-shim") || !line.contains(&socket) {
            return None;
        }
        let id =
            line.split_whitespace().skip_while(|word| *word != "-id").nth(1).unwrap_or_default().to_owned();
        Some(ShimProcess { pid: pid_of(&process)?, id, line })
    };
    all().filter_map(shim).collect()
}

/// Those in the cgroup that is called after the container, or the pod's pause.
pub fn of_container(id: &str) -> Vec<u32> {
    let members = all()
        .filter(|process| fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(id)));
    members.filter_map(|process| pid_of(&process)).collect()
}

/// One that has just ended is fine.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal);
}

/// Their folders in /proc.
pub(super) fn all() -> impl Iterator<Item = PathBuf> + use<> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter(|path| pid_of(path).is_some())
}

fn pid_of(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}
