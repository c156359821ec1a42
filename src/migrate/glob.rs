//! Patterns of paths as containerd's `imports` have them: those of Go's `filepath.Glob`.

use std::fs;
use std::path::{Path, PathBuf};

/// The paths that fit, in order; empty where there are none. `None`: the pattern is none.
pub(super) fn glob(pattern: &Path) -> Option<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str().to_str()?;
        fits(part, "")?;
        let grown = |path: PathBuf| if is_plain(part) { there(path.join(part)) } else { within(&path, part) };
        found = found.into_iter().flat_map(grown).collect();
    }
    Some(found)
}

fn is_plain(part: &str) -> bool {
    !part.contains(['*', '?', '[', '\\'])
}

fn there(path: PathBuf) -> Vec<PathBuf> {
    if fs::symlink_metadata(&path).is_ok() { vec![path] } else { Vec::new() }
}

fn within(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut fitting: Vec<_> = names.filter(|name| fits(pattern, name) == Some(true)).collect();
    fitting.sort();
    fitting.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a name fits: `*` is any rest, `?` any character, `[a-z]` and `[^a-z]` one of a set, `\` takes the next
/// character as it is. `None`: a set has no end, or `\` has nothing behind it.
fn fits(pattern: &str, name: &str) -> Option<bool> {
    let pieces = pieces(pattern)?;
    let name: Vec<char> = name.chars().collect();
    // Which lengths of the name fit what has been seen of the pattern.
    let mut fitting = vec![false; name.len() + 1];
    fitting[0] = true;
    for piece in &pieces {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match piece {
                Piece::Any => fitting[at] || (at > 0 && next[at - 1]),
                Piece::One(set) => at > 0 && fitting[at - 1] && set.has(name[at - 1]),
            };
        }
        fitting = next;
    }
    fitting.last().copied()
}

enum Piece {
    Any,
    One(Set),
}

struct Set {
    ranges: Vec<(char, char)>,
    inverted: bool,
}

impl Set {
    fn has(&self, c: char) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != self.inverted
    }
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut chars = pattern.chars().peekable();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        let one = |c| Piece::One(Set { ranges: vec![(c, c)], inverted: false });
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One(Set { ranges: Vec::new(), inverted: true }),
            '\\' => one(chars.next()?),
            '[' => {
                let inverted = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let from = member(&mut chars)?;
                    let to = if chars.next_if_eq(&'-').is_some() { member(&mut chars)? } else { from };
                    ranges.push((from, to));
                }
                Piece::One(Set { ranges, inverted })
            }
            c => one(c),
        });
    }
    Some(pieces)
}

/// One end of a range.
fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_fit_as_go_says() {
        for (pattern, name, expected) in [
            ("*.toml", "10-a.toml", Some(true)),
            ("*.toml", ".toml", Some(true)),
            ("*.toml", "a.toml.bak", Some(false)),
            ("a*b*c", "aXbYbZc", Some(true)),
            ("?.toml", "ab.toml", Some(false)),
            ("[a-c]x", "bx", Some(true)),
            ("[^a-c]x", "bx", Some(false)),
            ("\\*", "*", Some(true)),
            ("\\*", "a", Some(false)),
            ("[", "a", None),
            ("[a", "a", None),
            ("[]a]", "]", None),
            ("a\\", "a", None),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_come_in_order_and_only_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/2.toml", "b/1.toml", "a/3.toml", "a/x"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = glob(&dir.path().join("*/*.toml")).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, ["a/3.toml", "b/1.toml", "b/2.toml"].map(Path::new));
        assert_eq!(glob(&dir.path().join("c/*.toml")), Some(Vec::new()));
        assert_eq!(glob(&dir.path().join("[")), None);
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a\\*?\\[\\]^\\\\-]{0,12}", name in "[a*]{0,8}") {
            let _ = fits(&pattern, &name);
        }
    }
}
