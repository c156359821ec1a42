//! What attachments leave on the node, whoever made them: the files of libcni's cache, and the addresses that the
//! IPAM plugin host-local holds.
//!
//! A trace is taken back by DEL, never by deleting its file: only the plugins know what else there is.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::cache;
use super::chain::Attaching;
use super::conflist::NetworkList;
use super::plugin::Environment;
use super::{NetworkError, Networks, PodNetwork, pod_lock};
use crate::id::{PodId, is_id};
use crate::linux::netns;

/// Where host-local keeps addresses unless it is told (its documentation, "dataDir").
const HOST_LOCAL_DIR: &str = "/var/lib/cni/networks";

/// One trace of one container's attachment; only of containers that have an id as a CRI gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub container_id: PodId,
    pub file: PathBuf,
    pub kind: TraceKind,
    /// As the cache tells; `None` of an address, and where the file cannot be read.
    pub netns: Option<PathBuf>,
    network: Option<NetworkList>,
    interface: String,
}

/// What a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// A file of libcni's cache.
    Result,
    /// An address that host-local holds.
    Address(IpAddr),
}

impl Networks {
    /// Every trace in the cache, and every address of the networks that are configured, or named in the cache.
    ///
    /// # Errors
    /// Where the cache is there and cannot be listed.
    pub fn traces(&self) -> Result<Vec<Trace>, NetworkError> {
        let mut networks: BTreeMap<_, _> =
            self.loaded().into_iter().map(|list| (list.name.clone(), list)).collect();
        let mut found = Vec::new();
        for file in cache::files(&self.config().cache_dir)? {
            let read = cache::read(&file).ok();
            let id = match &read {
                Some((entry, _)) => PodId::parse(&entry.container_id).ok(),
                None => id_in_name(&file),
            };
            let entry = read.map(|(entry, list)| {
                networks.entry(list.name.clone()).or_insert_with(|| list.clone());
                (entry, list)
            });
            let Some(container_id) = id else { continue };
            let netns = entry.as_ref().map(|(entry, _)| PathBuf::from(&entry.netns));
            found.push(Trace {
                container_id,
                file,
                kind: TraceKind::Result,
                netns: netns.filter(|path| !path.as_os_str().is_empty()),
                interface: entry.as_ref().map(|(entry, _)| entry.if_name.clone()).unwrap_or_default(),
                network: entry.map(|(_, list)| list),
            });
        }
        for list in networks.values() {
            found.extend(data_dirs(list).iter().flat_map(|dir| addresses(&dir.join(&list.name), list)));
        }
        Ok(found)
    }

    /// Runs DEL for a trace whose pod is gone; `lock` is the pod's lock file. Idempotent.
    pub async fn take_back(&self, trace: &Trace, lock: PathBuf) -> Result<(), NetworkError> {
        let netns = trace.netns.clone().filter(|path| netns::is_pinned(path));
        match (&trace.kind, &trace.network) {
            (TraceKind::Address(_), Some(list)) => {
                let runner = self.runner(pod_lock::take_if_any(&lock).await?);
                let id = trace.container_id.as_str();
                let args = [("K8S_POD_INFRA_CONTAINER_ID", id), ("IgnoreUnknown", "1")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()));
                let environment =
                    Environment { container_id: id, netns: None, if_name: &trace.interface, args: &args };
                let nothing = Map::new();
                Attaching { list, environment, capabilities: &nothing }
                    .del(&runner, &self.config().cache_dir, None)
                    .await
            }
            // Another trace of the same pod may have taken it along.
            _ if !trace.file.exists() => Ok(()),
            _ => self.detach(&nameless(trace.container_id.clone(), netns, lock)).await,
        }
    }
}

/// A pod of which nothing but its id is known any more: the cache tells plugins the rest.
fn nameless(id: PodId, netns: Option<PathBuf>, lock_path: PathBuf) -> PodNetwork {
    PodNetwork {
        id,
        namespace: String::new(),
        name: String::new(),
        uid: String::new(),
        netns,
        port_mappings: Vec::new(),
        bandwidth: None,
        dns: None,
        cgroup_parent: String::new(),
        annotations: BTreeMap::new(),
        lock_path,
    }
}

/// The id in `<network>-<container>-<interface>`, or in a draft's `.<container>-<interface>`.
fn id_in_name(file: &Path) -> Option<PodId> {
    let name = file.file_name()?.to_str()?;
    name.split(['.', '-']).find(|part| is_id(part)).and_then(|id| PodId::parse(id).ok())
}

/// Where the network's plugins have host-local keep addresses.
fn data_dirs(list: &NetworkList) -> Vec<PathBuf> {
    let of_plugin = |conf: &Map<String, Value>| {
        let ipam = conf.get("ipam")?;
        (ipam.get("type")?.as_str()? == "host-local")
            .then(|| PathBuf::from(ipam.get("dataDir").and_then(Value::as_str).unwrap_or(HOST_LOCAL_DIR)))
    };
    list.plugins.iter().filter_map(|plugin| of_plugin(&plugin.json)).collect()
}

/// Files that are called as the address, and hold the container's id and, in a second line, its interface.
fn addresses(folder: &Path, list: &NetworkList) -> Vec<Trace> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let trace = |file: PathBuf| {
        let address: IpAddr = file.file_name()?.to_str()?.parse().ok()?;
        let text = fs::read_to_string(&file).ok()?;
        let mut lines = text.lines();
        Some(Trace {
            container_id: PodId::parse(lines.next()?.trim()).ok()?,
            file,
            kind: TraceKind::Address(address),
            netns: None,
            network: Some(list.clone()),
            interface: lines.next().map_or("eth0", str::trim).to_owned(),
        })
    };
    let mut found: Vec<_> = entries.filter_map(|entry| trace(entry.path())).collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

#[cfg(test)]
impl Trace {
    /// A trace without a network, for tables.
    pub fn of(id: &str, file: &str, kind: TraceKind, netns: Option<&str>) -> Self {
        Self {
            container_id: PodId::parse(id).expect("an id"),
            file: file.into(),
            kind,
            netns: netns.map(Into::into),
            network: None,
            interface: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::super::cache::Entry;
    use super::*;
    use crate::config::NetworkConfig;

    const IDS: [&str; 3] = [
        "1111111111111111111111111111111111111111111111111111111111111111",
        "2222222222222222222222222222222222222222222222222222222222222222",
        "3333333333333333333333333333333333333333333333333333333333333333",
    ];

    struct Node {
        dir: tempfile::TempDir,
        networks: Networks,
    }

    impl Node {
        /// One network is configured; its plugin notes its calls.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for folder in ["net.d", "bin", "ipam/now", "ipam/old"] {
                fs::create_dir_all(at(folder)).unwrap();
            }
            let config = NetworkConfig {
                conf_dir: at("net.d"),
                bin_dirs: vec![at("bin")],
                cache_dir: at("cache"),
                ..NetworkConfig::default()
            };
            fs::write(at("net.d/1.conflist"), Self::list(dir.path(), "now")).unwrap();
            let note = "echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME";
            let plugin = format!("#!/bin/sh\n{note} >>{}\n", at("calls").display());
            fs::write(at("bin/t"), plugin).unwrap();
            fs::set_permissions(at("bin/t"), fs::Permissions::from_mode(0o755)).unwrap();
            Self { networks: Networks::watch(config), dir }
        }

        fn list(dir: &Path, name: &str) -> Vec<u8> {
            let ipam = json!({"type": "host-local", "dataDir": dir.join("ipam")});
            let plugins = json!([{"type": "t", "ipam": ipam}]);
            json!({"cniVersion": "0.4.0", "name": name, "plugins": plugins}).to_string().into_bytes()
        }

        fn cache(&self, network: &str, id: &str) {
            let list = Self::list(self.dir.path(), network);
            let mut entry = Entry::new(network, id, "eth0", &list);
            entry.netns = "/gone".into();
            entry.store(&self.dir.path().join("cache")).unwrap();
        }

        fn address(&self, file: &str, content: &str) {
            fs::write(self.dir.path().join("ipam").join(file), content).unwrap();
        }

        /// As (id, the end of the file's path).
        fn traces(&self) -> Vec<(String, String)> {
            let shown = |trace: &Trace| {
                let file = trace.file.strip_prefix(self.dir.path()).unwrap();
                (trace.container_id.to_string(), file.display().to_string())
            };
            self.networks.traces().unwrap().iter().map(shown).collect()
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default()
        }
    }

    #[tokio::test]
    async fn results_and_addresses_are_found_whatever_network_is_configured_now() {
        let node = Node::new();
        assert_eq!(node.traces(), []);
        node.cache("old", IDS[0]);
        node.cache("old", "default-not-a-pods");
        fs::write(node.dir.path().join(format!("cache/results/x-{}-eth0", IDS[2])), "{").unwrap();
        node.address("now/10.0.0.5", &format!("{}\r\neth1", IDS[1]));
        node.address("now/10.0.0.6", &format!("default-{}\r\neth0", IDS[1]));
        node.address("now/lock", "");
        node.address("now/last_reserved_ip.0", IDS[1]);
        node.address("old/fd00::7", IDS[0]);
        let expected = [
            (IDS[0], format!("cache/results/old-{}-eth0", IDS[0])),
            (IDS[2], format!("cache/results/x-{}-eth0", IDS[2])),
            (IDS[1], "ipam/now/10.0.0.5".to_owned()),
            (IDS[0], "ipam/old/fd00::7".to_owned()),
        ];
        assert_eq!(node.traces(), expected.map(|(id, file)| (id.to_owned(), file)));
    }

    #[tokio::test]
    async fn a_trace_is_taken_back_by_the_plugins() {
        let node = Node::new();
        node.cache("old", IDS[0]);
        node.address("now/10.0.0.5", &format!("{}\r\neth1", IDS[1]));
        let lock = || node.dir.path().join("no-folder/lock");
        for trace in node.networks.traces().unwrap() {
            node.networks.take_back(&trace, lock()).await.unwrap();
        }
        assert_eq!(node.calls(), format!("DEL {} eth0\nDEL {} eth1\n", IDS[0], IDS[1]));
        // The address is the plugin's to give back, and this one does not.
        assert_eq!(node.traces(), [(IDS[1].to_owned(), "ipam/now/10.0.0.5".to_owned())]);
    }

    #[tokio::test]
    async fn a_draft_of_a_killed_daemon_is_a_trace_and_goes() {
        let node = Node::new();
        node.cache("now", IDS[0]);
        let at = |name: String| node.dir.path().join("cache/results").join(name);
        let (whole, half) = (format!(".{}-eth0", IDS[0]), format!(".{}-eth0", IDS[1]));
        fs::rename(at(format!("now-{}-eth0", IDS[0])), at(whole.clone())).unwrap();
        fs::write(at(half.clone()), "{").unwrap();
        let traces = [(IDS[0], whole), (IDS[1], half)];
        assert_eq!(node.traces(), traces.map(|(id, name)| (id.to_owned(), format!("cache/results/{name}"))));
        for trace in node.networks.traces().unwrap() {
            node.networks.take_back(&trace, node.dir.path().join("no-folder/lock")).await.unwrap();
        }
        assert_eq!(node.traces(), []);
    }

    #[tokio::test]
    async fn a_failed_plugin_leaves_the_trace() {
        let node = Node::new();
        node.cache("now", IDS[0]);
        fs::write(node.dir.path().join("bin/t"), "#!/bin/sh\nexit 1\n").unwrap();
        let trace = node.networks.traces().unwrap().remove(0);
        let lock = node.dir.path().join("lock");
        node.networks.take_back(&trace, lock).await.unwrap_err();
        assert_eq!(node.traces().len(), 1);
    }
}
