//! One question to a registry's hosts: in their order, each several times where that may help.

use std::time::Duration;

use rand::RngExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Response, StatusCode, Url};

use super::answer::{self, Confided};
use super::auth::{Authorizer, Party};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::error::{Cause, HostFailure, shown};
use super::hosts::{Fallback, Host, Need, Role};
use super::reference::Reference;
use super::transport::{Link, may_see, redirected};

/// Attempts at one host, as containerd makes.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubled before each further one, so that all five are made within 4 s.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A host that asks for a longer pause is left for now: the caller has retries of its own.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is asked for.
pub(super) struct Question<'a> {
    pub reference: &'a Reference,
    pub credentials: &'a Credentials,
    /// Below the repository.
    pub path: String,
    pub accept: Option<HeaderValue>,
    /// Where to begin; 0 for all of it.
    pub offset: u64,
    pub need: Need,
}

/// A host and the way to it.
pub(super) struct Endpoint {
    pub host: Host,
    pub link: Link,
}

/// How much a host's being away matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Another host comes after this one: nobody waits for a mirror that is down.
    Remain,
    None,
}

/// What all questions share.
pub(super) struct Exchange<'a> {
    pub authorizer: &'a Authorizer,
    /// Of the configuration, for every host.
    pub headers: &'a [(HeaderName, HeaderValue)],
}

impl Exchange<'_> {
    /// Asks one host until it answers, `read` takes the answer, or nothing more can be hoped for.
    pub async fn ask<T, R, F>(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        others: Others,
        read: R,
    ) -> Result<T, HostFailure>
    where
        R: Fn(Response) -> F,
        F: Future<Output = Result<T, Cause>>,
    {
        let mut attempts = 1;
        loop {
            let (base, result) = self.once(endpoint, question).await;
            let result = match result {
                Ok(response) => read(response).await,
                Err(cause) => Err(cause),
            };
            let cause = match result {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            let away = others == Others::Remain && cause.is_connect();
            let pause = cause.retry_after().unwrap_or_else(|| pause(attempts));
            if attempts == ATTEMPTS || !cause.is_transient() || away || pause > PAUSE_MAX {
                let url = shown(&url(&base, endpoint.host.role, question));
                return Err(HostFailure { url, attempts, cause });
            }
            tracing::debug!(host = %shown(&base), attempts, %cause, "asking again");
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }

    /// Asks the host at its base, and at the plain one where it has no TLS; tells which it was.
    async fn once(&self, endpoint: &Endpoint, question: &Question<'_>) -> (Url, Result<Response, Cause>) {
        let mut base = endpoint.host.base.clone();
        let mut result = self.authorized(endpoint, &base, question).await;
        let no_tls = result.as_ref().is_err_and(Cause::is_connect);
        if no_tls && endpoint.host.fallback == Fallback::PlainHttp && base.set_scheme("http").is_ok() {
            result = self.authorized(endpoint, &base, question).await;
        }
        (base, result)
    }

    /// Asks, and once more with an answer to the challenge if there was one.
    async fn authorized(
        &self,
        endpoint: &Endpoint,
        base: &Url,
        question: &Question<'_>,
    ) -> Result<Response, Cause> {
        let Endpoint { host, link } = endpoint;
        let (repository, credentials) = (question.reference.repository.as_str(), question.credentials);
        let party = Party { link, host, base, repository, credentials };
        let url = url(base, host.role, question);
        let shown_first = self.authorizer.known(&party);
        let mut private = self.private(host, shown_first.as_ref());
        let public = question.headers();
        let (mut at, mut response) = link.get(&url, &public, &private).await?;
        // Only the host itself may ask who we are, not whom it sent us to.
        if response.status() == StatusCode::UNAUTHORIZED && may_see(&at, &url) {
            let challenge = Challenge::of(response.headers());
            let Some(challenge) = challenge else { return Err(denial(response, &party, &private).await) };
            let answered = self.authorizer.answer(&party, challenge, shown_first.as_ref()).await?;
            let Some(answered) = answered else { return Err(denial(response, &party, &private).await) };
            private = self.private(host, Some(&answered));
            (at, response) = link.get(&url, &public, &private).await?;
        }
        let cause = match response.status().as_u16() {
            200 | 206 => return Ok(response),
            401 | 403 if may_see(&at, &url) => denial(response, &party, &private).await,
            _ => answer::failure(response, Confided { credentials, headers: &private }).await,
        };
        Err(redirected(&url, &at, cause))
    }

    /// What only the host itself gets to see.
    fn private(&self, host: &Host, authorization: Option<&HeaderValue>) -> HeaderMap {
        let given = host.headers.iter().chain(self.headers).cloned();
        let mut headers = HeaderMap::new();
        for (name, mut value) in given {
            // Not printed by whoever prints requests.
            value.set_sensitive(true);
            headers.append(name, value);
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }
}

impl Question<'_> {
    fn headers(&self) -> HeaderMap {
        let accept = self.accept.clone().map(|accept| (ACCEPT, accept));
        let range = (self.offset > 0).then(|| HeaderValue::try_from(format!("bytes={}-", self.offset)).ok());
        HeaderMap::from_iter(accept.into_iter().chain(range.flatten().map(|range| (RANGE, range))))
    }
}

/// A mirror is told for whom it stands.
fn url(base: &Url, role: Role, question: &Question<'_>) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    url.set_path(&format!("{path}/{}/{}", question.reference.repository, question.path));
    if role == Role::Mirror {
        url.query_pairs_mut().append_pair("ns", &question.reference.registry);
    }
    url
}

async fn denial(response: Response, party: &Party<'_>, headers: &HeaderMap) -> Cause {
    let given = party.credentials.is_some();
    let advice = match (given, party.credentials.for_host(party.host).is_some()) {
        (false, _) => "no credentials were given: it needs a pull secret, or is not there",
        (true, false) => "the credentials given are for another server_address",
        (true, true) => "the credentials given are wrong, or do not allow this pull",
    };
    answer::denial(response, Confided { credentials: party.credentials, headers }, advice).await
}

/// Doubled each time, and spread, so that nodes do not come back all at once.
fn pause(attempts: u32) -> Duration {
    let full = FIRST_PAUSE * 2u32.pow(attempts.min(ATTEMPTS) - 1);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
