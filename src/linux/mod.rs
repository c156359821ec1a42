//! The kernel's own mechanisms: namespaces, mounts, cgroups, capabilities, devices. The only `unsafe` of the program.
//!
//! Invariant: a namespace is entered only on a throw-away thread, never on one of the async runtime's.

pub mod caps;
pub mod cgroup;
pub mod device;
pub mod error;
pub mod lock;
pub mod mount;
pub mod netns;
pub mod process;

pub use error::LinuxError;
