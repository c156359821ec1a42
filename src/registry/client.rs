//! The client: one for the daemon, shared by all pulls.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use sha2::Digest as _;

use super::answer;
use super::auth::Authorizer;
use super::credentials::Credentials;
use super::error::{Cause, Failures, HostFailure, RegistryError, shown};
use super::exchange::{Endpoint, Exchange, Others, Question};
use super::explain;
use super::hosts::{self, Host, Need};
use super::proxy::Proxies;
use super::reference::{QUOTED_MAX, Reference, parse_digest};
use super::transport::Transport;
use crate::config::RegistryConfig;
use crate::id::Digest;

/// Bytes of a manifest: containerd's limit, and what registries accept.
const MANIFEST_MAX: usize = 4 << 20;
/// Characters of a media type that are believed (RFC 6838 §4.2 allows 127 on each side).
const MEDIA_TYPE_MAX: usize = 255;
/// Image indexes and manifests, OCI's and docker's.
const MANIFEST_TYPES: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json",
);

/// Hosts, connections and tokens. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    configured: RwLock<Arc<Configured>>,
    transport: Transport,
    authorizer: Authorizer,
}

/// What the configuration says.
struct Configured {
    folders: Vec<PathBuf>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Configured {
    fn of(config: &RegistryConfig) -> Self {
        Self { folders: config.config_dirs.clone(), headers: configured_headers(config) }
    }
}

/// A manifest or index as served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    /// Of `bytes`, checked; equal to the reference's digest where it has one.
    pub digest: Digest,
    pub bytes: Bytes,
}

/// A blob's bytes from an offset on. Not yet checked against its digest.
pub struct Blob {
    /// Where the stream begins: the offset asked for, or 0 where the server ignored the range.
    pub offset: u64,
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>,
}

impl Registry {
    /// Reads nothing yet but the proxy variables: hosts.toml files are read at each pull (an operator's edit needs no
    /// restart).
    pub fn new(config: RegistryConfig) -> Self {
        let configured = RwLock::new(Arc::new(Configured::of(&config)));
        let transport = Transport::new(Proxies::from_env());
        Self(Arc::new(Inner { configured, transport, authorizer: Authorizer::default() }))
    }

    /// From the next request on, this is the configuration.
    pub fn reconfigure(&self, config: &RegistryConfig) {
        let configured = Arc::new(Configured::of(config));
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// Fetches the manifest or index that the reference names, from the first host that has it. At most 4 MiB.
    pub async fn manifest(
        &self,
        reference: &Reference,
        auth: &Credentials,
    ) -> Result<Manifest, RegistryError> {
        let (name, need) = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => (digest.as_str(), Need::Pull),
            (None, Some(tag)) => (tag.as_str(), Need::Resolve),
            (None, None) => ("latest", Need::Resolve),
        };
        let question = Question {
            reference,
            credentials: auth,
            path: format!("manifests/{name}"),
            accept: Some(MANIFEST_TYPES),
            offset: 0,
            need,
        };
        let read = |response| read_manifest(response, reference.digest.as_ref());
        self.fetch(&question, "the manifest".to_owned(), read).await
    }

    /// Opens a blob of the reference's repository at `offset`. Retries, other hosts and redirects happen inside, until
    /// the stream is open; the caller resumes a stream that broke by asking again with the offset reached.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        offset: u64,
        auth: &Credentials,
    ) -> Result<Blob, RegistryError> {
        parse_digest(digest.as_str()).map_err(|why| RegistryError::Digest {
            digest: digest.as_str().chars().take(QUOTED_MAX).collect(),
            reference: reference.to_string(),
            why,
        })?;
        let path = format!("blobs/{digest}");
        let need = Need::Pull;
        let mut question = Question { reference, credentials: auth, path, accept: None, offset, need };
        let object = format!("blob {digest}");
        let result = self.fetch(&question, object.clone(), |response| open_blob(response, offset)).await;
        match result {
            // Past the end, as the server sees it. What is there already may be wrong: begin anew.
            Err(RegistryError::Fetch { failures, .. }) if offset > 0 && failures.past_the_end() => {
                question.offset = 0;
                self.fetch(&question, object, |response| open_blob(response, 0)).await
            }
            result => result,
        }
    }

    /// For `cridge check` and error texts: which hosts a pull would try, with which CA, headers and proxy. Blocks on
    /// files.
    pub fn explain(&self, registry: &str) -> Vec<String> {
        let configured = self.0.configured();
        let route = hosts::route(&configured.folders, registry);
        let folder = match &route.folder {
            Some(folder) => format!("configured in {}", folder.display()),
            None => format!("no folder for {registry} in {}", explain::roots(&configured.folders)),
        };
        let problem = route.problem.iter().map(|problem| format!("left aside: {problem}"));
        let hosts = route.hosts.iter().map(|host| explain::line(host, &self.0.transport.proxies));
        std::iter::once(folder).chain(problem).chain(hosts).collect()
    }

    /// Asks the hosts in turn.
    async fn fetch<T, R, F>(
        &self,
        question: &Question<'_>,
        object: String,
        read: R,
    ) -> Result<T, RegistryError>
    where
        R: Fn(Response) -> F,
        F: Future<Output = Result<T, Cause>>,
    {
        let (endpoints, problem) = self.endpoints(question).await?;
        let configured = self.0.configured();
        let exchange = Exchange { authorizer: &self.0.authorizer, headers: &configured.headers };
        let mut remaining = endpoints.len();
        let mut hosts = Vec::new();
        for endpoint in endpoints {
            remaining -= 1;
            let others = if remaining > 0 { Others::Remain } else { Others::None };
            let asked = match endpoint {
                Ok(endpoint) => exchange.ask(&endpoint, question, others, &read).await,
                Err(failure) => Err(failure),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(failure) => hosts.push(failure),
            }
        }
        let reference = question.reference.to_string();
        Err(RegistryError::Fetch { object, reference, failures: Failures { hosts, problem } })
    }

    /// The hosts that may be asked, at least one, and what was wrong with their file.
    async fn endpoints(
        &self,
        question: &Question<'_>,
    ) -> Result<(Vec<Result<Endpoint, HostFailure>>, Option<String>), RegistryError> {
        let (inner, registry) = (self.0.clone(), question.reference.registry.clone());
        let need = question.need;
        let find = move || {
            let route = hosts::route(&inner.configured().folders, &registry);
            let able = route.hosts.into_iter().filter(|host| host.capabilities.allow(need));
            let endpoint = |host: Host| match inner.transport.link(&host) {
                Ok(link) => Ok(Endpoint { host, link }),
                Err(cause) => Err(HostFailure { url: shown(&host.base), attempts: 1, cause }),
            };
            (able.map(endpoint).collect::<Vec<_>>(), route.problem)
        };
        // Its only failure would be a panic, and it has none.
        let (endpoints, problem) = tokio::task::spawn_blocking(find).await.unwrap_or_default();
        if let (Some(problem), Need::Resolve) = (&problem, need) {
            tracing::warn!("{problem}: left aside, as if it were not there");
        }
        if endpoints.is_empty() {
            let registry = question.reference.registry.clone();
            return Err(RegistryError::NoHost { registry, capability: need.as_str() });
        }
        Ok((endpoints, problem))
    }
}

impl Inner {
    fn configured(&self) -> Arc<Configured> {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn configured_headers(config: &RegistryConfig) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in
        config.headers.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)))
    {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            _ => tracing::warn!("the configured header {name:?} is none that HTTP knows: left out"),
        }
    }
    headers
}

/// Takes a manifest whose digest is the one asked for, and the one that the registry announces.
async fn read_manifest(response: Response, asked: Option<&Digest>) -> Result<Manifest, Cause> {
    let announced =
        header(response.headers(), "docker-content-digest").and_then(|text| parse_digest(&text).ok());
    let content_type = header(response.headers(), CONTENT_TYPE.as_str());
    let body = answer::read(response, MANIFEST_MAX).await?;
    let bytes = body.ok_or(Cause::ManifestTooLarge { limit: MANIFEST_MAX })?;
    // A digest that was asked for is all that counts: what comes may have passed a proxy that announces its own.
    if let Some(expected) = asked.or(announced.as_ref()) {
        verify(&bytes, expected)?;
    }
    let media_type = media_type(&bytes, content_type)?;
    let digest = asked.cloned().unwrap_or_else(|| Digest::of(&bytes));
    Ok(Manifest { media_type, digest, bytes })
}

fn verify(bytes: &[u8], expected: &Digest) -> Result<(), Cause> {
    let got = match expected.as_str().split_once(':') {
        Some(("sha512", _)) => Digest::new(format!("sha512:{}", hex::encode(sha2::Sha512::digest(bytes)))),
        _ => Digest::of(bytes),
    };
    if got == *expected { Ok(()) } else { Err(Cause::WrongDigest { expected: expected.clone(), got }) }
}

/// What the document says of itself, which its digest covers; else what the server says.
fn media_type(bytes: &[u8], content_type: Option<String>) -> Result<String, Cause> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let document = serde_json::from_slice::<Document>(bytes);
    let document = document.map_err(|_| Cause::Answer("it is no manifest, as it is not a JSON object"))?;
    let served = content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    let found = document.media_type.or(served).filter(|text| (1..=MEDIA_TYPE_MAX).contains(&text.len()));
    found.ok_or(Cause::Answer("its media type is nowhere said"))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Takes the body as a stream, from where the server says that it begins.
async fn open_blob(response: Response, asked: u64) -> Result<Blob, Cause> {
    let offset = match response.status() {
        StatusCode::PARTIAL_CONTENT => match begin(response.headers()) {
            Some(begin) if begin == asked => begin,
            _ => return Err(Cause::Answer("it is another part of the blob than was asked for")),
        },
        _ => 0,
    };
    let url = shown(response.url());
    let mut reached = offset;
    let stream = response.bytes_stream().map(move |part| match part {
        Ok(bytes) => {
            reached += bytes.len() as u64;
            Ok(bytes)
        }
        Err(error) => {
            let source = error.without_url();
            Err(RegistryError::Interrupted { url: url.clone(), offset: reached, source })
        }
    });
    Ok(Blob { offset, stream: Box::pin(stream) })
}

/// The first byte of a `Content-Range` (RFC 9110 §14.4).
fn begin(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, CONTENT_RANGE.as_str())?;
    range.strip_prefix("bytes ")?.trim_start().split('-').next()?.parse().ok()
}
