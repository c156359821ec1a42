//! What happens to pods and containers, told as it happens to whoever was made the listener; the domain does not know
//! who that is.
//!
//! Invariant: one change after the other is made and told. What a listener sees is in the order of the changes, and
//! while it looks around nothing changes.

use std::sync::{Mutex, PoisonError};

use super::Sandbox;
use crate::id::PodId;

/// What has happened (the CRI's ContainerEventType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    Created,
    Started,
    Stopped,
    Deleted,
}

/// Something that has happened to a sandbox, or to a container in it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub happening: Happening,
    /// The sandbox's or the container's.
    pub id: &'a str,
    pub pod: &'a PodId,
    /// `None` for a container whose sandbox is not known.
    pub sandbox: Option<&'a Sandbox>,
}

/// Is told of every change. It must be quick, and must not change anything.
pub type Listener = Box<dyn Fn(Change<'_>) + Send + Sync>;

/// The one place where changes of state are made.
#[derive(Default)]
pub struct Changes(Mutex<Option<Listener>>);

impl Changes {
    /// From now on, `listener` is told.
    pub fn listen(&self, listener: Listener) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    /// Makes a change, which says what has happened by it, and tells.
    pub(crate) fn make(
        &self,
        id: &str,
        pod: &PodId,
        sandbox: Option<&Sandbox>,
        change: impl FnOnce() -> &'static [Happening],
    ) {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let happenings = change();
        if let Some(listener) = &*listener {
            happenings.iter().for_each(|&happening| listener(Change { happening, id, pod, sandbox }));
        }
    }
}
