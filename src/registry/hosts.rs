//! Which hosts stand for a registry, in what order: the folders of `hosts.toml`, read anew at each use, so that an
//! operator's edit needs no restart (containerd's docs/hosts.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::hosts_file;

/// Bytes of a `hosts.toml` that are read.
const FILE_MAX: u64 = 1 << 20;

/// One host that may be asked.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Scheme, authority and the API's path, without a slash at its end.
    pub base: Url,
    pub role: Role,
    pub capabilities: Capabilities,
    pub tls: TlsFiles,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// To wait for a connection.
    pub dial_timeout: Option<Duration>,
    pub fallback: Fallback,
}

/// Whether a host is the registry itself or stands in for it, and is told so by `ns=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Registry,
    Mirror,
}

/// What to do when TLS does not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    None,
    PlainHttp,
}

/// What a host may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Anything by digest.
    pub pull: bool,
    /// The digest behind a tag.
    pub resolve: bool,
}

/// The capability that a question needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Pull,
    Resolve,
}

impl Capabilities {
    pub const ALL: Self = Self { pull: true, resolve: true };

    pub fn allow(self, need: Need) -> bool {
        match need {
            Need::Pull => self.pull,
            Need::Resolve => self.resolve,
        }
    }
}

impl Need {
    /// As `hosts.toml` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
        }
    }
}

/// The files of a host's TLS, by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct TlsFiles {
    /// Trusted besides the system's store.
    pub ca: Vec<PathBuf>,
    /// Certificate and key; both in one file where there is no second.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: Option<bool>,
}

impl TlsFiles {
    fn is_set(&self) -> bool {
        !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify.is_some()
    }
}

/// A registry's hosts and where they came from.
#[derive(Debug)]
pub(super) struct Route {
    pub hosts: Vec<Host>,
    /// The folder that was found for the registry.
    pub folder: Option<PathBuf>,
    /// What was wrong with its `hosts.toml`.
    pub problem: Option<String>,
}

/// Finds the hosts of a registry. Blocks on files.
pub(super) fn route(roots: &[PathBuf], registry: &str) -> Route {
    let Some(folder) = folder(roots, registry) else {
        let hosts = vec![registry_itself(registry, Settings::default())];
        return Route { hosts: hosts.into_iter().flatten().collect(), folder: None, problem: None };
    };
    let (mut parsed, problem) = match read(&folder) {
        Ok(Some(parsed)) => (parsed, None),
        Ok(None) => (docker_certificates(&folder), None),
        Err(problem) => (docker_certificates(&folder), Some(problem)),
    };
    let server = match parsed.server.take() {
        Some(base) => Some(host(base, registry, parsed.root)),
        None => registry_itself(registry, parsed.root),
    };
    let mirrors = parsed.hosts.into_iter().map(|(base, settings)| host(base, registry, settings));
    Route { hosts: mirrors.chain(server).collect(), folder: Some(folder), problem }
}

/// What `hosts.toml` can say of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub capabilities: Option<Capabilities>,
    pub tls: TlsFiles,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub dial_timeout: Option<Duration>,
}

/// A `hosts.toml`, checked.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub server: Option<Url>,
    /// The settings at the top, which are the server's.
    pub root: Settings,
    /// In the order of the file.
    pub hosts: Vec<(Url, Settings)>,
}

/// The first folder that is there: of each root `host_port_`, `host:port`, then `_default`.
fn folder(roots: &[PathBuf], registry: &str) -> Option<PathBuf> {
    let names = |root: &PathBuf| {
        let port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
        let names = port.into_iter().chain([registry.to_owned(), "_default".to_owned()]);
        names.map(|name| root.join(name)).collect::<Vec<_>>()
    };
    roots.iter().flat_map(names).find(|path| path.is_dir())
}

/// None where there is no `hosts.toml`, or an empty one.
fn read(folder: &Path) -> Result<Option<Parsed>, String> {
    use std::io::Read as _;
    let path = folder.join("hosts.toml");
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    match read {
        Ok(0) => Ok(None),
        Ok(_) => {
            hosts_file::parse(&text, folder).map(Some).map_err(|why| format!("{}: {why}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Docker's layout: `*.crt` are CAs, `*.cert` with the `*.key` of the same name are our own certificates.
fn docker_certificates(folder: &Path) -> Parsed {
    let mut parsed = Parsed::default();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => parsed.root.tls.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                parsed.root.tls.client.push((path, Some(key)));
            }
            _ => {}
        }
    }
    parsed
}

fn host(base: Url, registry: &str, settings: Settings) -> Host {
    let own = |name: &str| authority(&base) == name;
    let hub = registry == "docker.io" && own("registry-1.docker.io");
    let role = if hub || own(registry) { Role::Registry } else { Role::Mirror };
    with_settings(base, role, settings)
}

/// The host that the registry's name means. None only for a name that is no host, which no reference has.
fn registry_itself(registry: &str, mut settings: Settings) -> Option<Host> {
    let name = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let mut base = Url::parse(&format!("https://{name}/v2")).ok()?;
    if is_loopback(&base) {
        // What needs no network may go without a certificate, and without TLS.
        if base.port() == Some(80) {
            base.set_scheme("http").ok()?;
        } else {
            settings.tls.skip_verify = Some(true);
            if base.port().is_some() {
                base.set_scheme("http").ok()?;
            }
        }
    }
    settings.capabilities = None;
    Some(with_settings(base, Role::Registry, settings))
}

/// A plain host with TLS settings is asked over TLS first, as with containerd: the settings say that it may be had.
fn with_settings(mut base: Url, role: Role, settings: Settings) -> Host {
    let Settings { capabilities, tls, headers, dial_timeout } = settings;
    let ambiguous = base.scheme() == "http" && tls.is_set() && !matches!(base.port(), None | Some(80));
    let fallback = if ambiguous && to_https(&mut base) { Fallback::PlainHttp } else { Fallback::None };
    Host {
        base,
        role,
        capabilities: capabilities.unwrap_or(Capabilities::ALL),
        tls,
        headers,
        dial_timeout,
        fallback,
    }
}

fn to_https(base: &mut Url) -> bool {
    base.set_scheme("https").is_ok()
}

/// `host` or `host:port` as the URL has it: without the scheme's own port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a URL's host is this machine: `localhost` or an address of the loopback.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
