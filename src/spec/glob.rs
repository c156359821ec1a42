//! Shell patterns as Go's `path.Match` reads them: the handlers' annotation lists are written for it.
//!
//! `*` and `?` stop at `/`; `[a-z]` and `[^a-z]` do not; `\` quotes. A malformed pattern matches nothing.

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Char(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::Char(own) => *own == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

/// Whether all of `name` fits the pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    parse(pattern).is_some_and(|tokens| fits(&tokens, &name.chars().collect::<Vec<_>>()))
}

/// The tokens; `None` when malformed.
fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Char(chars.next()?),
            '[' => class(&mut chars)?,
            c => Token::Char(c),
        });
    }
    Some(tokens)
}

/// The rest of a class after its bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = bound(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { bound(chars)? } else { low };
        ranges.push((low, high));
    }
    Some(Token::Class { negated, ranges })
}

/// One end of a range: any character but `-` and `]`, which want quoting.
fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// Each star takes as little as lets the tokens up to the next star fit, and never a slash.
fn fits(tokens: &[Token], name: &[char]) -> bool {
    let (mut t, mut n) = (0, 0);
    // Where to go on when the tokens after the last star do not fit: the star, and what it has taken up to.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(t), name.get(n)) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                star = Some((t, n));
                t += 1;
            }
            (Some(token), Some(&c)) if token.fits(c) => (t, n) = (t + 1, n + 1),
            _ => match star {
                Some((at, taken)) if name.get(taken).is_some_and(|&c| c != '/') => {
                    star = Some((at, taken + 1));
                    (t, n) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_mean_what_go_says() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a[/]b", "a/b", true),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[a-b-c]", "a", false),
            ("[", "a", false),
            ("[^", "a", false),
            ("a\\", "a", false),
            ("a[", "a", false),
            ("*x", "xxx", true),
            ("io.kubernetes.*", "io.kubernetes.cri.x", true),
            ("com.example/*", "com.example/a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    /// The definition, by recursion, for patterns without classes.
    fn slow(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                slow(rest, name) || matches!(name, [c, tail @ ..] if *c != '/' && slow(pattern, tail))
            }
            (['?', rest @ ..], [c, tail @ ..]) => *c != '/' && slow(rest, tail),
            ([p, rest @ ..], [c, tail @ ..]) => p == c && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_agrees_with_the_definition(pattern in "[ab/*?]{0,8}", name in "[ab/]{0,10}") {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), slow(&p, &n));
        }

        #[test]
        fn no_pattern_panics(pattern in "\\PC*|[\\[\\]^\\\\*?a-]*", name in "\\PC*") {
            matches(&pattern, &name);
        }

        #[test]
        fn a_quoted_text_matches_itself_only(name in "\\PC{0,9}", other in "\\PC{0,9}") {
            let quoted: String = name.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&quoted, &name));
            prop_assert_eq!(matches(&quoted, &other), name == other);
        }
    }
}
