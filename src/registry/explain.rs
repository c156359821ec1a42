//! What a pull would do, in an operator's words.

use std::path::PathBuf;

use super::error::shown;
use super::hosts::{Fallback, Host, Need, Role};
use super::proxy::Proxies;
use crate::error::chain;

/// One host: its URL, what it is asked for, whom we trust and who we are there, and the way to it.
pub(super) fn line(host: &Host, proxies: &Proxies) -> String {
    let role = match host.role {
        Role::Registry => "the registry",
        Role::Mirror => "mirror",
    };
    let able = [Need::Pull, Need::Resolve].into_iter().filter(|need| host.capabilities.allow(*need));
    let able: Vec<&str> = able.map(Need::as_str).collect();
    let able = if able.is_empty() { "nothing".to_owned() } else { able.join(" and ") };
    let mut parts = vec![format!("{role}, for {able}")];
    parts.extend(tls(host));
    if !host.headers.is_empty() {
        let names: Vec<&str> = host.headers.iter().map(|(name, _)| name.as_str()).collect();
        parts.push(format!("headers {}", names.join(" ")));
    }
    if let Some(timeout) = host.dial_timeout {
        parts.push(format!("dial timeout {timeout:?}"));
    }
    parts.push(match proxies.to(&host.base) {
        Ok(None) => "no proxy".to_owned(),
        Ok(Some(proxy)) => format!("proxy {}", shown(proxy)),
        Err(cause) => chain(&cause),
    });
    format!("{}: {}", shown(&host.base), parts.join("; "))
}

/// Where configuration is looked for.
pub(super) fn roots(roots: &[PathBuf]) -> String {
    let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
    if roots.is_empty() { "any place".to_owned() } else { roots.join(" or ") }
}

fn tls(host: &Host) -> Vec<String> {
    if host.base.scheme() == "http" {
        return vec!["without TLS".to_owned()];
    }
    let files = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut parts = Vec::new();
    parts.push(match (&host.tls.skip_verify, host.tls.ca.is_empty()) {
        (Some(true), _) => "any certificate".to_owned(),
        (_, true) => "the system's CAs".to_owned(),
        (_, false) => format!("the system's CAs and {}", files(&mut host.tls.ca.iter())),
    });
    if host.fallback == Fallback::PlainHttp {
        parts.push("without TLS where it has none".to_owned());
    }
    if !host.tls.client.is_empty() {
        let certificates = &mut host.tls.client.iter().map(|(certificate, _)| certificate);
        parts.push(format!("client certificate {}", files(certificates)));
    }
    parts
}
