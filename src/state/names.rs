//! Names that one object at a time may hold: `name_namespace_uid_attempt`, `container_pod_namespace_uid_attempt`.

use std::collections::HashMap;
use std::sync::Mutex;

/// Names in use and who holds them. `Id` is a pod or a container id.
#[derive(Debug)]
pub struct Names<Id>(Mutex<HashMap<String, Id>>);

/// The name belongs to somebody else.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("name {name:?} is held by {holder}")]
pub struct Taken {
    pub name: String,
    pub holder: String,
}

impl<Id> Default for Names<Id> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Id: Clone + PartialEq + AsRef<str>> Names<Id> {
    /// Takes the name for `id`; taking it again for the same id is fine.
    pub fn reserve(&self, name: &str, id: &Id) -> Result<(), Taken> {
        unimplemented!("{name} {}", id.as_ref())
    }

    /// Gives the name back if `id` holds it.
    pub fn release(&self, name: &str, id: &Id) {
        unimplemented!("{name} {}", id.as_ref())
    }

    /// Who holds the name.
    pub fn holder(&self, name: &str) -> Option<Id> {
        unimplemented!("{name}")
    }
}
