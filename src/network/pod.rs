//! A pod's attachment to every configured network.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::cache::{self, Entry};
use super::capability::PodNetwork;
use super::chain::{self, Attaching};
use super::conflist::NetworkList;
use super::error::NetworkError;
use super::folder::{Folder, Loaded};
use super::generate;
use super::plugin::{Environment, Runner};
use super::pod_lock;
use super::pod_result::{POD_INTERFACE, PodResult};
use super::result::CniResult;
use super::template::PodCidrs;
use super::watch;
use crate::config::{IpPreference, NetworkConfig};
use crate::error::Errors;
use crate::linux::netns;

/// How long a plugin may take to say whether it is ready: the kubelet asks every five seconds.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// The networks of one configuration folder: loaded, watched, callable. Cheap to clone.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

struct Inner {
    config: NetworkConfig,
    folder: Arc<Folder>,
    /// Ends with the last clone.
    _watch: AbortOnDropHandle<()>,
}

/// What ADD gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// Addresses of `eth0`, the preferred family first. Never empty after a successful ADD.
    pub ips: Vec<IpAddr>,
    /// The result in go-cni's own form, as the built-in plugin stores it in the sandbox's metadata (`CNIResult`).
    pub result: Value,
}

impl Networks {
    /// Loads the folder and begins to watch it (and its parent while it is missing). Never fails: what is wrong is
    /// told by [`Networks::status`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch(config: NetworkConfig) -> Self {
        let folder = Arc::new(Folder::new(config.conf_dir.clone(), config.max_conf_num));
        let watch = AbortOnDropHandle::new(tokio::spawn(watch::follow(folder.clone())));
        Self(Arc::new(Inner { config, folder, _watch: watch }))
    }

    /// Whether it is of this configuration.
    pub fn is_of(&self, config: &NetworkConfig) -> bool {
        self.0.config == *config
    }

    /// Whether a pod could be attached now: `Err` says what is missing. Rescans the folder; asks plugins of CNI ≥ 1.1
    /// by STATUS, within a deadline.
    pub async fn status(&self) -> Result<(), NetworkError> {
        let loaded = self.0.folder.rescan();
        let deadline = self.0.config.plugin_timeout.min(STATUS_DEADLINE);
        let runner = Runner { deadline, ..self.runner(None) };
        for list in networks(&loaded)? {
            chain::status(list, &runner).await?;
        }
        Ok(())
    }

    /// Makes a network list of the configured template, where there is neither a network nor one in the folder; whether
    /// it did.
    ///
    /// # Errors
    /// [`NetworkError::Template`], [`NetworkError::Generate`].
    pub async fn generate(&self, cidrs: &PodCidrs) -> Result<bool, NetworkError> {
        let config = &self.0.config;
        let Some(template) = config.conf_template.clone() else { return Ok(false) };
        // One that is there and not ready needs no other.
        if self.0.folder.rescan().is_ok() {
            return Ok(false);
        }
        let (folder, cidrs) = (config.conf_dir.clone(), cidrs.clone());
        let written = tokio::task::spawn_blocking(move || generate::write(&template, &folder, &cidrs)).await;
        written.unwrap_or_else(|panic| {
            let path = config.conf_dir.clone();
            Err(NetworkError::Generate { path, source: panic.into() })
        })?;
        // Not left to the watch: whoever asks for a pod next has a network.
        self.0.folder.rescan();
        Ok(true)
    }

    /// The outcome of the last load, as the built-in plugin words it.
    pub fn last_load(&self) -> String {
        self.0.folder.last().as_ref().as_ref().err().map_or("OK", String::as_str).to_owned()
    }

    /// The loaded networks for Status' verbose info, in the built-in plugin's words.
    pub fn describe(&self) -> Value {
        let loaded = self.0.folder.last();
        let lists = loaded.as_deref().unwrap_or_default();
        let config = &self.0.config;
        json!({
            "PluginDirs": config.bin_dirs,
            "PluginConfDir": config.conf_dir,
            "PluginMaxConfNum": config.max_conf_num,
            "Prefix": "eth",
            "Networks": lists.iter().enumerate().map(|(n, list)| describe(n, list)).collect::<Vec<_>>(),
        })
    }

    /// ADD on every network. On error the caller calls [`Networks::detach`]. Cancel-safe: dropping the future kills
    /// the plugin's process group.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        let loaded = self.0.folder.rescan();
        let lists = networks(&loaded)?;
        let (args, capabilities) = (pod.args()?, pod.capabilities());
        let sandbox =
            pod.netns.as_deref().ok_or_else(|| NetworkError::NoNamespace { pod: pod.id.to_string() })?;
        let lock = pod_lock::take(&pod.lock_path).await?;
        let runner = self.runner(Some(lock));
        let names: Vec<String> = (0..lists.len()).map(|n| format!("eth{n}")).collect();
        let adds = lists.iter().zip(&names).map(|(list, if_name)| {
            let environment =
                Environment { container_id: pod.id.as_str(), netns: Some(sandbox), if_name, args: &args };
            let attaching = Attaching { list, environment, capabilities: &capabilities };
            let runner = &runner;
            async move { attaching.add(runner, &self.0.config.cache_dir).await }
        });
        let results = self.all(adds).await?;
        self.unite(sandbox, &results)
    }

    /// All at once, or one after the other up to the first failure. At once, each is awaited even when another
    /// failed: a plugin that is killed halfway leaves more behind than one that ends.
    async fn all<F>(&self, adds: impl Iterator<Item = F>) -> Result<Vec<CniResult>, NetworkError>
    where
        F: Future<Output = Result<CniResult, NetworkError>>,
    {
        if !self.0.config.setup_serially {
            return join_all(adds).await.into_iter().collect();
        }
        let mut results = Vec::new();
        for add in adds {
            results.push(add.await?);
        }
        Ok(results)
    }

    fn unite(&self, sandbox: &Path, results: &[CniResult]) -> Result<Attachment, NetworkError> {
        let no_address = |reason| NetworkError::NoAddress { reason };
        let pod = PodResult::new(&sandbox.display().to_string(), results).map_err(no_address)?;
        let ips = preferred_first(pod.ips(), self.0.config.ip_preference);
        if ips.is_empty() {
            return Err(no_address(format!("the results name no address for {POD_INTERFACE}")));
        }
        let result = serde_json::to_value(&pod).map_err(|e| no_address(e.to_string()))?;
        Ok(Attachment { ips, result })
    }

    /// DEL on every network, in reverse, with the cached configuration and result where there are some. Idempotent;
    /// waits for (or kills) what still holds the pod's lock before.
    ///
    /// Every network is tried; those that failed keep their cache file for the next call.
    pub async fn detach(&self, pod: &PodNetwork) -> Result<(), NetworkError> {
        let runner = self.runner(pod_lock::take_if_any(&pod.lock_path).await?);
        let cached = cache::of_container(&self.0.config.cache_dir, pod.id.as_str())?;
        // A pinned namespace that is gone is told as none (CNI spec, "DEL").
        let netns = pod.netns.as_deref().filter(|path| netns::is_pinned(path));
        let mut errors = Errors::default();
        for (entry, list) in cached.attachments.iter().rev() {
            errors.keep(self.detach_cached(entry, list, netns, &runner).await);
        }
        if cached.attachments.is_empty() || !cached.unreadable.is_empty() {
            let loaded = self.0.folder.rescan();
            let lists = loaded.as_deref().unwrap_or_default();
            let told =
                |list: &NetworkList| cached.attachments.iter().any(|(e, _)| e.network_name == list.name);
            for (n, list) in lists.iter().enumerate().rev().filter(|(_, list)| !told(list)) {
                errors.keep(self.detach_loaded(pod, n, list, netns, &runner).await);
            }
        }
        errors.into_result().map_err(NetworkError::Detach)?;
        cached.unreadable.iter().chain(&cached.drafts).try_for_each(|path| cache::remove_file(path))
    }

    async fn detach_cached(
        &self,
        entry: &Entry,
        list: &NetworkList,
        netns: Option<&Path>,
        runner: &Runner<'_>,
    ) -> Result<(), NetworkError> {
        let cache_dir = &self.0.config.cache_dir;
        if list.is_loopback() {
            return entry.remove(cache_dir);
        }
        let previous = entry.result.clone().and_then(|raw| CniResult::from_map(raw, list.version).ok());
        let environment = Environment {
            container_id: &entry.container_id,
            netns,
            if_name: &entry.if_name,
            args: entry.cni_args.as_deref().unwrap_or_default(),
        };
        let nothing = Map::new();
        let capabilities = entry.capability_args.as_ref().unwrap_or(&nothing);
        Attaching { list, environment, capabilities }.del(runner, cache_dir, previous.as_ref()).await?;
        // Found under its own name, which a single-plugin configuration need not repeat.
        entry.remove(cache_dir)
    }

    /// For a pod without cache files: it may have been attached by somebody else whose ADD was cut off.
    async fn detach_loaded(
        &self,
        pod: &PodNetwork,
        n: usize,
        list: &NetworkList,
        netns: Option<&Path>,
        runner: &Runner<'_>,
    ) -> Result<(), NetworkError> {
        // A pod that cannot be named was refused at ADD too.
        let Ok(args) = pod.args() else { return Ok(()) };
        let if_name = format!("eth{n}");
        let environment =
            Environment { container_id: pod.id.as_str(), netns, if_name: &if_name, args: &args };
        let attaching = Attaching { list, environment, capabilities: &pod.capabilities() };
        match attaching.del(runner, &self.0.config.cache_dir, None).await {
            // Without its program and without a record the network was never attached.
            Err(NetworkError::PluginMissing { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) fn config(&self) -> &NetworkConfig {
        &self.0.config
    }

    /// The networks of now; none where the folder is wrong.
    pub(super) fn loaded(&self) -> Vec<NetworkList> {
        self.0.folder.rescan().as_deref().unwrap_or_default().to_vec()
    }

    pub(super) fn runner(&self, lock: Option<Arc<std::fs::File>>) -> Runner<'_> {
        Runner { dirs: &self.0.config.bin_dirs, deadline: self.0.config.plugin_timeout, lock }
    }
}

fn networks(loaded: &Loaded) -> Result<&[NetworkList], NetworkError> {
    loaded.as_deref().map_err(|reason| NetworkError::NotReady { reason: reason.clone() })
}

/// The first address of the preferred family moves to the front; the others stay in order.
fn preferred_first(mut ips: Vec<IpAddr>, preference: IpPreference) -> Vec<IpAddr> {
    let wanted = match preference {
        IpPreference::Ipv4 => ips.iter().position(IpAddr::is_ipv4),
        IpPreference::Ipv6 => ips.iter().position(IpAddr::is_ipv6),
        IpPreference::Cni => None,
    };
    if let Some(n) = wanted {
        ips[..=n].rotate_right(1);
    }
    ips
}

/// go-cni's `ConfNetwork`.
fn describe(n: usize, list: &NetworkList) -> Value {
    let plugin = |plugin: &super::conflist::PluginConf| json!({"Network": plugin.json, "Source": Value::Object(plugin.json.clone()).to_string()});
    json!({
        "Config": {
            "Name": list.name,
            "CNIVersion": list.version.to_string(),
            "Plugins": list.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "Source": String::from_utf8_lossy(&list.source),
        },
        "IFName": format!("eth{n}"),
    })
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
