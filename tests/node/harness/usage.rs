//! What the server holds of the machine.

use std::path::PathBuf;

use super::Node;

/// Memory in bytes, and things by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub resident: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Node {
    /// What the server holds now.
    pub fn usage(&self) -> Usage {
        Usage { resident: self.resident(), descriptors: self.held("fd"), threads: self.held("task") }
    }

    /// Bytes of memory that the server holds.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(self.of_server().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// File descriptors of the server.
    pub fn descriptors(&self) -> usize {
        self.held("fd")
    }

    fn held(&self, what: &str) -> usize {
        std::fs::read_dir(self.of_server().join(what)).unwrap().count()
    }

    fn of_server(&self) -> PathBuf {
        format!("/proc/{}", self.server_pid().expect("it runs")).into()
    }
}
