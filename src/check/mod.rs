//! `cridge check`: whether this node will work, told before a pod finds out.
//!
//! Each check is a small function from what was seen to a [`Finding`]; what is wrong comes with the step that mends
//! it. Nothing on the node is changed.

mod containerd;
mod features;
mod finding;
pub mod kubelet;
mod network;
mod node;
mod places;
mod registry;
mod runtime;
mod switch;

pub use containerd::{BUILT_IN, built_in_plugins};
pub use features::{NRI_PLUGINS, NRI_SETTINGS, NRI_SOCKET, VERIFIERS, nri_plugins_in, verifiers_in};
pub use finding::{Finding, Outcome, Report};
pub use switch::NAME as SWITCH;

use crate::config::Config;

/// Looks at everything that pods will need.
pub async fn check(config: &Config) -> Report {
    let mut findings = vec![places::user()];
    let seen = containerd::Seen::look(config).await;
    findings.extend(containerd::findings(config, &seen));
    findings.extend(runtime::findings(config, &seen));
    findings.extend(node::findings(config));
    findings.extend(network::findings(&config.network, &config.runtime).await);
    findings.extend(registry::findings(&config.registry).await);
    findings.extend(places::findings(config).await);
    findings.extend(features::findings(&seen));
    findings.extend(switch::findings(config, &seen).await);
    Report { findings }
}
