//! What can fail between us and a registry.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{StatusCode, Url};

use crate::error::{Kind, chain};
use crate::id::Digest;

/// A registry failure; no variant ever carries a credential or a URL's query.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the credentials given for {reference} cannot be used: {why}")]
    Credentials { reference: String, why: &'static str },
    #[error("the manifest of {reference} names a blob {digest:?}: {why}")]
    Digest { digest: String, reference: String, why: &'static str },
    #[error(
        "no host that hosts.toml has for {registry} is allowed to {capability}: add the capability to one"
    )]
    NoHost { registry: String, capability: &'static str },
    #[error("cannot fetch {object} of {reference}: {failures}")]
    Fetch { object: String, reference: String, failures: Failures },
    #[error("{url} broke off at byte {offset}")]
    Interrupted {
        url: String,
        offset: u64,
        #[source]
        source: reqwest::Error,
    },
}

impl RegistryError {
    /// What it means to the caller. Of several hosts the last one counts: it is the registry itself, whatever its
    /// mirrors lack.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Credentials { .. } => Kind::InvalidArgument,
            Self::NoHost { .. } | Self::Digest { .. } => Kind::FailedPrecondition,
            Self::Fetch { failures, .. } => failures.kind(),
            Self::Interrupted { .. } => Kind::Unavailable,
        }
    }

    /// Whether the registry could not be reached or could not serve: what the CRI calls `RegistryUnavailable`.
    pub fn is_unavailable(&self) -> bool {
        self.kind() == Kind::Unavailable
    }
}

/// What became of each host that was tried, in order; never empty.
#[derive(Debug)]
pub struct Failures {
    pub(super) hosts: Vec<HostFailure>,
    /// What was wrong with the registry's `hosts.toml`, so that it was left aside.
    pub(super) problem: Option<String>,
}

/// One host's failure.
#[derive(Debug)]
pub(super) struct HostFailure {
    /// Without query and credentials.
    pub url: String,
    pub attempts: u32,
    pub cause: Cause,
}

impl Failures {
    /// Whether the registry itself has nothing at the offset asked for.
    pub(super) fn past_the_end(&self) -> bool {
        self.hosts.last().and_then(|failure| failure.cause.status())
            == Some(StatusCode::RANGE_NOT_SATISFIABLE)
    }

    fn kind(&self) -> Kind {
        self.hosts.last().map_or(Kind::Internal, |failure| failure.cause.kind())
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, HostFailure { url, attempts, cause }) in self.hosts.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{url}: ")?;
            if *attempts > 1 {
                write!(f, "{attempts} attempts, the last: ")?;
            }
            f.write_str(&chain(cause))?;
            if let Some(wait) = cause.retry_after().filter(|wait| !wait.is_zero()) {
                write!(f, "; it asks to wait for {}", humantime::format_duration(wait))?;
            }
        }
        self.problem.as_ref().map_or(Ok(()), |problem| write!(f, "; left aside: {problem}"))
    }
}

/// Why one host did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{status}{}", Said(.message))]
    Status { status: StatusCode, message: Option<String>, retry_after: Option<Duration> },
    #[error("access denied ({status}{}): {advice}", Said(.message))]
    Denied { status: StatusCode, message: Option<String>, advice: &'static str },
    #[error("the certificate is not trusted: name its CA in hosts.toml (ca = \"…\")")]
    Certificate(#[source] reqwest::Error),
    #[error("TLS failed: {advice}")]
    Handshake {
        advice: &'static str,
        #[source]
        source: reqwest::Error,
    },
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    #[error("the token server {realm} refused")]
    Token {
        realm: String,
        #[source]
        source: Box<Cause>,
    },
    #[error("redirected to {to}")]
    Redirected {
        to: String,
        #[source]
        source: Box<Cause>,
    },
    #[error("the answer did not end within {limit:?}")]
    TooSlow { limit: Duration },
    #[error("the answer cannot be used: {0}")]
    Answer(&'static str),
    #[error("the manifest is larger than {limit} bytes")]
    ManifestTooLarge { limit: usize },
    #[error("what came has the digest {got} where {expected} was asked for or announced")]
    WrongDigest { expected: Digest, got: Digest },
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use {path}: {why}")]
    Pem { path: PathBuf, why: &'static str },
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    #[error("{variable} is not a proxy's URL: {why}")]
    Proxy { variable: &'static str, why: &'static str },
}

/// The registry's own words, after a colon.
struct Said<'a>(&'a Option<String>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

impl Cause {
    /// Takes the failure of a request or of a body, and forgets its URL.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        match tls_error(&error) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(error),
            Some(rustls::Error::InvalidMessage(_)) => {
                let advice =
                    "the port seems to be without TLS; a host that is meant to be is http:// in hosts.toml";
                Self::Handshake { advice, source: error }
            }
            _ if is_alert(&error) => {
                let advice =
                    "the host refused us; where it wants a certificate, client in hosts.toml names ours";
                Self::Handshake { advice, source: error }
            }
            _ => Self::Request(error),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Status { status, .. } => match status.as_u16() {
                404 => Kind::NotFound,
                408 | 429 | 500..=599 => Kind::Unavailable,
                _ => Kind::FailedPrecondition,
            },
            Self::Denied { .. }
            | Self::Certificate(_)
            | Self::Handshake { .. }
            | Self::Answer(_)
            | Self::WrongDigest { .. } => Kind::FailedPrecondition,
            Self::Request(_) | Self::TooSlow { .. } => Kind::Unavailable,
            Self::Redirected { source, .. } => source.kind(),
            // A token server that does not know the repository says nothing of what the registry has.
            Self::Token { source, .. } => match source.kind() {
                Kind::Unavailable => Kind::Unavailable,
                _ => Kind::FailedPrecondition,
            },
            Self::ManifestTooLarge { .. } => Kind::ResourceExhausted,
            Self::File { .. } | Self::Pem { .. } | Self::Proxy { .. } => Kind::FailedPrecondition,
            Self::Tls(_) | Self::Client(_) => Kind::Internal,
        }
    }

    /// Whether another attempt at the same host may do better.
    pub(super) fn is_transient(&self) -> bool {
        self.kind() == Kind::Unavailable && !matches!(self.status(), Some(StatusCode::NOT_IMPLEMENTED))
    }

    /// Whether no connection came about, so that the host as a whole is away.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Request(source) | Self::Handshake { source, .. } if source.is_connect())
    }

    /// What the host asked us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Token { source, .. } | Self::Redirected { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } | Self::Denied { status, .. } => Some(*status),
            Self::Token { source, .. } | Self::Redirected { source, .. } => source.status(),
            _ => None,
        }
    }
}

/// A URL as texts have it: without query and credentials, which may be secrets.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither can fail where there is a host, and without one there is nothing to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The TLS failure beneath a request's, if that is what it was. I/O errors skip themselves in the chain of sources.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    match error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
        Some(inner) => tls_error(inner),
        None => error.source().and_then(tls_error),
    }
}

/// Whether the peer ended TLS. HTTP/2 keeps only the text of what failed below it.
fn is_alert(error: &reqwest::Error) -> bool {
    chain(error).contains("received fatal alert")
}
