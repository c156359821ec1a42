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

impl Host {
    /// Whether whatever the other may be asked is asked of this one already, in the same way.
    fn answers_for(&self, other: &Self) -> bool {
        self.base == other.base
            && self.fallback == other.fallback
            && self.tls == other.tls
            && self.headers == other.headers
            && [Need::Pull, Need::Resolve]
                .into_iter()
                .all(|need| self.capabilities.allow(need) || !other.capabilities.allow(need))
    }
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
    let listed = parsed.hosts.into_iter().map(|(base, settings)| host(base, registry, settings));
    let mut hosts: Vec<Host> = listed.collect();
    // Many files name the server among the hosts as well: it would only say the same again.
    let server = server.filter(|server| !hosts.iter().any(|host| host.answers_for(server)));
    hosts.extend(server);
    Route { hosts, folder: Some(folder), problem }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(files: &[(&str, &str)], registry: &str) -> Route {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        // Two roots: the first has nothing.
        let mut route = route(&[root.path().join("none"), root.path().to_owned()], registry);
        let relative = |path: PathBuf| path.strip_prefix(root.path()).unwrap().to_owned();
        route.folder = route.folder.map(relative);
        route
    }

    fn bases(route: &Route) -> Vec<&str> {
        route.hosts.iter().map(|host| host.base.as_str()).collect()
    }

    #[test]
    fn without_files_a_registry_stands_for_itself() {
        for (registry, base, skip_verify, fallback) in [
            ("docker.io", "https://registry-1.docker.io/v2", None, Fallback::None),
            ("reg.example:5000", "https://reg.example:5000/v2", None, Fallback::None),
            ("localhost", "https://localhost/v2", Some(true), Fallback::None),
            ("localhost:5000", "https://localhost:5000/v2", Some(true), Fallback::PlainHttp),
            ("127.0.0.1:5000", "https://127.0.0.1:5000/v2", Some(true), Fallback::PlainHttp),
            ("[::1]:5000", "https://[::1]:5000/v2", Some(true), Fallback::PlainHttp),
            ("localhost:80", "http://localhost/v2", None, Fallback::None),
        ] {
            let route = routed(&[], registry);
            assert_eq!(bases(&route), [base]);
            let host = &route.hosts[0];
            assert_eq!((host.tls.skip_verify, host.fallback), (skip_verify, fallback), "{registry}");
            assert_eq!((host.role, host.capabilities), (Role::Registry, Capabilities::ALL));
            assert_eq!(route.folder, None);
        }
    }

    #[test]
    fn folders_are_found_as_containerd_finds_them() {
        let server = |name: &str| format!("server = \"https://{name}\"");
        let all = [
            ("h_5000_/hosts.toml", server("underscores")),
            ("h:5000/hosts.toml", server("colon")),
            ("_default/hosts.toml", server("default")),
            ("h/hosts.toml", server("portless")),
        ];
        let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(bases(&routed(&all, "h:5000")), ["https://underscores/v2"]);
        assert_eq!(bases(&routed(&all[1..], "h:5000")), ["https://colon/v2"]);
        assert_eq!(bases(&routed(&all[2..], "h:5000")), ["https://default/v2"]);
        assert_eq!(bases(&routed(&all, "h")), ["https://portless/v2"]);
        assert_eq!(bases(&routed(&all[3..], "h:5000")), ["https://h:5000/v2"]);
    }

    #[test]
    fn mirrors_come_first_and_are_told_apart() {
        let text = r#"
            [host."https://z.example"]
            [host."http://a.example:5000/proxy"]
              capabilities = ["pull"]
        "#;
        let route = routed(&[("docker.io/hosts.toml", text)], "docker.io");
        assert_eq!(
            bases(&route),
            ["https://z.example/v2", "http://a.example:5000/proxy/v2", "https://registry-1.docker.io/v2",]
        );
        let roles: Vec<Role> = route.hosts.iter().map(|host| host.role).collect();
        assert_eq!(roles, [Role::Mirror, Role::Mirror, Role::Registry]);
        assert_eq!(route.hosts[1].capabilities, Capabilities { pull: true, resolve: false });
        assert_eq!(route.folder, Some("docker.io".into()));
    }

    #[test]
    fn a_server_among_the_hosts_is_asked_once() {
        let listed = |server: &str, settings: &str| {
            let text = format!(
                "{server}\n[host.\"http://m.example:5000\"]\n{settings}\n[host.\"https://z.example\"]"
            );
            routed(&[("r.example/hosts.toml", &text)], "r.example")
        };
        let server = "server = \"http://m.example:5000\"";
        let route = listed(server, "");
        assert_eq!(bases(&route), ["http://m.example:5000/v2", "https://z.example/v2"]);
        // What differs in anything is a way of its own.
        for (server, settings) in [
            (server.to_owned(), "capabilities = [\"pull\"]"),
            (server.to_owned(), "skip_verify = true"),
            (server.to_owned(), "[host.\"http://m.example:5000\".header]\nx-a = \"b\""),
            (format!("{server}\nskip_verify = true"), ""),
            ("server = \"http://m.example:5001\"".to_owned(), ""),
            (String::new(), ""),
        ] {
            assert_eq!(listed(&server, settings).hosts.len(), 3, "{server} {settings}");
        }
        // Nor does the server come twice where it may be asked for less than the host may.
        let route = listed(&format!("{server}\ncapabilities = [\"resolve\"]"), "");
        assert_eq!(route.hosts.len(), 2);
    }

    #[test]
    fn a_broken_file_is_told_of_and_docker_s_layout_used() {
        let files = [
            ("r.example/hosts.toml", "server = \n"),
            ("r.example/ca.crt", ""),
            ("r.example/me.cert", ""),
            ("r.example/me.key", ""),
        ];
        let route = routed(&files, "r.example");
        let problem = route.problem.as_deref().unwrap();
        assert!(problem.contains("r.example/hosts.toml: line 1: "), "{problem}");
        let names = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let tls = &route.hosts[0].tls;
        assert_eq!(tls.ca.iter().map(names).collect::<Vec<_>>(), ["ca.crt"]);
        let [(certificate, Some(key))] = &tls.client[..] else { panic!("{tls:?}") };
        assert_eq!((names(certificate), names(key)), ("me.cert".into(), "me.key".into()));
        // An empty file is as good as none.
        let route = routed(&[("r.example/hosts.toml", ""), files[1]], "r.example");
        assert_eq!((route.problem, route.hosts[0].tls.ca.len()), (None, 1));
    }

    #[test]
    fn a_plain_host_with_tls_settings_is_asked_over_tls_first() {
        let text = "[host.\"http://m.example:5000\"]\nskip_verify = true";
        let route = routed(&[("r.example/hosts.toml", text)], "r.example");
        assert_eq!(bases(&route)[0], "https://m.example:5000/v2");
        assert_eq!(route.hosts[0].fallback, Fallback::PlainHttp);
    }
}
