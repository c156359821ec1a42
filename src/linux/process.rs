//! Other processes: kernel, peers, pids.

use super::LinuxError;

/// The kernel's version, major and minor.
pub fn kernel_version() -> (u32, u32) {
    unimplemented!()
}

/// The node's name (uname's nodename).
pub fn hostname() -> String {
    unimplemented!()
}

/// `oom_score_adj` of a process.
pub fn oom_score_adj(pid: i32) -> Result<i32, LinuxError> {
    unimplemented!("{pid}")
}

/// Whether a process with this pid lives (zombies do not count).
pub fn is_alive(pid: i32) -> bool {
    unimplemented!("{pid}")
}
