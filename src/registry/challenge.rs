//! `WWW-Authenticate` as registries send it (RFC 9110 §11.6.1; the distribution project's token specification).
//!
//! Pure. A header may hold several challenges, and a response several headers; the first usable one counts.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Bytes of one header that are looked at: a registry's answer is not ours to trust.
const HEADER_MAX: usize = 8 << 10;

/// What a registry wants to see before it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token of the server at `realm`, for `service`; the scope is space-separated.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer: a token is preferred to a password.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Self> = values.flat_map(parse).collect();
        let bearer = all.iter().position(|challenge| matches!(challenge, Self::Bearer { .. }));
        all.into_iter().nth(bearer.unwrap_or(0))
    }
}

/// The challenges of one header that can be answered here, in order.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.get(..header.len().min(HEADER_MAX)).unwrap_or_default();
    while let Some((scheme, after)) = token(rest) {
        let (parameters, after) = parameters(after);
        rest = after;
        let find = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            challenges.push(Challenge::Bearer { realm, service: find("service"), scope: find("scope") });
        }
    }
    challenges
}

/// The next token, after blanks and commas.
fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)));
    let (token, rest) = text.split_at(end.unwrap_or(text.len()));
    (!token.is_empty()).then_some((token, rest))
}

/// `key=value` pairs up to the next scheme, which is a token that no `=` follows.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    while let Some((key, after)) = token(text) {
        let Some(after) = after.trim_start().strip_prefix('=') else { break };
        let (value, after) = value(after.trim_start());
        found.push((key, value));
        text = after;
    }
    (found, text)
}

/// A quoted string, or what lies before the next comma or blank.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn headers_as_registries_send_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        for (header, challenges) in [
            (hub, vec![expected]),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            ("BEARER realm=https://t/x", vec![bearer("https://t/x", None, None)]),
            (
                r#"Basic realm="a, b", Bearer realm = "r\"q" , service=s"#,
                vec![Challenge::Basic, bearer("r\"q", Some("s"), None)],
            ),
            (r#"Negotiate, Bearer realm="r",scope="""#, vec![bearer("r", None, None)]),
            (r#"Bearer service="s""#, vec![]),
            (r#"Bearer realm="unclosed"#, vec![bearer("unclosed", None, None)]),
            ("", vec![]),
            ("=,=", vec![]),
        ] {
            assert_eq!(parse(header), challenges, "{header}");
        }
    }

    #[test]
    fn a_token_is_preferred_over_headers_too() {
        let mut headers = HeaderMap::new();
        assert_eq!(Challenge::of(&headers), None);
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        assert_eq!(Challenge::of(&headers), Some(Challenge::Basic));
        headers.append(WWW_AUTHENTICATE, "Bearer realm=x".parse().unwrap());
        assert_eq!(Challenge::of(&headers), Some(bearer("x", None, None)));
    }

    proptest! {
        #[test]
        fn no_header_panics(header in any::<String>()) {
            parse(&header);
        }

        #[test]
        fn nor_one_of_the_right_letters(header in "(bearer|[a-z=,\"\\\\ ]){0,40}") {
            parse(&header);
        }
    }
}
