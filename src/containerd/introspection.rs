//! What containerd says of itself.

use std::collections::BTreeMap;

use containerd_client::services::v1 as api;
use containerd_client::types::{Platform, RuntimeInfo, RuntimeRequest};
use prost::Message as _;

use super::call::{Call, Forgiving as _};
use super::convert::ordered;
use super::{Containerd, ContainerdError, RuntimeSelection};
use crate::error::Kind;

type Result<T> = std::result::Result<T, ContainerdError>;

/// Where the built-in CRI plugin works; it cannot be told to work elsewhere.
const CRI_NAMESPACE: &str = "k8s.io";

/// What `containerd --version` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub version: String,
    pub revision: String,
}

impl Version {
    /// Major and minor: `v2.1.9` and `1.6.20~ds1` are (2, 1) and (1, 6). One that has no numbers is before all others.
    pub fn number(&self) -> (u32, u32) {
        let numbers = self.version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
        let mut numbers = numbers.map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// A plugin as loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// As in `io.containerd.snapshotter.v1`.
    pub kind: String,
    pub id: String,
    pub exports: BTreeMap<String, String>,
    pub capabilities: Vec<String>,
    pub platforms: Vec<String>,
    /// Why it did not load; `None` when it did.
    /// A plugin that found nothing to do on this node is here too ("skip plugin").
    pub init_error: Option<String>,
}

impl Plugin {
    /// Whether it works on this node.
    pub fn is_loaded(&self) -> bool {
        self.init_error.is_none()
    }

    /// Whether it is the built-in CRI plugin: at work, it owns every pod of its namespace.
    pub fn is_built_in_cri(&self) -> bool {
        self.kind == "io.containerd.grpc.v1" && self.id == "cri"
    }

    /// Whether it is one of the parts that 2.x has split off the CRI plugin. They serve nobody by themselves, but go
    /// on looking after images and sandboxes.
    pub fn is_part_of_built_in_cri(&self) -> bool {
        match self.kind.as_str() {
            "io.containerd.cri.v1" => true,
            "io.containerd.podsandbox.controller.v1" => self.id == "podsandbox",
            _ => false,
        }
    }
}

/// What the daemon says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerInfo {
    pub uuid: String,
    /// As containerd's own PID namespace counts; unset before 1.7.
    pub pid: Option<u64>,
    /// What is in use and will go away: the warnings by their names.
    pub deprecations: BTreeMap<String, String>,
}

impl Containerd {
    /// containerd's version.
    pub async fn version(&self) -> Result<Version> {
        let socket = self.socket_name();
        let call = Call::record("tell its version over", &socket);
        let answer = call.run(self.calls().version().version(())).await?;
        Ok(Version { version: answer.version, revision: answer.revision })
    }

    /// Every plugin that is not disabled, loaded or failed.
    pub async fn plugins(&self) -> Result<Vec<Plugin>> {
        let socket = self.socket_name();
        let call = Call::record("list plugins over", &socket);
        let answer = call.run(self.calls().introspection().plugins(api::PluginsRequest::default())).await?;
        Ok(answer.plugins.into_iter().map(Plugin::from).collect())
    }

    /// The built-in CRI plugin, if it is active: it owns all pods of the namespace `k8s.io`, and of no other.
    pub async fn cri_plugin(&self) -> Result<Option<String>> {
        if self.namespace() != CRI_NAMESPACE {
            return Ok(None);
        }
        let plugins = self.plugins().await?;
        let active = plugins.into_iter().find(|plugin| plugin.is_built_in_cri() && plugin.is_loaded());
        Ok(active.map(|plugin| format!("{}.{}", plugin.kind, plugin.id)))
    }

    /// What the daemon is, and which of its features in use are deprecated.
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let socket = self.socket_name();
        let call = Call::record("tell of itself over", &socket);
        let answer = call.run(self.calls().introspection().server(())).await?;
        Ok(ServerInfo {
            uuid: answer.uuid,
            pid: (answer.pid != 0).then_some(answer.pid),
            deprecations: answer
                .deprecations
                .into_iter()
                .map(|warning| (warning.id, warning.message))
                .collect(),
        })
    }

    /// The runtime's features (OCI runtime spec, features.md; JSON), where containerd can ask (2.0 and later).
    pub async fn runtime_features(&self, handler: &RuntimeSelection) -> Result<Option<serde_json::Value>> {
        let call = Call::work("tell the features of runtime", &handler.name);
        let question = RuntimeRequest {
            runtime_path: handler.name.clone(),
            options: handler.options.clone().map(Into::into),
        };
        let request = api::PluginInfoRequest {
            r#type: "io.containerd.runtime.v2".into(),
            id: "task".into(),
            options: Some(containerd_client::to_any(&question)),
        };
        let answer = match call.run(self.calls().introspection().plugin_info(request)).await {
            Err(error) if matches!(error.kind(), Kind::Unimplemented | Kind::NotFound) => return Ok(None),
            outcome => outcome?,
        };
        let Some(extra) = answer.extra else { return Ok(None) };
        let info =
            RuntimeInfo::decode(extra.value.as_slice()).map_err(|error| call.malformed(error.to_string()))?;
        let Some(features) = info.features else { return Ok(None) };
        serde_json::from_slice(&features.value).map(Some).map_err(|error| call.malformed(error.to_string()))
    }

    /// Every namespace that it has, by name.
    pub async fn namespaces(&self) -> Result<Vec<String>> {
        let socket = self.socket_name();
        let call = Call::record("list namespaces over", &socket);
        let request = api::ListNamespacesRequest { filter: String::new() };
        let answer = call.run(self.calls().namespaces().list(request)).await?;
        Ok(answer.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    /// Makes the namespace where it is not there yet.
    pub async fn ensure_namespace(&self) -> Result<()> {
        let name = self.namespace().to_owned();
        let namespace = api::Namespace { name: name.clone(), ..Default::default() };
        let request = api::CreateNamespaceRequest { namespace: Some(namespace) };
        let created =
            Call::record("create namespace", &name).run(self.calls().namespaces().create(request)).await;
        created.map(drop).or_there()
    }
}

impl From<api::Plugin> for Plugin {
    fn from(plugin: api::Plugin) -> Self {
        Self {
            kind: plugin.r#type,
            id: plugin.id,
            exports: ordered(plugin.exports),
            capabilities: plugin.capabilities,
            platforms: plugin.platforms.into_iter().map(platform).collect(),
            init_error: plugin.init_err.map(|status| status.message),
        }
    }
}

/// As platforms are written: `linux/arm64/v8`.
fn platform(platform: Platform) -> String {
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if !platform.variant.is_empty() {
        text.push('/');
        text.push_str(&platform.variant);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn releases_of_all_packagers_are_read() {
        for (text, number) in
            [("v2.4.2", (2, 4)), ("1.6.20~ds1", (1, 6)), ("2.1.9+unknown", (2, 1)), ("dev", (0, 0))]
        {
            let version = Version { version: text.into(), revision: String::new() };
            assert_eq!(version.number(), number, "{text}");
        }
    }
}
