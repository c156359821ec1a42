//! containerd's events of this namespace.

use super::{Containerd, ContainerdError, Exit};
use crate::time::Timestamp;

/// What the watchers need to know of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The init of a task ended (`exec_id` empty in containerd's event), or one of its execs.
    TaskExit {
        container_id: String,
        exec_id: Option<String>,
        pid: u32,
        exit: Exit,
    },
    /// A shim's last words after the task is deleted: code and time once more.
    TaskDelete {
        container_id: String,
        pid: u32,
        exit: Exit,
    },
    TaskOom {
        container_id: String,
    },
    ImageCreated {
        name: String,
    },
    ImageUpdated {
        name: String,
    },
    ImageDeleted {
        name: String,
    },
}

/// A live subscription. `next` ends with an error when the connection is lost: subscribe again, then compare.
#[derive(Debug)]
pub struct EventStream(());

impl Containerd {
    /// Subscribes to task exit, delete and OOM events and to image events. Returns once containerd has accepted, so
    /// that what happens from then on is seen.
    pub async fn subscribe(&self) -> Result<EventStream, ContainerdError> {
        unimplemented!()
    }
}

impl EventStream {
    /// The next event and when containerd published it.
    pub async fn next(&mut self) -> Result<(Timestamp, Event), ContainerdError> {
        unimplemented!()
    }
}
