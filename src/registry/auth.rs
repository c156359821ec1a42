//! Authorization: what a registry's challenge is answered with, and the tokens bought for it.
//!
//! Invariant: a token is found again only by the credentials that bought it, and a secret goes only to the host that
//! its owner means (`Credentials::for_host`) and to the token server which that host names.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::answer::{self, Confided, knows_no_forms};
use super::challenge::Challenge;
use super::credentials::{Credentials, Fingerprint, Secret, authorization, basic};
use super::error::{Cause, shown};
use super::hosts::Host;
use super::transport::{Link, redirected};

/// Entries of each cache; past that it is emptied, and challenges are answered anew.
const CACHE_MAX: usize = 1024;
/// Bytes of a token server's answer.
const TOKEN_MAX: usize = 256 << 10;
/// What a token without a word on it is good for (the distribution project's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// No token is kept for longer.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token this near its end is not used: the request must still get there.
const MARGIN: Duration = Duration::from_secs(5);

/// Who talks to whom about what.
pub(super) struct Party<'a> {
    pub link: &'a Link,
    pub host: &'a Host,
    /// The host's base as asked, which the fallback to plain HTTP changes.
    pub base: &'a Url,
    pub repository: &'a str,
    pub credentials: &'a Credentials,
}

/// The caches.
#[derive(Default)]
pub(super) struct Authorizer {
    challenges: Mutex<HashMap<Asked, Challenge>>,
    tokens: Mutex<HashMap<Bought, Token>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Asked {
    base: String,
    repository: String,
    by: Fingerprint,
}

#[derive(PartialEq, Eq, Hash)]
struct Bought {
    realm: String,
    service: Option<String>,
    scope: String,
    by: Fingerprint,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// RFC 6749 §5.1, and `token` of the older specification.
#[derive(Deserialize)]
struct Issued {
    access_token: Option<String>,
    token: Option<String>,
    expires_in: Option<i64>,
}

impl Authorizer {
    /// What the host is known to want, if it is at hand.
    pub fn known(&self, party: &Party<'_>) -> Option<HeaderValue> {
        let challenge = lock(&self.challenges).get(&Asked::by(party)).cloned()?;
        let secret = party.credentials.for_host(party.host);
        match (&challenge, secret) {
            (Challenge::Basic, Some(Secret::Password { user, password })) => basic(user, password),
            (Challenge::Bearer { .. }, Some(Secret::Registry(token))) => authorization("Bearer", token),
            (Challenge::Bearer { .. }, _) => self.at_hand(&Bought::by(party, &challenge)?),
            _ => None,
        }
    }

    /// Answers a challenge; None where nothing given can. `refused` is what was shown and not accepted.
    pub async fn answer(
        &self,
        party: &Party<'_>,
        challenge: Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Cause> {
        keep(&self.challenges, Asked::by(party), challenge.clone(), |_| true);
        if let Some(known) = self.known(party)
            && refused != Some(&known)
        {
            return Ok(Some(known));
        }
        let Some(bought) = Bought::by(party, &challenge) else { return Ok(None) };
        if let Some(Secret::Registry(_)) = party.credentials.for_host(party.host) {
            return Ok(None);
        }
        let asked_at = Instant::now();
        let issued = buy(party, &bought).await?;
        let life = issued.life();
        let text = issued.access_token.or(issued.token).filter(|token| !token.is_empty());
        let unusable = Cause::Answer("the token server gave no token");
        let header = text.and_then(|token| authorization("Bearer", &token)).ok_or(unusable)?;
        let now = Instant::now();
        let token = Token { header: header.clone(), until: asked_at + life };
        keep(&self.tokens, bought, token, |token| token.until > now);
        Ok(Some(header))
    }

    fn at_hand(&self, bought: &Bought) -> Option<HeaderValue> {
        let tokens = lock(&self.tokens);
        let token = tokens.get(bought)?;
        (token.until > Instant::now() + MARGIN).then(|| token.header.clone())
    }
}

impl Asked {
    fn by(party: &Party<'_>) -> Self {
        let by = party.credentials.fingerprint(party.host);
        Self { base: party.base.to_string(), repository: party.repository.to_owned(), by }
    }
}

impl Bought {
    fn by(party: &Party<'_>, challenge: &Challenge) -> Option<Self> {
        let Challenge::Bearer { realm, service, scope } = challenge else { return None };
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", party.repository));
        let by = party.credentials.fingerprint(party.host);
        Some(Self { realm: realm.clone(), service: service.clone(), scope, by })
    }
}

impl Issued {
    fn life(&self) -> Duration {
        let seconds = self.expires_in.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFE, Duration::from_secs).min(LIFE_MAX)
    }
}

/// Buys a token: with a secret by a form, and where the server knows none, as without a secret by a plain request.
async fn buy(party: &Party<'_>, bought: &Bought) -> Result<Issued, Cause> {
    let realm = party.base.join(&bought.realm).ok();
    let realm = realm.filter(|url| matches!(url.scheme(), "http" | "https"));
    let realm = realm.ok_or(Cause::Answer("its challenge names no token server"))?;
    let result = async {
        match party.credentials.for_host(party.host) {
            Some(Secret::Password { user, password }) => {
                let login = [("grant_type", "password"), ("username", user), ("password", password)];
                let response = by_form(party, &realm, bought, &login).await?;
                if !knows_no_forms(response.status()) {
                    return issued(response, party.credentials).await;
                }
                by_request(party, &realm, bought, basic(user, password)).await
            }
            Some(Secret::Identity(token)) => {
                let login = [("grant_type", "refresh_token"), ("refresh_token", token)];
                issued(by_form(party, &realm, bought, &login).await?, party.credentials).await
            }
            Some(Secret::Registry(_)) | None => by_request(party, &realm, bought, None).await,
        }
    };
    result.await.map_err(|source| Cause::Token { realm: shown(&realm), source: Box::new(source) })
}

/// RFC 6749 §4.3 and §6, with the distribution project's `service`.
async fn by_form(
    party: &Party<'_>,
    realm: &Url,
    bought: &Bought,
    login: &[(&str, &str)],
) -> Result<Response, Cause> {
    let service = bought.service.iter().map(|service| ("service", service.as_str()));
    let common = [("client_id", "cridge"), ("scope", bought.scope.as_str())];
    let fields = login.iter().copied().chain(common).chain(service);
    let mut form = party.base.clone();
    form.query_pairs_mut().clear().extend_pairs(fields);
    party.link.post(realm, form.query().unwrap_or_default().to_owned()).await
}

async fn by_request(
    party: &Party<'_>,
    realm: &Url,
    bought: &Bought,
    login: Option<HeaderValue>,
) -> Result<Issued, Cause> {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(bought.service.iter().map(|service| ("service", service)));
        // One `scope` each, as docker's own token server wants them.
        query.extend_pairs(bought.scope.split_whitespace().map(|scope| ("scope", scope)));
    }
    let private = HeaderMap::from_iter(login.map(|login| (AUTHORIZATION, login)));
    let (at, response) = party.link.get(&url, &HeaderMap::new(), &private).await?;
    issued(response, party.credentials).await.map_err(|cause| redirected(&url, &at, cause))
}

async fn issued(response: Response, credentials: &Credentials) -> Result<Issued, Cause> {
    if !response.status().is_success() {
        return Err(answer::failure(response, Confided { credentials, headers: &HeaderMap::new() }).await);
    }
    let body = answer::read(response, TOKEN_MAX).await?;
    let issued = body.and_then(|body| serde_json::from_slice(&body).ok());
    issued.ok_or(Cause::Answer("it is no token"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts an entry in a cache, making room if need be: first of what is stale, else of all.
fn keep<K, V>(cache: &Mutex<HashMap<K, V>>, key: K, value: V, fresh: impl Fn(&V) -> bool)
where
    K: std::hash::Hash + Eq,
{
    let mut cache = lock(cache);
    if cache.len() >= CACHE_MAX {
        cache.retain(|_, value| fresh(value));
    }
    if cache.len() >= CACHE_MAX {
        cache.clear();
    }
    cache.insert(key, value);
}
