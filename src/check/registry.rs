//! Registries: what a pull would do, without doing it.

use super::Finding;
use crate::config::RegistryConfig;
use crate::registry::Registry;

/// Those that nearly every cluster pulls from.
const REGISTRIES: [&str; 2] = ["docker.io", "registry.k8s.io"];

pub async fn findings(config: &RegistryConfig) -> Vec<Finding> {
    let config = config.clone();
    // It reads files, and blocks on them.
    let explained = tokio::task::spawn_blocking(move || {
        let registry = Registry::new(config);
        REGISTRIES.map(|name| (name, registry.explain(name)))
    });
    match explained.await {
        Ok(explained) => explained.into_iter().map(|(name, lines)| way(name, &lines)).collect(),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn way(registry: &str, lines: &[String]) -> Finding {
    const NAME: &str = "registry";
    let text = format!("{registry}: {}", lines.join(" | "));
    // A file that says something and is not understood.
    if lines.iter().any(|line| line.starts_with("left aside")) {
        return Finding::warn(NAME, text, "see to that hosts.toml: it does not count as it is");
    }
    Finding::ok(NAME, text)
}
