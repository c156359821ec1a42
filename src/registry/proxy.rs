//! Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY with the rules of Go's `net/http`, which
//! nodes' settings are written for. This machine itself is never asked through a proxy.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use super::error::Cause;
use super::hosts::is_loopback;

/// The proxies of this process.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    http: Setting,
    https: Setting,
    exceptions: Vec<Exception>,
}

#[derive(Clone, Default)]
enum Setting {
    #[default]
    Direct,
    /// May hold a password.
    Through(Url),
    Wrong {
        variable: &'static str,
        why: &'static str,
    },
}

/// One entry of NO_PROXY.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// A domain; with a leading dot, only what is below it.
    Domain(String, Option<u16>),
}

impl Proxies {
    /// From the environment, upper case before lower.
    pub fn from_env() -> Self {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
            set(name).or_else(|| set(&name.to_ascii_lowercase()))
        };
        let no_proxy = read("NO_PROXY").unwrap_or_default();
        Self {
            http: Setting::of("HTTP_PROXY", read("HTTP_PROXY")),
            https: Setting::of("HTTPS_PROXY", read("HTTPS_PROXY")),
            exceptions: no_proxy.split(',').filter_map(Exception::parse).collect(),
        }
    }

    /// The proxy to this URL's host, or none.
    ///
    /// # Errors
    /// [`Cause::Proxy`] where the variable that applies holds no proxy: to go past a proxy by mistake would end in a
    /// timeout that tells nothing.
    pub fn to(&self, url: &Url) -> Result<Option<&Url>, Cause> {
        let setting = if url.scheme() == "https" { &self.https } else { &self.http };
        match setting {
            Setting::Direct => Ok(None),
            _ if self.excepts(url) => Ok(None),
            Setting::Through(proxy) => Ok(Some(proxy)),
            Setting::Wrong { variable, why } => Err(Cause::Proxy { variable, why }),
        }
    }

    fn excepts(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let port = url.port_or_known_default();
        is_loopback(url) || self.exceptions.iter().any(|exception| exception.covers(&host, address, port))
    }
}

impl Setting {
    fn of(variable: &'static str, value: Option<String>) -> Self {
        let Some(value) = value else { return Self::Direct };
        let value = value.trim();
        let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        match Url::parse(&full) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Self::Wrong { variable, why: "its scheme is neither http nor https" }
            }
            Ok(url) if url.has_host() => Self::Through(url),
            _ => Self::Wrong { variable, why: "it does not parse" },
        }
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Ok(address) = bare(&text) {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        if let Ok(address) = bare(host) {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        Some(Self::Domain(host.to_owned(), port))
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        let port_fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::Everything => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(wanted, wanted_port) => address == Some(*wanted) && port_fits(wanted_port),
            Self::Domain(domain, wanted_port) => port_fits(wanted_port) && is_below(host, domain),
        }
    }
}

/// `a.b.c` is below `b.c` and `.b.c`; `b.c` is below `b.c` only.
fn is_below(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => !domain.starts_with('.'),
        Some(rest) => domain.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Proxies::from(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[track_caller]
    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.to(&url.parse().unwrap()).unwrap().map(Url::to_string)
    }

    #[test]
    fn each_scheme_has_its_own() {
        let both =
            proxies(&[("HTTP_PROXY", "p:1"), ("http_proxy", "x:9"), ("https_proxy", "https://u:w@q:2")]);
        assert_eq!(through(&both, "http://a.b/").as_deref(), Some("http://p:1/"));
        assert_eq!(through(&both, "https://a.b/").as_deref(), Some("https://u:w@q:2/"));
        assert_eq!(through(&proxies(&[("HTTP_PROXY", "p:1")]), "https://a.b/"), None);
    }

    #[test]
    fn this_machine_is_never_proxied() {
        let all = proxies(&[("HTTP_PROXY", "p:1")]);
        for url in ["http://localhost:5000/", "http://127.1.2.3/", "http://[::1]:80/"] {
            assert_eq!(through(&all, url), None, "{url}");
        }
    }

    #[test]
    fn no_proxy_knows_domains_addresses_networks_and_ports() {
        for (entry, covered, other) in [
            ("a.b", &["a.b", "x.a.b", "A.B", "a.b:99"][..], &["xa.b", "b"][..]),
            (".a.b", &["x.a.b"], &["a.b", "xa.b"]),
            ("*.a.b", &["x.a.b"], &["a.b"]),
            ("*", &["anything", "10.0.0.1"], &[]),
            ("a.b:80", &["a.b", "x.a.b:80"], &["a.b:81"]),
            ("10.0.0.0/8", &["10.200.3.4:5000"], &["11.0.0.1", "a10.b"]),
            ("fd00::/16", &["[fd00::1]:5000"], &["[fd01::1]"]),
            ("10.1.1.1", &["10.1.1.1:5000"], &["10.1.1.2"]),
            ("10.1.1.1:80", &["10.1.1.1"], &["10.1.1.1:81"]),
            ("[fd00::1]:80", &["[fd00::1]"], &["[fd00::1]:81"]),
            ("a.b:none", &[], &["a.b"]),
            (" , c.d ,a.b ", &["a.b", "c.d"], &["e.f"]),
        ] {
            let proxies = proxies(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", entry)]);
            for host in covered {
                assert_eq!(through(&proxies, &format!("http://{host}/")), None, "{entry} {host}");
            }
            for host in other {
                assert!(through(&proxies, &format!("http://{host}/")).is_some(), "{entry} {host}");
            }
        }
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_password() {
        let wrong = proxies(&[("HTTPS_PROXY", "socks5://u:secret@p:1")]);
        let error = wrong.to(&"https://a.b/".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "HTTPS_PROXY is not a proxy's URL: its scheme is neither http nor https"
        );
        assert!(!format!("{error:?}").contains("secret"));
    }
}
