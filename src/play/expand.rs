//! `$(VAR)` in commands, arguments and values of variables, as Kubernetes expands them.
//!
//! `$(VAR)` becomes the variable's value, or stays as it is when there is none; `$$` becomes `$`, so that `$$(VAR)`
//! comes out as `$(VAR)`; any other `$` stays.

/// Expands a text; `lookup` knows the variables.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

/// The variables of a container, each expanded by those before it; of two of one name the later counts.
pub fn environment(env: &[(String, String)]) -> Vec<(String, String)> {
    let mut expanded: Vec<(String, String)> = Vec::new();
    for (name, value) in env {
        let value = expand(value, |name| variable(&expanded, name));
        expanded.retain(|(other, _)| other != name);
        expanded.push((name.clone(), value));
    }
    expanded
}

/// A variable's value.
pub fn variable<'v>(env: &'v [(String, String)], name: &str) -> Option<&'v str> {
    env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let cases = [
            ("$(A)", "one"),
            ("x$(A)y$(B)z", "xoneytwoz"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("a$", "a$"),
            ("$()", "$()"),
            ("$($(A))", "$($(A))"),
            ("é$(A)ü", "éoneü"),
        ];
        for (text, expected) in cases {
            let lookup = |name: &str| match name {
                "A" => Some("one"),
                "B" => Some("two"),
                _ => None,
            };
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_sees_those_before_it() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let written = env(&[("A", "1"), ("B", "$(A)2"), ("C", "$(D)"), ("D", "x"), ("A", "$(B)3")]);
        assert_eq!(environment(&written), env(&[("B", "12"), ("C", "$(D)"), ("D", "x"), ("A", "123")]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_without_a_dollar_nothing_changes(text in "[$()a-cé]{0,20}") {
            expand(&text, |_| Some("v"));
            let plain = text.replace('$', "");
            assert_eq!(expand(&plain, |_| Some("v")), plain);
        }
    }
}
