//! Finds an id by any unique prefix, as the built-in plugin's index does (contract §0).

use std::collections::BTreeSet;
use std::ops::Bound;

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
        let mut from_here = self.0.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        match from_here.next() {
            Some(id) if !prefix.is_empty() && id.starts_with(prefix) => {
                let alone = id == prefix || !from_here.next().is_some_and(|next| next.starts_with(prefix));
                if alone { PrefixMatch::Found(id.clone()) } else { PrefixMatch::Ambiguous }
            }
            _ => PrefixMatch::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(ids: &[&str]) -> PrefixIndex {
        let mut index = PrefixIndex::default();
        ids.iter().for_each(|id| index.insert(id));
        index
    }

    #[test]
    fn a_unique_prefix_finds_its_id() {
        let index = index(&["abc1", "abd2", "b"]);
        assert_eq!(index.find("abc"), PrefixMatch::Found("abc1".into()));
        assert_eq!(index.find("b"), PrefixMatch::Found("b".into()));
        assert_eq!(index.find("ab"), PrefixMatch::Ambiguous);
        assert_eq!(index.find("abc12"), PrefixMatch::None);
        assert_eq!(index.find("zz"), PrefixMatch::None);
    }

    #[test]
    fn a_whole_id_wins_over_longer_ones() {
        assert_eq!(index(&["ab", "abc"]).find("ab"), PrefixMatch::Found("ab".into()));
    }

    #[test]
    fn the_empty_prefix_matches_nothing() {
        assert_eq!(index(&["only"]).find(""), PrefixMatch::None);
        assert_eq!(index(&[""]).find(""), PrefixMatch::None);
    }

    #[test]
    fn a_removed_id_is_not_found() {
        let mut index = index(&["abc1", "abd2"]);
        index.remove("abc1");
        assert_eq!(index.find("ab"), PrefixMatch::Found("abd2".into()));
    }
}
