//! The text of a `hosts.toml`. The order of its `[host."…"]` tables is the order in which hosts are tried, so the
//! tables are taken by their place in the file, not by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::hosts::{Capabilities, Parsed, Settings, TlsFiles};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    server: String,
    #[serde(default)]
    host: BTreeMap<String, Table>,
}

/// The keys of one host, and at the top of the file those of the server.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Table {
    capabilities: Vec<String>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    header: BTreeMap<String, OneOrMany>,
    override_path: bool,
    dial_timeout: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a file, a list of files, or a list of pairs of certificate and key")]
enum Clients {
    One(String),
    Many(Vec<Client>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    Both(String),
    Pair(String, String),
}

/// Reads the text of a file of this folder; its relative paths are the folder's.
///
/// # Errors
/// Line and reason.
pub(super) fn parse(text: &str, folder: &Path) -> Result<Parsed, String> {
    let explain = |error: toml::de::Error| located(text, &error);
    let order = order(text).map_err(explain)?;
    let root: Table = toml::from_str(text).map_err(explain)?;
    let mut file: File = toml::from_str(text).map_err(explain)?;
    let server = match file.server.as_str() {
        "" => None,
        server => Some(base(server, root.override_path)?),
    };
    let mut hosts = Vec::new();
    for name in order {
        let Some(table) = file.host.remove(&name) else { continue };
        let base = base(&name, table.override_path)?;
        hosts.push((base, settings(table, folder).map_err(|why| format!("[host.{name:?}]: {why}"))?));
    }
    Ok(Parsed { server, root: settings(root, folder)?, hosts })
}

/// The names of the host tables, as they come in the file.
fn order(text: &str) -> Result<Vec<String>, toml::de::Error> {
    let table = toml::de::DeTable::parse(text)?;
    let Some(hosts) = table.get_ref().get("host").and_then(|host| host.get_ref().as_table()) else {
        return Ok(Vec::new());
    };
    let mut names: Vec<_> = hosts.keys().map(|key| (key.span().start, key.get_ref().to_string())).collect();
    names.sort();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

fn located(text: &str, error: &toml::de::Error) -> String {
    let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    match error.span() {
        Some(span) => format!("line {}: {}", line(span.start), error.message()),
        None => error.message().to_owned(),
    }
}

/// The API's root: below `/v2`, unless the path is said to be the whole of it.
fn base(server: &str, override_path: bool) -> Result<Url, String> {
    let full = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let mut url = Url::parse(&full)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| format!("{:?} is not a host's URL", redacted(server)))?;
    let path = url.path().trim_end_matches('/');
    let path = if override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    // As with containerd, no credentials come from here. Neither can fail where there is a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url)
}

/// Without what may be a password.
fn redacted(server: &str) -> &str {
    let server = server.split('?').next().unwrap_or_default();
    server.rsplit_once('@').map_or(server, |(_, host)| host)
}

fn settings(table: Table, folder: &Path) -> Result<Settings, String> {
    let absolute = |path: String| folder.join(path);
    let ca = table.ca.map(OneOrMany::into_vec).unwrap_or_default();
    let client = match table.client {
        None => Vec::new(),
        Some(Clients::One(file)) => vec![(absolute(file), None)],
        Some(Clients::Many(clients)) => clients.into_iter().map(|client| pair(client, folder)).collect(),
    };
    let tls = TlsFiles { ca: ca.into_iter().map(absolute).collect(), client, skip_verify: table.skip_verify };
    Ok(Settings {
        capabilities: capabilities(&table.capabilities)?,
        tls,
        headers: headers(table.header)?,
        dial_timeout: dial_timeout(&table.dial_timeout)?,
    })
}

fn pair(client: Client, folder: &Path) -> (PathBuf, Option<PathBuf>) {
    match client {
        Client::Both(file) => (folder.join(file), None),
        Client::Pair(certificate, key) => (folder.join(certificate), Some(folder.join(key))),
    }
}

fn capabilities(names: &[String]) -> Result<Option<Capabilities>, String> {
    let mut found = Capabilities { pull: false, resolve: false };
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            // Nothing here pushes, or asks for referrers.
            "push" | "referrers" => {}
            _ => return Err(format!("capability {name:?} is none of pull, resolve, push and referrers")),
        }
    }
    Ok((!names.is_empty()).then_some(found))
}

fn headers(table: BTreeMap<String, OneOrMany>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, values) in table {
        let parsed = HeaderName::try_from(&name).map_err(|_| format!("{name:?} is not a header's name"))?;
        for value in values.into_vec() {
            // The value may be a secret.
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("header {name} has a value that none may have"))?;
            value.set_sensitive(true);
            headers.push((parsed.clone(), value));
        }
    }
    Ok(headers)
}

fn dial_timeout(text: &str) -> Result<Option<Duration>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let timeout = humantime::parse_duration(text).ok().filter(|timeout| !timeout.is_zero());
    timeout.map(Some).ok_or_else(|| format!("dial_timeout {text:?} is not a duration such as \"10s\""))
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Parsed {
        parse(text, Path::new("/f")).unwrap_or_else(|why| panic!("{why}"))
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let why = parse(text, Path::new("/f")).expect_err(text);
        assert_eq!(why, expected);
    }

    #[test]
    fn hosts_keep_the_order_of_the_file() {
        let hosts =
            parsed("[host.\"https://b\"]\n[host.\"https://a\"]\n[host.\"https://c\".header]\nx='y'").hosts;
        let bases: Vec<&str> = hosts.iter().map(|(base, _)| base.as_str()).collect();
        assert_eq!(bases, ["https://b/v2", "https://a/v2", "https://c/v2"]);
    }

    #[test]
    fn every_key_in_every_form() {
        let parsed = parsed(
            r#"
            server = "s.example:5000/base/"
            ca = "ca.pem"
            client = "both.pem"
            dial_timeout = "1m30s"
            [host."https://one"]
            capabilities = ["pull", "RESOLVE", "push", "referrers"]
            ca = ["a.pem", "/abs/b.pem"]
            client = ["x.pem", ["y.cert", "y.key"]]
            skip_verify = true
            override_path = true
            [host."https://one".header]
            x-one = "1"
            x-two = ["2", "3"]
            [host."https://two/v2/"]
            capabilities = ["push"]
            "#,
        );
        assert_eq!(parsed.server.unwrap().as_str(), "https://s.example:5000/base/v2");
        assert_eq!(parsed.root.tls.ca, [Path::new("/f/ca.pem")]);
        assert_eq!(parsed.root.tls.client, [("/f/both.pem".into(), None)]);
        assert_eq!(parsed.root.dial_timeout, Some(Duration::from_secs(90)));
        let (base, one) = &parsed.hosts[0];
        assert_eq!(base.as_str(), "https://one/");
        assert_eq!(one.capabilities, Some(Capabilities::ALL));
        assert_eq!(one.tls.ca, [Path::new("/f/a.pem"), Path::new("/abs/b.pem")]);
        let pair = ("/f/y.cert".into(), Some("/f/y.key".into()));
        assert_eq!(one.tls.client, [("/f/x.pem".into(), None), pair]);
        assert_eq!(one.tls.skip_verify, Some(true));
        let headers: Vec<_> = one.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-one", "1"), ("x-two", "2"), ("x-two", "3")]);
        assert_eq!(format!("{:?}", one.headers[0].1), "Sensitive");
        let (base, two) = &parsed.hosts[1];
        assert_eq!(base.as_str(), "https://two/v2");
        assert_eq!(two.capabilities, Some(Capabilities { pull: false, resolve: false }));
    }

    #[test]
    fn refusals_name_the_line_or_the_key() {
        refused("\nca = 7", "line 2: a string or a list of strings");
        refused(
            "[host.\"https://a\"]\nclient = [[\"one\"]]",
            "line 2: a file, a list of files, or a list of pairs of certificate and key",
        );
        refused("skip_verify = \"yes\"", "line 1: invalid type: string \"yes\", expected a boolean");
        refused(
            "capabilities = [\"fly\"]",
            "capability \"fly\" is none of pull, resolve, push and referrers",
        );
        refused("[host.\"ftp://a\"]", "\"ftp://a\" is not a host's URL");
        refused("server = \"https://u:secret@?x=secret\"", "\"\" is not a host's URL");
        refused("dial_timeout = \"soon\"", "dial_timeout \"soon\" is not a duration such as \"10s\"");
        refused(
            "[host.\"https://a\".header]\n\"a b\" = \"c\"",
            "[host.\"https://a\"]: \"a b\" is not a header's name",
        );
        refused("[header]\nx = \"s\\u0000\"", "header x has a value that none may have");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text, Path::new("/f"));
        }

        #[test]
        fn no_host_panics(host in any::<String>()) {
            let _ = parse(&format!("[host.{}]", toml::Value::from(host)), Path::new("/f"));
        }
    }
}
