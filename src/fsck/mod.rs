//! What belongs to nobody: compares all that pods leave on a node with each other, and says what no pod owns and why.
//!
//! ```text
//! look/       what there is, each kind by a collector of its own, into a Seen
//! judge.rs    from a Seen to Orphans, each with its reason; pure
//! remove.rs   how each kind goes
//! check.rs    `cridge fsck`: two looks, and with --repair the removal
//! daemon.rs   the same beside the daemon, after every comparison with containerd
//! ```
//!
//! Two rules make a judgement right. Whatever a pod owns comes after its record and goes before it (`sandbox`'s
//! invariant); and things are looked at before their owners. So what was seen, and has no owner in a list that was made
//! later, has lost its owner or never had one.
//!
//! Invariant: what cannot be attributed is left alone. Only names that are ids count, in places that nobody else is seen
//! to use; what another namespace of containerd, or another containerd, may own is its own.

mod check;
mod daemon;
mod error;
mod judge;
mod look;
mod remove;
mod seen;

pub use check::{Finding, Outcome, Repair, Report, fsck};
pub use daemon::{Findings, after_comparison, findings};
pub use error::FsckError;
pub use judge::Kind;

use std::sync::Arc;

use crate::config::Config;
use crate::containerd::Containerd;
use crate::sandbox::Handlers;

/// What it takes to look at a node, and to remove from it.
#[derive(Clone)]
struct Fsck {
    config: Arc<Config>,
    containerd: Containerd,
    handlers: Handlers,
}
