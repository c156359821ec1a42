//! Image references as users write them, normalised as docker does (`nginx` is `docker.io/library/nginx:latest`).
//!
//! Own parser: the grammar is small, and what passes is safe in a path, a URL and a log line.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::id::Digest;

/// Characters of `registry/repository`, as docker has it.
const NAME_MAX: usize = 255;
/// Characters of a tag (OCI distribution spec, "Pulling manifests").
const TAG_MAX: usize = 128;
/// Characters of a refused text that its error repeats.
pub(super) const QUOTED_MAX: usize = 256;
/// The registry of a name that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// A checked reference. Exactly one of tag and digest is set: a digest wins over a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an image reference: {why}")]
pub struct InvalidReference {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|why| InvalidReference { text: text.chars().take(QUOTED_MAX).collect(), why })
    }
}

impl Reference {
    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository by digest: the form of `repo_digests`.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), tag: None, ..self.clone() }
    }
}

impl fmt::Display for Reference {
    /// The normalised form: `registry/repository:tag` or `registry/repository@digest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if is_image_id(text) {
        return Err("it is an image id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, repository) = split_registry(name)?;
    if registry.len() + 1 + repository.len() > NAME_MAX {
        return Err("its name is longer than 255 characters");
    }
    let tag = match &digest {
        Some(_) => None,
        None => Some(tag.unwrap_or(DEFAULT_TAG).to_owned()),
    };
    Ok(Reference { registry, repository, tag, digest })
}

/// What follows the last colon, unless a slash follows that colon: then the colon is a port's.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains(['/', ']']) => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Docker's rule: the first part is a registry if it looks like a host, or has an upper-case letter, which no
/// repository may have.
fn split_registry(name: &str) -> Result<(String, String), &'static str> {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    check_registry(registry)?;
    check_repository(repository)?;
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let library = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let repository = if library { format!("library/{repository}") } else { repository.to_owned() };
    Ok((registry.to_owned(), repository))
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if port.is_some_and(|port| !digits(port) || !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("its registry's port is not a number from 1 to 65535");
    }
    if let Some(address) = host.strip_prefix('[') {
        let address =
            address.strip_suffix(']').ok_or("its registry's IPv6 address lacks the closing bracket")?;
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("its registry is not an IPv6 address in brackets"),
        };
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err("its registry is not a host name") }
}

/// OCI distribution spec, "Pulling manifests": `<name>`.
fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("its repository has upper-case letters");
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(
            "its repository is not made of a-z and 0-9, separated by one of . _ __ or dashes, between slashes",
        )
    }
}

/// Runs of letters and digits, with one separator between each two.
fn is_component(text: &str) -> bool {
    let plain = |b: char| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !text.starts_with(plain) || !text.ends_with(plain) {
        return false;
    }
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    text.split(plain).all(separator)
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if tag.len() > TAG_MAX {
        return Err("its tag is longer than 128 characters");
    }
    let inner = |b: u8| word(b) || b == b'.' || b == b'-';
    if tag.bytes().next().is_some_and(word) && tag.bytes().all(inner) {
        Ok(())
    } else {
        Err("its tag is not made of letters, digits, _ . and -, starting with one of the first three")
    }
}

/// Takes a digest of a kind that can be checked here.
pub(super) fn parse_digest(text: &str) -> Result<Digest, &'static str> {
    let (algorithm, hex) = text.split_once(':').ok_or("its digest is not <algorithm>:<hex>")?;
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return Err("its digest is neither sha256 nor sha512"),
    };
    if hex.len() == length && is_hex(hex) {
        Ok(Digest::new(text))
    } else {
        Err("its digest has not the length or letters of its algorithm")
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Bare hex, or a digest: the CRI takes these as image ids, never as the name of an image to pull.
fn is_image_id(text: &str) -> bool {
    (text.len() == 64 && is_hex(text)) || parse_digest(text).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn normalised(text: &str) -> String {
        text.parse::<Reference>().unwrap_or_else(|e| panic!("{e}")).to_string()
    }

    #[track_caller]
    fn refused(text: &str) -> &'static str {
        text.parse::<Reference>().expect_err(text).why
    }

    #[test]
    fn names_become_what_docker_makes_of_them() {
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("kind/node", "docker.io/kind/node:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("[fd00::1]/a/b", "[fd00::1]/a/b:latest"),
            ("MyHost/a", "MyHost/a:latest"),
            ("a__b/c.d-e--f_g:T_1.2-x", "docker.io/a__b/c.d-e--f_g:T_1.2-x"),
            ("host:5000", "docker.io/library/host:5000"),
        ] {
            assert_eq!(normalised(text), expected, "{text}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let both: Reference = format!("nginx:1.25@sha256:{HEX}").parse().unwrap();
        assert_eq!((both.tag.as_deref(), both.digest), (None, Some(Digest::new(format!("sha256:{HEX}")))));
        let long = format!("a.b/c@sha512:{HEX}{HEX}");
        assert_eq!(normalised(&long), long);
    }

    #[test]
    fn image_ids_are_no_names() {
        for text in [HEX, &format!("sha256:{HEX}"), &format!("sha512:{HEX}{HEX}")] {
            assert_eq!(refused(text), "it is an image id, not a name");
        }
        // As a part of a name it is only unusual.
        assert_eq!(normalised(&format!("a/{HEX}")), format!("docker.io/a/{HEX}:latest"));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("a.b/{}", "n".repeat(252));
        let mixed = format!("a@sha256:{}", HEX.to_uppercase());
        for (text, why) in [
            ("", "empty"),
            ("Nginx", "upper-case"),
            ("a.b/C", "upper-case"),
            ("-a", "repository"),
            ("a..b", "repository"),
            ("x/../b", "repository"),
            ("a/", "repository"),
            ("a//b", "repository"),
            ("/a", "repository"),
            ("a___b", "repository"),
            ("a b", "repository"),
            ("ä", "repository"),
            ("a\0b", "repository"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a:b:c", "repository"),
            ("a@", "digest"),
            ("a@sha256:abc", "digest has not the length"),
            ("a@md5:abc", "neither sha256 nor sha512"),
            ("h:0/a", "port"),
            ("h:65536/a", "port"),
            ("h:+80/a", "port"),
            ("h:/a", "port"),
            ("[::1/a", "bracket"),
            ("[::g]:80/a", "IPv6"),
            ("a_b.c/d", "host name"),
            ("-h.c/d", "host name"),
            (&long_tag, "128"),
            (&long_name, "255"),
            (&mixed, "digest has not the length"),
        ] {
            assert!(refused(text).contains(why), "{text}: {}", refused(text));
        }
        assert_eq!(normalised(&format!("a.b/{}", "n".repeat(251))).len(), 255 + ":latest".len());
    }

    #[test]
    fn an_error_repeats_only_so_much() {
        let error = "A".repeat(1 << 20).parse::<Reference>().unwrap_err();
        assert_eq!(error.text.len(), QUOTED_MAX);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn the_normalised_form_is_a_fixed_point(text in "([A-Za-z0-9.:\\[\\]-]{1,12}/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9._-]{1,8})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
