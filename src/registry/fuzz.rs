use std::path::Path;

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::answer;
use super::challenge::Challenge;
use super::hosts_file;
use super::reference::Reference;
use crate::fuzz::{fuzz, fuzz_text};

#[test]
fn no_reference_does_harm() {
    fuzz_text("reference", |text| {
        let Ok(reference) = text.parse::<Reference>() else { return };
        // What passes is safe in a path and a URL.
        let normal = reference.to_string();
        assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "{normal:?}");
        assert!(!reference.repository.split('/').any(|part| matches!(part, "" | "." | "..")), "{normal:?}");
        assert_eq!(normal.parse::<Reference>().as_ref(), Ok(&reference));
    });
}

#[test]
fn no_challenge_does_harm() {
    fuzz("challenge", |input, _| {
        let mut headers = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(WWW_AUTHENTICATE, value);
            }
        }
        if let Some(Challenge::Bearer { realm, service, scope }) = Challenge::of(&headers) {
            let told = [Some(realm), service, scope].into_iter().flatten();
            told.for_each(|text| assert!(!text.is_empty() && text.len() <= input.len()));
        }
    });
}

#[test]
fn no_hosts_file_does_harm() {
    fuzz_text("hosts-toml", |text| match hosts_file::parse(text, Path::new("/etc/certs.d/host")) {
        Ok(parsed) => {
            let bases = parsed.hosts.iter().map(|(base, _)| base).chain(&parsed.server);
            for base in bases {
                assert!(base.has_host() && matches!(base.scheme(), "http" | "https"), "{base}");
                assert!(base.username().is_empty() && base.password().is_none() && base.query().is_none());
            }
        }
        Err(why) => assert!(!why.is_empty()),
    });
}

#[test]
fn no_explanation_does_harm() {
    fuzz("answer", |input, _| {
        let told = answer::message(input).map(|message| answer::presentable(&message)).unwrap_or_default();
        assert!(told.chars().count() <= 300 && !told.contains(char::is_control), "{told:?}");
    });
}
