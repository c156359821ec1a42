//! Finds an id by any unique prefix, as the built-in plugin's index does (contract §0).

use std::collections::BTreeSet;

/// Ids in order. Not locked: it lives inside a store's own lock.
#[derive(Debug, Default)]
pub struct PrefixIndex(BTreeSet<String>);

/// What a prefix stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum PrefixMatch {
    Found(String),
    None,
    /// More than one id begins so.
    Ambiguous,
}

impl PrefixIndex {
    pub fn insert(&mut self, id: &str) {
        self.0.insert(id.to_owned());
    }

    pub fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// A whole id wins over longer ones that begin with it. The empty prefix matches nothing.
    pub fn find(&self, prefix: &str) -> PrefixMatch {
        unimplemented!("{prefix}")
    }
}
