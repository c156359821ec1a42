//! Credentials of a pull: whom they are for, and nothing that could print them.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::Url;
use reqwest::header::HeaderValue;
use sha2::Digest as _;

use super::hosts::{Host, Role};
use super::{Reference, RegistryError};
use crate::proto::cri::AuthConfig;

/// `auth` comes with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Shorter secrets are not looked for in a registry's words: they would blot out innocent ones.
pub(super) const SCRUBBED_MIN: usize = 4;

/// Credentials of one pull. Its Debug tells nothing.
#[derive(Clone, Default)]
pub struct Credentials(Option<Arc<Given>>);

struct Given {
    secret: Secret,
    audience: Audience,
    /// Tells credentials apart in the token cache, without keeping them there.
    fingerprint: Fingerprint,
}

/// What proves who we are.
pub(super) enum Secret {
    Password {
        user: String,
        password: String,
    },
    /// Buys tokens at the token server (OAuth2's refresh token).
    Identity(String),
    /// Is itself the token.
    Registry(String),
}

/// Which hosts may see the secret.
#[derive(Debug, PartialEq, Eq)]
enum Audience {
    /// No server was named: whoever the operator lets stand for the registry, as with containerd.
    Configured,
    /// The registry of the reference, not its mirrors.
    Registry,
    /// The host of this name, a mirror perhaps.
    Named(String),
}

/// Of nobody: all zeroes.
pub(super) type Fingerprint = [u8; 32];

impl Credentials {
    /// From the CRI: registry token, user and password, identity token, or `auth`, in this order. Those meant for
    /// another `server_address` than the host asked are not sent to it.
    ///
    /// # Errors
    /// When `auth` or `server_address` is malformed.
    pub fn from_cri(auth: Option<&AuthConfig>, reference: &Reference) -> Result<Self, RegistryError> {
        let Some(auth) = auth else { return Ok(Self::default()) };
        let refuse = |why| RegistryError::Credentials { reference: reference.to_string(), why };
        let Some(secret) = Secret::of(auth).map_err(refuse)? else { return Ok(Self::default()) };
        let audience = Audience::of(&auth.server_address, &reference.registry).map_err(refuse)?;
        let fingerprint = secret.fingerprint();
        Ok(Self(Some(Arc::new(Given { secret, audience, fingerprint }))))
    }

    /// Whether there are any, for whomever.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// What this host may see.
    pub(super) fn for_host(&self, host: &Host) -> Option<&Secret> {
        let given = self.0.as_deref()?;
        let meant = match &given.audience {
            Audience::Configured => true,
            Audience::Registry => host.role == Role::Registry,
            Audience::Named(name) => *name == authority(host.base.as_str()),
        };
        meant.then_some(&given.secret)
    }

    pub(super) fn fingerprint(&self, host: &Host) -> Fingerprint {
        match (self.for_host(host), self.0.as_deref()) {
            (Some(_), Some(given)) => given.fingerprint,
            _ => Fingerprint::default(),
        }
    }

    /// A registry's words without what it may have repeated of ours.
    pub(super) fn scrub(&self, text: &str) -> String {
        let Some(given) = self.0.as_deref() else { return text.to_owned() };
        let (user, secret) = match &given.secret {
            Secret::Password { user, password } => (user.as_str(), password),
            Secret::Identity(secret) | Secret::Registry(secret) => ("", secret),
        };
        if secret.len() < SCRUBBED_MIN {
            return text.to_owned();
        }
        // As it is, and as forms and basic authentication carry it.
        let form: String =
            Url::parse_with_params("form:", [("", secret)]).map_or(String::new(), |url| url.into());
        let form = form.rsplit('=').next().filter(|form| !form.is_empty()).unwrap_or(secret);
        let basic = BASE64.encode(format!("{user}:{secret}"));
        text.replace(secret.as_str(), "***").replace(form, "***").replace(&basic, "***")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Secret {
    fn of(auth: &AuthConfig) -> Result<Option<Self>, &'static str> {
        if !auth.registry_token.is_empty() {
            return Ok(Some(Self::Registry(auth.registry_token.clone())));
        }
        if !auth.username.is_empty() {
            return Ok(Some(Self::login(&auth.username, &auth.password)));
        }
        if !auth.identity_token.is_empty() {
            return Ok(Some(Self::Identity(auth.identity_token.clone())));
        }
        if auth.auth.is_empty() {
            return Ok(None);
        }
        let decoded = BASE64.decode(auth.auth.trim()).map_err(|_| "auth is not base64")?;
        let text = String::from_utf8(decoded).map_err(|_| "auth is not text")?;
        let (user, password) = text.split_once(':').ok_or("auth is not base64 of user:password")?;
        Ok(Some(Self::login(user, password.trim_matches('\0'))))
    }

    /// Docker's convention: no user, or the user `<token>`, means that the password is an identity token.
    fn login(user: &str, password: &str) -> Self {
        match user {
            "" | "<token>" => Self::Identity(password.to_owned()),
            user => Self::Password { user: user.to_owned(), password: password.to_owned() },
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let (kind, user, secret) = match self {
            Self::Password { user, password } => ("password", user.as_str(), password),
            Self::Identity(token) => ("identity", "", token),
            Self::Registry(token) => ("registry", "", token),
        };
        let mut hash = sha2::Sha256::new();
        for part in [kind, user, secret] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Audience {
    fn of(server_address: &str, registry: &str) -> Result<Self, &'static str> {
        if server_address.is_empty() {
            return Ok(Self::Configured);
        }
        let host = authority(server_address);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("server_address names no host");
        }
        Ok(if host == authority(registry) { Self::Registry } else { Self::Named(host) })
    }
}

/// The host, and the port unless it is the scheme's own, of an address with or without scheme and path. All names
/// of Docker Hub are one.
fn authority(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
    let port = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    match host.strip_suffix(port).unwrap_or(&host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// An `Authorization` header that does not print.
pub(super) fn authorization(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// RFC 7617.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    authorization("Basic", &BASE64.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "reg.example:5000/a/b";

    fn given(auth: AuthConfig) -> Arc<Given> {
        let reference = REFERENCE.parse().unwrap();
        Credentials::from_cri(Some(&auth), &reference).unwrap().0.expect("some are given")
    }

    fn encoded(text: &str) -> AuthConfig {
        AuthConfig { auth: BASE64.encode(text), ..AuthConfig::default() }
    }

    #[track_caller]
    fn is_login(auth: AuthConfig, expected: (&str, &str)) {
        match &given(auth).secret {
            Secret::Password { user, password } => assert_eq!((user.as_str(), password.as_str()), expected),
            Secret::Identity(token) => assert_eq!(("identity", token.as_str()), expected),
            Secret::Registry(token) => assert_eq!(("registry", token.as_str()), expected),
        }
    }

    #[test]
    fn every_kind_of_secret() {
        is_login(encoded("u:p:q"), ("u", "p:q"));
        is_login(encoded("u:p\0\0"), ("u", "p"));
        is_login(encoded(":t"), ("identity", "t"));
        is_login(encoded("<token>:t"), ("identity", "t"));
        let unpadded = AuthConfig { auth: "dTpwdw".into(), ..AuthConfig::default() };
        is_login(unpadded, ("u", "pw"));
        let all = AuthConfig {
            username: "u".into(),
            password: "p".into(),
            identity_token: "i".into(),
            registry_token: "r".into(),
            ..encoded("x:y")
        };
        is_login(all.clone(), ("registry", "r"));
        is_login(AuthConfig { registry_token: String::new(), ..all.clone() }, ("u", "p"));
        let neither = AuthConfig { registry_token: String::new(), username: String::new(), ..all };
        is_login(neither, ("identity", "i"));
    }

    #[test]
    fn none_given_is_none() {
        let reference = REFERENCE.parse().unwrap();
        assert!(!Credentials::from_cri(None, &reference).unwrap().is_some());
        assert!(!Credentials::from_cri(Some(&AuthConfig::default()), &reference).unwrap().is_some());
    }

    #[test]
    fn a_server_address_counts_with_and_without_scheme() {
        let hub = |address| Audience::of(address, "docker.io").unwrap();
        for address in
            ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", "https://docker.io:443"]
        {
            assert_eq!(hub(address), Audience::Registry, "{address}");
        }
        let here = |address| Audience::of(address, "Reg.example:5000").unwrap();
        for address in ["reg.example:5000", "https://reg.example:5000/v2/x", "http://u@REG.example:5000"] {
            assert_eq!(here(address), Audience::Registry, "{address}");
        }
        assert_eq!(here(""), Audience::Configured);
        assert_eq!(here("reg.example"), Audience::Named("reg.example".into()));
        assert_eq!(here("mirror.example:443/x"), Audience::Named("mirror.example".into()));
    }

    #[test]
    fn repeated_secrets_are_blotted_out_in_every_form() {
        let auth = AuthConfig { username: "u".into(), password: "p&ss word".into(), ..AuthConfig::default() };
        let credentials = Credentials::from_cri(Some(&auth), &REFERENCE.parse().unwrap()).unwrap();
        let basic = BASE64.encode("u:p&ss word");
        assert_eq!(credentials.scrub(&format!("p&ss word p%26ss+word {basic} u")), "*** *** *** u");
    }

    #[test]
    fn secrets_do_not_print() {
        let header = basic("u", "secret").unwrap();
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
