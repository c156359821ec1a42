//! Capabilities by name, and what another process has.

use super::LinuxError;

/// A set of capabilities, as the kernel's bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// Names (`CAP_CHOWN`, …) in the order of their numbers, without those that this program does not know.
    pub fn names(self) -> Vec<&'static str> {
        unimplemented!()
    }

    /// Whether the capability is in the set.
    pub fn has(self, name: &str) -> bool {
        unimplemented!("{name}")
    }
}

/// The effective capabilities of a process (/proc/PID/status).
pub fn effective(pid: i32) -> Result<CapSet, LinuxError> {
    unimplemented!("{pid}")
}
