//! HTTP clients: one per set of TLS files, kept with its connections until those files change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};
use rustls::RootCertStore;

use super::error::{Cause, shown};
use super::hosts::{Host, TlsFiles};
use super::proxy::Proxies;
use super::tls;

/// To wait for a connection, unless `dial_timeout` says otherwise: containerd's figure.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// To wait for the next byte of an answer. Shorter than the pull's own deadline for progress (5 min), so that a
/// stalled connection is tried anew before the pull is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections outlive the pause between the parts of one pull, not much more: a node pulls seldom.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Hosts that one answer may lead through; registries need one, for their storage.
const REDIRECTS_MAX: usize = 10;
/// Clients kept. A node has a handful of differing registries; past that, all are made anew.
const CLIENTS_MAX: usize = 64;

/// Connections, and whom they trust.
pub(super) struct Transport {
    pub proxies: Arc<Proxies>,
    system_roots: OnceLock<RootCertStore>,
    clients: Mutex<HashMap<(TlsFiles, Duration), Kept>>,
}

/// A client, and the files as they were when it was made.
type Kept = (Vec<Stamp>, Client);

/// Tells a changed file from the one that was read.
type Stamp = (PathBuf, Option<SystemTime>, u64);

impl Transport {
    pub fn new(proxies: Proxies) -> Self {
        Self { proxies: Arc::new(proxies), system_roots: OnceLock::new(), clients: Mutex::default() }
    }

    /// The way to a host. Blocks on files.
    pub fn link(&self, host: &Host) -> Result<Link, Cause> {
        let key = (host.tls.clone(), host.dial_timeout.unwrap_or(DIAL_TIMEOUT));
        // Before the files are read: a change in between is then seen next time.
        let stamps = stamps(&host.tls);
        let link = |client: &Client| Link { client: client.clone(), proxies: self.proxies.clone() };
        let clients = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = clients().get(&key)
            && *known == stamps
        {
            return Ok(link(client));
        }
        let roots = self.system_roots.get_or_init(tls::system_roots);
        let client = self.build(&host.tls, key.1, roots)?;
        let mut clients = clients();
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let (_, client) = &*clients.entry(key).insert_entry((stamps, client)).into_mut();
        Ok(link(client))
    }

    fn build(&self, files: &TlsFiles, dial: Duration, roots: &RootCertStore) -> Result<Client, Cause> {
        let proxies = self.proxies.clone();
        // What is no proxy was refused before the request came here.
        let proxy = reqwest::Proxy::custom(move |url: &Url| proxies.to(url).ok().flatten().cloned());
        Client::builder()
            .tls_backend_preconfigured(tls::client_config(files, roots)?)
            .proxy(proxy)
            // Redirects are followed by hand: what is secret stays with the host that it is for.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("cridge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(dial)
            .read_timeout(IDLE_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(|error| Cause::Client(error.without_url()))
    }
}

/// The way to one host.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    proxies: Arc<Proxies>,
}

impl Link {
    /// Asks, following redirects. What is `private` (authorization, an operator's headers) goes to the host of `url`
    /// only. Tells which URL answered.
    pub async fn get(
        &self,
        url: &Url,
        public: &HeaderMap,
        private: &HeaderMap,
    ) -> Result<(Url, Response), Cause> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let headers = if may_see(&at, url) { merged(public, private) } else { public.clone() };
            let response = self.send(&at, self.client.get(at.clone()).headers(headers)).await;
            let response = response.map_err(|cause| redirected(url, &at, cause))?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => at = location(&at, &response)?,
                _ => return Ok((at, response)),
            }
        }
        Err(Cause::Answer("it leads through more than 10 redirects"))
    }

    /// Sends a form, and follows nowhere.
    pub async fn post(&self, url: &Url, form: String) -> Result<Response, Cause> {
        let kind = "application/x-www-form-urlencoded";
        self.send(url, self.client.post(url.clone()).header("content-type", kind).body(form)).await
    }

    async fn send(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Response, Cause> {
        self.proxies.to(url)?;
        request.send().await.map_err(Cause::of)
    }
}

/// Says where the failure was, if it was not where we asked.
pub(super) fn redirected(asked: &Url, at: &Url, cause: Cause) -> Cause {
    if asked == at { cause } else { Cause::Redirected { to: shown(at), source: Box::new(cause) } }
}

/// Whether what is for `first` may be shown to `at`: the same host and port, and not less protected.
pub(super) fn may_see(at: &Url, first: &Url) -> bool {
    let port = |url: &Url| url.port_or_known_default();
    let upgraded = first.scheme() == "http" && at.scheme() == "https" && port(first) == Some(80);
    let same = at.scheme() == first.scheme() && port(at) == port(first);
    at.host_str() == first.host_str() && (same || (upgraded && port(at) == Some(443)))
}

fn merged(public: &HeaderMap, private: &HeaderMap) -> HeaderMap {
    let mut headers = public.clone();
    for (name, value) in private {
        headers.append(name, value.clone());
    }
    headers
}

fn location(at: &Url, response: &Response) -> Result<Url, Cause> {
    let value = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let url = value.and_then(|value| at.join(value).ok());
    url.filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(Cause::Answer("it is a redirect to nowhere"))
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let pairs = files.client.iter().flat_map(|(certificate, key)| [Some(certificate), key.as_ref()]);
    let paths = files.ca.iter().chain(pairs.flatten());
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path.clone(), modified, metadata.map_or(0, |metadata| metadata.len()))
    };
    paths.map(stamp).collect()
}
