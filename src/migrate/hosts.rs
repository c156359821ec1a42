//! Registries as older releases have them in config.toml: what each becomes as a file of its own, `hosts.toml`.
//!
//! No credential is in such a file, nor in what is told of it: they come with each pull, from the kubelet.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use serde::Serialize;
use toml::Value;

use super::release::Release;
use super::settings::Setting;
use super::tree::{Leaf, Node, Tree, quoted};
use super::walk::{Output, Section, setting};

/// Where the files are to be.
const ROOT: &str = "/etc/containerd/certs.d";
/// The folder for registries that have none of their own.
const ALL: &str = "_default";
/// Who answers for `docker.io`.
const DOCKER: &str = "registry-1.docker.io";
const CREDENTIALS: &str = "cridge takes credentials with each pull, from the kubelet: make them an imagePullSecret or a \
                           credential provider of the kubelet's, or such pulls fail";

/// A file that the operator is to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostsFile {
    pub path: String,
    pub content: String,
}

impl fmt::Display for HostsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "to be written to {}:", self.path)?;
        self.content.lines().try_for_each(|line| match line {
            "" => writeln!(f),
            line => writeln!(f, "    {line}"),
        })
    }
}

/// Takes the table `registry` apart.
pub(super) fn translate(tree: Tree, out: &mut Output) -> Vec<HostsFile> {
    let mut section = Section::of(tree, out);
    let folders = section.text("config_path");
    for (name, leaf) in section.table("headers").map(|tree| values(tree, section.out)).unwrap_or_default() {
        let setting = header(&name, &leaf);
        section.out.carry_told(setting, |setting| format!("{}, with the value that it has", setting.key()));
    }
    let mirrors = section.table("mirrors").unwrap_or_default();
    let configs = section.table("configs").unwrap_or_default();
    if let Some(auths) = section.table("auths") {
        section.out.all_left(auths, CREDENTIALS);
    }
    let inline = Inline::of(mirrors, configs, section.out);
    match folders {
        Some((folders, leaf)) => {
            let list = folders.split(':').filter(|folder| !folder.is_empty()).map(Value::from).collect();
            section.out.carry(leaf, &["registry", "config_dirs"], Value::Array(list));
        }
        None if section.out.lives && section.out.release < Release(2, 2) && inline.is_empty() => section.out.as_default(
            Leaf { value: Value::from(""), from: "registry.config_path, which is not set".into() },
            "cridge reads hosts.toml in /etc/containerd/certs.d and /etc/docker/certs.d, where containerd reads none",
        ),
        None => {}
    }
    section.finish();
    inline.files()
}

fn values(tree: Tree, out: &mut Output) -> Vec<(String, Leaf)> {
    Section::of(tree, out).leaves()
}

fn header(name: &str, leaf: &Leaf) -> Setting {
    setting(leaf, &["registry", "headers", name], leaf.value.clone())
}

/// What config.toml says of registries.
struct Inline {
    /// By registry; `*` for all others.
    mirrors: BTreeMap<String, Vec<Url>>,
    /// By host.
    tls: BTreeMap<String, Tls>,
}

#[derive(Default)]
struct Tls {
    skip_verify: bool,
    ca: Option<String>,
    /// Certificate and key.
    client: Option<(String, String)>,
}

impl Inline {
    fn of(mirrors: Tree, configs: Tree, out: &mut Output) -> Self {
        let mut inline = Self { mirrors: BTreeMap::new(), tls: BTreeMap::new() };
        for (name, tree) in Section::of(mirrors, out).tables() {
            let mut mirror = Section::of(tree, out);
            if let Some(leaf) = mirror.leaf("endpoint") {
                let urls = endpoints(&leaf, mirror.out);
                inline.mirrors.insert(name.clone(), urls);
                mirror.out.left(leaf, &instead(&name));
            }
            mirror.finish();
        }
        for (host, tree) in Section::of(configs, out).tables() {
            let mut config = Section::of(tree, out);
            if let Some(auth) = config.table("auth") {
                config.out.all_left(auth, CREDENTIALS);
            }
            // 2.x knows it no more.
            if !config.out.release.is_2()
                && let Some(tree) = config.table("tls")
            {
                inline.tls.insert(host.clone(), Tls::of(&tree));
                config.out.all_left(tree, &instead(&host));
            }
            config.finish();
        }
        inline
    }

    fn is_empty(&self) -> bool {
        self.mirrors.is_empty() && self.tls.is_empty()
    }

    fn files(&self) -> Vec<HostsFile> {
        let names =
            self.mirrors.keys().chain(self.tls.keys().filter(|host| !self.mirrors.contains_key(*host)));
        names.map(|name| self.file(name)).collect()
    }

    fn file(&self, name: &str) -> HostsFile {
        let mut content = String::new();
        if name != "*" {
            let server = default_host(name);
            content
                .push_str(&format!("server = {}\n", Value::from(format!("{}://{server}", scheme(server)))));
            content.extend(self.tls.get(server).map(Tls::lines));
        }
        for url in self.mirrors.get(name).into_iter().flatten() {
            content.push_str(&self.host(url));
        }
        HostsFile { path: path(name), content }
    }

    fn host(&self, url: &Url) -> String {
        let path = url.path().trim_end_matches('/');
        let authority = authority(url);
        let mut text = format!(
            "\n[host.{}]\ncapabilities = [\"pull\", \"resolve\"]\n",
            quoted(&format!("{}://{authority}{path}", url.scheme()))
        );
        // In config.toml a path is all of it; in hosts.toml /v2 comes behind, unless one says so.
        if !path.is_empty() && !path.ends_with("/v2") {
            text.push_str("override_path = true\n");
        }
        text.extend(self.tls.get(&authority).map(Tls::lines));
        text
    }
}

impl Tls {
    fn of(tree: &Tree) -> Self {
        let text = |key: &str| match tree.get(key) {
            Some(Node::Leaf(Leaf { value: Value::String(text), .. })) if !text.is_empty() => {
                Some(text.clone())
            }
            _ => None,
        };
        let skip_verify = matches!(
            tree.get("insecure_skip_verify"),
            Some(Node::Leaf(Leaf { value: Value::Boolean(true), .. }))
        );
        Self { skip_verify, ca: text("ca_file"), client: text("cert_file").zip(text("key_file")) }
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        if self.skip_verify {
            lines.push_str("skip_verify = true\n");
        }
        if let Some(ca) = &self.ca {
            lines.push_str(&format!("ca = {}\n", Value::from(ca.as_str())));
        }
        if let Some((certificate, key)) = &self.client {
            let pair = [certificate, key].map(|file| Value::from(file.as_str()));
            lines.push_str(&format!("client = {}\n", Value::Array(vec![Value::Array(pair.to_vec())])));
        }
        lines
    }
}

/// The endpoints that are URLs; what is none is named, without its text.
fn endpoints(leaf: &Leaf, out: &mut Output) -> Vec<Url> {
    let mut urls = Vec::new();
    for endpoint in leaf.value.as_array().into_iter().flatten() {
        let parsed = endpoint.as_str().and_then(|text| {
            let host = text.split(['/', '?']).next().unwrap_or_default();
            let full =
                if text.contains("://") { text.to_owned() } else { format!("{}://{text}", scheme(host)) };
            Url::parse(&full).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        });
        match parsed {
            Some(url) => urls.push(url),
            None => {
                out.left(leaf.clone(), "one of its endpoints is no URL: images would not be pulled from it")
            }
        }
    }
    urls
}

fn instead(name: &str) -> String {
    format!("{} takes its place: it is printed below, and read at each pull", path(name))
}

fn path(name: &str) -> String {
    let folder = if name == "*" { ALL } else { name };
    // It may have come with a path; a folder's name is the host.
    let folder = folder.split('/').find(|part| !part.is_empty() && *part != "..").unwrap_or(ALL);
    format!("{ROOT}/{folder}/hosts.toml")
}

fn default_host(name: &str) -> &str {
    if name == "docker.io" { DOCKER } else { name }
}

/// containerd asks this machine without TLS.
fn scheme(host: &str) -> &'static str {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if name == "localhost" || is_loopback { "http" } else { "https" }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
