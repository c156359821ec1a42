//! Capabilities by name, and what another process has.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::LinuxError;

/// Every capability that this program knows, at the index of its number (include/uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities, as the kernel's bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// Names (`CAP_CHOWN`, …) in the order of their numbers, without those that this program does not know.
    pub fn names(self) -> Vec<&'static str> {
        NAMES.iter().enumerate().filter(|(n, _)| self.0 & (1 << n) != 0).map(|(_, name)| *name).collect()
    }

    /// Whether the capability is in the set.
    pub fn has(self, name: &str) -> bool {
        NAMES.iter().position(|known| *known == name).is_some_and(|n| self.0 & (1 << n) != 0)
    }
}

/// The effective capabilities of a process (/proc/PID/status).
pub fn effective(pid: i32) -> Result<CapSet, LinuxError> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = fs::read_to_string(&path).map_err(LinuxError::on("read", &path))?;
    effective_in(&status).ok_or_else(|| {
        LinuxError::on("understand", &path)(io::Error::new(io::ErrorKind::InvalidData, "no line CapEff"))
    })
}

fn effective_in(status: &str) -> Option<CapSet> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(CapSet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_kernels_numbers() {
        assert_eq!(CapSet(1).names(), ["CAP_CHOWN"]);
        assert_eq!(CapSet(1 << 21 | 1 << 40).names(), ["CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]);
        assert_eq!(CapSet(u64::MAX).names().len(), 41);
        assert!(CapSet(1 << 24).has("CAP_SYS_RESOURCE"));
        assert!(!CapSet(u64::MAX).has("CAP_UNHEARD_OF"));
    }

    #[test]
    fn the_effective_mask_is_read() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n";
        let set = effective_in(status).unwrap();
        assert!(set.has("CAP_SYS_ADMIN") && !set.has("CAP_SYS_RESOURCE"));
        assert_eq!(effective_in("Name:\tx\n"), None);
        effective(std::process::id() as i32).unwrap();
    }
}
