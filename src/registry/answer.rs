//! What a server answers in words and small documents, read with a bound on bytes and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::credentials::{Credentials, SCRUBBED_MIN};
use super::error::Cause;

/// To wait for the whole of a small answer; a manifest at its limit needs 35 kB/s.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes read of an answer that only explains a failure.
const EXPLANATION_MAX: usize = 16 << 10;
/// Characters of it that are repeated.
const MESSAGE_MAX: usize = 256;

/// Reads a body; None where it is longer than `limit`.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Option<Bytes>, Cause> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let read = async {
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(Cause::of)? {
            if body.len() + part.len() > limit {
                return Ok(None);
            }
            body.extend_from_slice(&part);
        }
        Ok(Some(body.freeze()))
    };
    let slow = Cause::TooSlow { limit: WHOLE_TIMEOUT };
    tokio::time::timeout(WHOLE_TIMEOUT, read).await.unwrap_or(Err(slow))
}

/// What a server was told in confidence, and its words may repeat.
#[derive(Clone, Copy)]
pub(super) struct Confided<'a> {
    pub credentials: &'a Credentials,
    /// Those that it alone got to see.
    pub headers: &'a HeaderMap,
}

impl Confided<'_> {
    /// A server's words without it.
    fn scrub(&self, text: &str) -> String {
        let text = self.credentials.scrub(text);
        self.headers.iter().fold(text, |text, (name, value)| {
            let value = value.to_str().unwrap_or_default();
            // A scheme stands before what is confided.
            let secret = if name == AUTHORIZATION { value.split_once(' ') } else { None };
            let secret = secret.map_or(value, |(_, secret)| secret);
            if secret.len() < SCRUBBED_MIN { text } else { text.replace(secret, "***") }
        })
    }
}

/// The failure that a response tells of.
pub(super) async fn failure(response: Response, confided: Confided<'_>) -> Cause {
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    Cause::Status { status, message: explanation(response, confided).await, retry_after }
}

/// A refusal, with what may be done about it.
pub(super) async fn denial(response: Response, confided: Confided<'_>, advice: &'static str) -> Cause {
    let status = response.status();
    Cause::Denied { status, message: explanation(response, confided).await, advice }
}

async fn explanation(response: Response, confided: Confided<'_>) -> Option<String> {
    let body = read(response, EXPLANATION_MAX).await.ok().flatten()?;
    message(&body).map(|message| presentable(&confided.scrub(&message))).filter(|message| !message.is_empty())
}

/// Seconds only: a date would need this clock to be the server's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Registries (OCI distribution spec, "Error codes") and token servers (RFC 6749 §5.2, and the ways of the large
/// ones) each have their own form.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Explained {
    errors: Vec<Coded>,
    error: Option<serde_json::Value>,
    error_description: Option<String>,
    details: Option<serde_json::Value>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Coded {
    code: Option<serde_json::Value>,
    message: Option<String>,
}

pub(super) fn message(body: &[u8]) -> Option<String> {
    let text = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let join = |parts: [Option<String>; 2]| {
        let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    };
    let Ok(explained) = serde_json::from_slice::<Explained>(body) else {
        let plain = std::str::from_utf8(body).ok()?.trim();
        return (!plain.starts_with(['<', '{', '['])).then(|| plain.to_owned());
    };
    let coded: Vec<String> =
        explained.errors.into_iter().filter_map(|error| join([text(error.code), error.message])).collect();
    if !coded.is_empty() {
        return Some(coded.join(", "));
    }
    let described = explained.error_description.or(explained.message).or(text(explained.details));
    join([text(explained.error), described])
}

/// One bounded line without control characters, and without the queries and credentials of its URLs.
pub(super) fn presentable(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.map(without_query).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn without_query(word: &str) -> String {
    let Some((before, url)) = word.split_once("://") else { return word.to_owned() };
    let url = url.split('?').next().unwrap_or_default();
    let (authority, path) = url.find('/').map_or((url, ""), |at| url.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{before}://{host}{path}")
}

/// Whether a token server's answer to a form means that it knows no forms.
pub(super) fn knows_no_forms(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status.as_u16(), 400 | 401 | 404 | 405)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(body: &str, expected: Option<&str>) {
        assert_eq!(
            message(body.as_bytes()).map(|message| presentable(&message)).as_deref(),
            expected,
            "{body}"
        );
    }

    #[test]
    fn every_kind_of_server_is_understood() {
        told(r#"{"errors":[{"code":"A","message":"b","detail":{}},{"code":"C"}]}"#, Some("A: b, C"));
        told(r#"{"details":"incorrect username or password"}"#, Some("incorrect username or password"));
        told(r#"{"error":"invalid_grant","error_description":"no"}"#, Some("invalid_grant: no"));
        told(r#"{"message":"m"}"#, Some("m"));
        told("rate limited\n", Some("rate limited"));
        for nothing in ["<html>", "{", "{}", r#"{"errors":[]}"#, r#"{"errors":7}"#] {
            told(nothing, None);
        }
    }

    #[test]
    fn what_was_confided_is_not_repeated() {
        let headers = [("authorization", "Bearer a-token"), ("x-meta", "of the operator"), ("x-short", "is")];
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), reqwest::header::HeaderValue::from_static(value)))
            .collect();
        let credentials = Credentials::default();
        let confided = Confided { credentials: &credentials, headers: &headers };
        assert_eq!(confided.scrub("a-token of the operator is no good"), "*** *** is no good");
    }

    #[test]
    fn words_are_one_bounded_line_without_queries() {
        assert_eq!(presentable("a\n\tb\u{7}c"), "a b c");
        assert_eq!(presentable("see https://u:p@h/x?sig=1 now"), "see https://h/x now");
        assert_eq!(presentable("Get \"https://h/x?sig=1\": eof"), "Get \"https://h/x eof");
        assert_eq!(presentable(&"ä".repeat(1000)).chars().count(), MESSAGE_MAX + 1);
    }
}
