//! What Status says of how the node does, in conditions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::RuntimeService;
use crate::error::chain;
use crate::events::Link;
use crate::proto::cri;

/// Kubelets ask every five seconds, and must not wait for a containerd that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

impl RuntimeService {
    /// The two that kubelets insist on; then what containerd warns of, where it says so in time.
    pub(super) async fn conditions(&self) -> Vec<cri::RuntimeCondition> {
        let (network, deprecations) = tokio::join!(self.network_condition(), self.deprecations());
        [self.runtime_condition(), network].into_iter().chain(deprecations.map(no_deprecations)).collect()
    }

    /// RuntimeReady: whether containerd answers and everything is in step with it.
    fn runtime_condition(&self) -> cri::RuntimeCondition {
        let link = self.link.borrow();
        let reason = match &*link {
            Link::Up => return condition("RuntimeReady", true, "", String::new()),
            Link::Starting(None) => "ContainerdNotReached",
            Link::Comparing => "NotInStep",
            Link::Starting(Some(_)) | Link::Down(_) => "ContainerdAway",
        };
        condition("RuntimeReady", false, reason, link.to_string())
    }

    async fn network_condition(&self) -> cri::RuntimeCondition {
        let (status, reason, message) =
            match self.sandboxes().handlers().default_handler().networks.status().await {
                Ok(()) => (true, "", String::new()),
                Err(error) => (false, "NetworkPluginNotReady", chain(&error)),
            };
        condition("NetworkReady", status, reason, message)
    }

    async fn deprecations(&self) -> Option<BTreeMap<String, String>> {
        if *self.link.borrow() != Link::Up {
            return None;
        }
        let told = tokio::time::timeout(PATIENCE, self.containerd.server_info()).await;
        Some(told.ok()?.ok()?.deprecations)
    }
}

/// As the built-in plugin words it.
fn no_deprecations(warnings: BTreeMap<String, String>) -> cri::RuntimeCondition {
    const NAME: &str = "ContainerdHasNoDeprecationWarnings";
    if warnings.is_empty() {
        return condition(NAME, true, "", String::new());
    }
    let message = serde_json::to_string(&warnings).expect("a map of texts");
    condition(NAME, false, "ContainerdHasDeprecationWarnings", message)
}

fn condition(name: &str, status: bool, reason: &str, message: String) -> cri::RuntimeCondition {
    cri::RuntimeCondition { r#type: name.into(), status, reason: reason.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deprecations_are_told_as_the_built_in_plugin_tells_them() {
        let found = no_deprecations(BTreeMap::from([("io.containerd.x".into(), "use \"y\"".into())]));
        let message = r#"{"io.containerd.x":"use \"y\""}"#.to_owned();
        let name = "ContainerdHasNoDeprecationWarnings";
        assert_eq!(found, condition(name, false, "ContainerdHasDeprecationWarnings", message));
        assert_eq!(no_deprecations(BTreeMap::new()), condition(name, true, "", String::new()));
    }
}
