//! A document whose every value knows which key of which file it came from.

use std::collections::BTreeMap;

use toml::Value;

pub(super) type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Leaf(Leaf),
    Table(Tree),
}

/// Anything but a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    pub value: Value,
    /// Its full key, and its file where that is not the first.
    pub from: String,
}

/// How a table's values are put over those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// All of them.
    Everything,
    /// An empty text, 0 and false take nothing away, as in the part of the file that containerd knows by heart.
    WhatIsSet,
}

/// The tree of a table; `origin` is told of each of its values after its key.
pub(super) fn planted(table: toml::Table, prefix: &str, origin: &str) -> Tree {
    let node = |(key, value): (String, Value)| {
        let full = format!("{prefix}{}", quoted(&key));
        let node = match value {
            Value::Table(inner) => Node::Table(planted(inner, &format!("{full}."), origin)),
            value => Node::Leaf(Leaf { value, from: format!("{full}{origin}") }),
        };
        (key, node)
    };
    table.into_iter().map(node).collect()
}

/// Puts one tree over another: tables key by key, all else as a whole. Returns what does not count any more.
pub(super) fn lay(upper: Tree, over: Over, lower: &mut Tree) -> Vec<Leaf> {
    let mut overruled = Vec::new();
    for (key, node) in upper {
        match (node, lower.get_mut(&key)) {
            (Node::Table(upper), Some(Node::Table(lower))) => overruled.extend(lay(upper, over, lower)),
            (Node::Leaf(leaf), Some(_)) if over == Over::WhatIsSet && is_empty(&leaf.value) => {
                overruled.push(leaf);
            }
            (node, _) => overruled.extend(lower.insert(key, node).into_iter().flat_map(leaves_of)),
        }
    }
    overruled
}

/// What Go calls the zero value.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Boolean(truth) => !truth,
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        Value::Float(_) | Value::Datetime(_) => false,
    }
}

/// Takes the table of that name out; what is no table stays.
pub(super) fn take_table(tree: &mut Tree, key: &str) -> Option<Tree> {
    match tree.remove(key)? {
        Node::Table(table) => Some(table),
        leaf => {
            tree.insert(key.to_owned(), leaf);
            None
        }
    }
}

/// Takes these keys out.
pub(super) fn take(tree: &mut Tree, keys: &[&str]) -> Tree {
    keys.iter().filter_map(|key| tree.remove_entry(*key)).collect()
}

/// All values, in the order of their keys.
pub(super) fn leaves(tree: Tree) -> Vec<Leaf> {
    tree.into_values().flat_map(leaves_of).collect()
}

fn leaves_of(node: Node) -> Vec<Leaf> {
    match node {
        Node::Leaf(leaf) => vec![leaf],
        Node::Table(inner) => leaves(inner),
    }
}

/// A key as TOML writes it: bare where it may be.
pub(super) fn quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.bytes().all(bare) {
        return key.to_owned();
    }
    let escaped: String = key
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(text: &str) -> Tree {
        planted(text.parse().unwrap(), "", "")
    }

    #[test]
    fn tables_are_put_over_each_other_key_by_key() {
        let lower = "a = 1\nb = true\nlist = [1, 2]\n[t]\nx = 1\ny = 'y'";
        let upper = "a = 0\nb = false\nlist = [3]\n[t]\ny = ''\nz = 3";
        for (over, expected) in [
            (Over::Everything, "a = 0\nb = false\nlist = [3]\n[t]\nx = 1\ny = ''\nz = 3"),
            (Over::WhatIsSet, "a = 1\nb = true\nlist = [3]\n[t]\nx = 1\ny = 'y'\nz = 3"),
        ] {
            let mut merged = tree(lower);
            let overruled = lay(tree(upper), over, &mut merged);
            assert_eq!(merged, tree(expected), "{over:?}");
            let keys: Vec<_> = overruled.into_iter().map(|leaf| leaf.from).collect();
            assert_eq!(keys, ["a", "b", "list", "t.y"], "{over:?}");
        }
    }

    #[test]
    fn every_value_tells_its_key() {
        let planted = planted("[plugins.'a.b'.c]\nd = 1".parse().unwrap(), "", " (/x.toml)");
        let from: Vec<_> = leaves(planted).into_iter().map(|leaf| leaf.from).collect();
        assert_eq!(from, ["plugins.\"a.b\".c.d (/x.toml)"]);
    }

    proptest! {
        #[test]
        fn a_quoted_key_reads_back(key in any::<String>()) {
            let table: toml::Table = format!("{} = 1", quoted(&key)).parse().unwrap();
            prop_assert_eq!(table.keys().next(), Some(&key));
        }
    }
}
