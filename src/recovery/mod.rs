//! Makes what is known agree with what is: at start, after each reconnection to containerd, and for pods that the
//! built-in plugin started. One path for all three: [`load`] takes in the records that are not known yet,
//! [`compare_pods`] and [`compare_containers`] hold every entry against containerd's tasks. [`pause_deleted`] does that
//! for one pod, whose shim may have died.
//!
//! Invariant: nothing is made up. A task that is missing has some seconds for the shim's last words, which carry the
//! exit code, before its container counts as lost.

mod compare;
mod decide;
mod load;

pub use compare::{Tasks, compare_containers, compare_pods, pause_deleted};
pub use load::{load, of_kind};

use crate::containerd::ContainerdError;
use crate::error::Kind;

/// Why the comparison could not be made: containerd's fault always.
#[derive(Debug, thiserror::Error)]
#[error("cannot compare what is known with containerd")]
pub struct RecoveryError(#[from] ContainerdError);

impl RecoveryError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }
}
