//! Names that one object at a time may hold: `name_namespace_uid_attempt`, `container_pod_namespace_uid_attempt`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    ///
    /// # Errors
    /// [`Taken`] when another id holds it.
    pub fn reserve(&self, name: &str, id: &Id) -> Result<(), Taken> {
        match self.holders().entry(name.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(id.clone());
                Ok(())
            }
            Entry::Occupied(held) if held.get() == id => Ok(()),
            Entry::Occupied(held) => {
                Err(Taken { name: name.to_owned(), holder: held.get().as_ref().to_owned() })
            }
        }
    }

    /// Gives the name back if `id` holds it.
    pub fn release(&self, name: &str, id: &Id) {
        let mut holders = self.holders();
        if holders.get(name) == Some(id) {
            holders.remove(name);
        }
    }

    /// Who holds the name.
    pub fn holder(&self, name: &str) -> Option<Id> {
        self.holders().get(name).cloned()
    }

    /// No step under the lock leaves the map half changed, so a panic elsewhere does not spoil it.
    fn holders(&self) -> MutexGuard<'_, HashMap<String, Id>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PodId;

    #[test]
    fn a_name_has_one_holder_until_it_gives_it_back() {
        let (names, first, second) = (Names::default(), PodId::generate(), PodId::generate());
        assert_eq!(names.reserve("web_default_1_0", &first), Ok(()));
        assert_eq!(names.reserve("web_default_1_0", &first), Ok(()));
        let taken = names.reserve("web_default_1_0", &second).unwrap_err();
        assert_eq!(taken.holder, first.as_str());

        names.release("web_default_1_0", &second);
        assert_eq!(names.holder("web_default_1_0"), Some(first.clone()));
        names.release("web_default_1_0", &first);
        assert_eq!(names.holder("web_default_1_0"), None);
        assert_eq!(names.reserve("web_default_1_0", &second), Ok(()));
    }

    #[test]
    fn of_many_at_once_one_gets_the_name() {
        let names = Names::default();
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| names.reserve("one", &PodId::generate()).is_ok())).collect();
            tries.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }
}
