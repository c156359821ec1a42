//! The kernel's own mechanisms: namespaces, mounts, cgroups, capabilities, devices. The only `unsafe` of the program.
//!
//! Invariant: a namespace is entered only on a throw-away thread, never on one of the async runtime's.

pub mod apparmor;
pub mod caps;
pub mod cgroup;
pub mod cgroup_names;
pub mod device;
pub mod error;
pub mod fdstore;
pub mod file;
#[cfg(test)]
mod fuzz;
pub mod idmap;
mod link;
pub mod lock;
pub mod mount;
mod mount_options;
mod mountinfo;
pub mod netns;
pub mod pidfd;
pub mod process;
pub mod rootfs;
pub mod selinux;
pub mod socket;
mod thread;
pub mod userns;
pub mod wait;

pub use error::LinuxError;
pub use mount::MountInfo;
use thread::on_thread;

/// Ends a test that cannot mean anything without root, loudly.
#[cfg(test)]
pub(crate) fn require_root() {
    assert!(rustix::process::geteuid().is_root(), "this test makes namespaces and mounts: run it as root");
}
