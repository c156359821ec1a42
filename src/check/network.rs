//! CNI: whether there is a network, and every plugin that it names.

use std::path::PathBuf;

use serde_json::Value;

use super::Finding;
use crate::config::{NetworkConfig, RuntimeConfig};
use crate::error::{Kind, chain};
use crate::linux::process::is_executable;
use crate::network::{Networks, load_template};

const NAME: &str = "pod network";

/// One finding for the node's network, and one for each handler with a network of its own.
pub async fn findings(config: &NetworkConfig, runtime: &RuntimeConfig) -> Vec<Finding> {
    let mut networks = vec![config.clone()];
    for handler in runtime.handlers.values() {
        if let Some(conf_dir) = &handler.cni_conf_dir {
            let max_conf_num = handler.cni_max_conf_num.unwrap_or(config.max_conf_num);
            networks.push(NetworkConfig { conf_dir: conf_dir.clone(), max_conf_num, ..config.clone() });
        }
    }
    let mut findings = Vec::new();
    for network in networks {
        findings.push(network_of(network).await);
    }
    findings
}

async fn network_of(config: NetworkConfig) -> Finding {
    let (conf_dir, bin_dirs) = (config.conf_dir.display().to_string(), config.bin_dirs.clone());
    let template = config.conf_template.clone();
    let networks = Networks::watch(config);
    if let Err(error) = networks.status().await {
        if let Some(template) = template.filter(|_| error.kind() == Kind::Unavailable) {
            return match load_template(&template) {
                Ok(_) => Finding::warn(
                    NAME,
                    chain(&error),
                    "start the kubelet: network.conf_template waits for its pod CIDR",
                ),
                Err(error) => {
                    Finding::fail(NAME, chain(&error), "correct the template, since there is no network")
                }
            };
        }
        let fix = match error.kind() {
            Kind::Unavailable => {
                format!("install a network add-on, which puts its configuration into {conf_dir}")
            }
            _ => "install the CNI plugins (Debian: containernetworking-plugins), or see to network.bin_dirs"
                .into(),
        };
        return Finding::fail(NAME, chain(&error), fix);
    }
    let described = networks.describe();
    let lists = described["Networks"].as_array().map(Vec::as_slice).unwrap_or_default();
    match lists.iter().flat_map(ipam_plugins).find(|plugin| !is_there(plugin, &bin_dirs)) {
        Some(plugin) => Finding::fail(
            NAME,
            format!("IPAM plugin {plugin:?} is in none of {bin_dirs:?}"),
            "install it, or add its folder to network.bin_dirs",
        ),
        None => Finding::ok(NAME, format!("{} from {conf_dir}", names(lists).join(", "))),
    }
}

/// `bridge-net (bridge, portmap)`.
fn names(lists: &[Value]) -> Vec<String> {
    let name = |list: &Value| {
        let kinds = plugins(list).filter_map(|plugin| plugin["Network"]["type"].as_str());
        let kinds: Vec<_> = kinds.collect();
        format!("{} ({})", list["Config"]["Name"].as_str().unwrap_or_default(), kinds.join(", "))
    };
    lists.iter().map(name).collect()
}

fn plugins(list: &Value) -> impl Iterator<Item = &Value> {
    list["Config"]["Plugins"].as_array().into_iter().flatten()
}

/// Plugins that are called by plugins, for addresses.
fn ipam_plugins(list: &Value) -> Vec<String> {
    let kinds = plugins(list).filter_map(|plugin| plugin["Network"]["ipam"]["type"].as_str());
    kinds.map(str::to_owned).collect()
}

fn is_there(plugin: &str, bin_dirs: &[PathBuf]) -> bool {
    bin_dirs.iter().any(|dir| is_executable(&dir.join(plugin)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Outcome;
    use super::*;

    #[tokio::test]
    async fn every_plugin_of_the_network_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let (conf_dir, bin_dir) = (dir.path().join("conf"), dir.path().join("bin"));
        fs::create_dir_all(&conf_dir).unwrap();
        fs::create_dir_all(&bin_dir).unwrap();
        let config = NetworkConfig {
            conf_dir: conf_dir.clone(),
            bin_dirs: vec![bin_dir.clone()],
            ..NetworkConfig::default()
        };
        let install = |name: &str| {
            fs::write(bin_dir.join(name), "").unwrap();
            fs::set_permissions(bin_dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        let found = network_of(config.clone()).await;
        assert_eq!(found.outcome, Outcome::Fail);
        assert!(found.fix.unwrap().starts_with("install a network add-on"));
        let template = dir.path().join("template");
        let templated = NetworkConfig { conf_template: Some(template.clone()), ..config.clone() };
        fs::write(&template, "{{.Nope}}").unwrap();
        let found = network_of(templated.clone()).await;
        assert!(found.outcome == Outcome::Fail && found.text.contains("line 1"), "{found}");
        fs::write(&template, "{{.PodCIDR}}").unwrap();
        assert_eq!(network_of(templated).await.outcome, Outcome::Warn);
        let list = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "ipam": {"type": "local"}}]}"#;
        fs::write(conf_dir.join("1.conflist"), list).unwrap();
        let found = network_of(config.clone()).await;
        assert!(found.outcome == Outcome::Fail && found.text.contains("\"bridge\""), "{found}");
        install("bridge");
        let found = network_of(config.clone()).await;
        assert!(found.outcome == Outcome::Fail && found.text.contains("\"local\""), "{found}");
        install("local");
        let found = network_of(config).await;
        assert!(found.outcome == Outcome::Ok && found.text.starts_with("n (bridge) from"), "{found}");
    }
}
