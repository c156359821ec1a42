//! Where the node stands between the built-in plugin and cridge, and what is the next step (docs/switching.md).

use std::path::{Path, PathBuf};

use super::Finding;
use super::containerd::Seen;
use super::kubelet::{self, Kubelet};
use super::places::answers;
use crate::config::Config;
use crate::containerd::Containerd;
use crate::recovery::of_kind;

/// The finding's name.
pub const NAME: &str = "switch";

pub async fn findings(config: &Config, seen: &Seen) -> Option<Finding> {
    seen.answers().then_some(())?;
    let containerd = Containerd::new(&config.containerd.socket, &config.containerd.namespace);
    let stand = Stand {
        plugin_is_on: seen.plugins.iter().any(|plugin| plugin.is_built_in_cri() && plugin.is_loaded()),
        pods: containerd.containers(&[&of_kind("sandbox")]).await.map_or(0, |pods| pods.len()),
        cridge_answers: answers(&config.listen).await,
        kubelet: kubelet::find(Path::new("/")),
        containerd: config.containerd.socket.clone(),
        cridge: config.listen.clone(),
    };
    Some(stand.next())
}

/// What was seen.
struct Stand {
    plugin_is_on: bool,
    /// Pods that containerd knows, whoever made them.
    pods: usize,
    cridge_answers: bool,
    kubelet: Option<Kubelet>,
    /// containerd's socket, where the plugin serves.
    containerd: PathBuf,
    /// cridge's.
    cridge: PathBuf,
}

impl Stand {
    /// A step that is due is no fault of the node: only a warning.
    fn next(&self) -> Finding {
        let is_cridges = self.kubelet.as_ref().is_some_and(|kubelet| is_same(&kubelet.socket, &self.cridge));
        let is_containerds =
            self.kubelet.as_ref().is_some_and(|kubelet| is_same(&kubelet.socket, &self.containerd));
        let (pods, cridge) = (self.pods, format!("unix://{}", self.cridge.display()));
        match (self.plugin_is_on, self.cridge_answers) {
            (true, true) => Finding::warn(
                NAME,
                format!("the plugin and cridge are both there for {pods} pods, and cridge stays not ready"),
                "disable the plugin and restart containerd; or, on the way back, stop cridge.service",
            ),
            (true, false) if is_cridges => Finding::warn(
                NAME,
                format!(
                    "the plugin serves {pods} pods, and the kubelet still asks cridge ({})",
                    self.source()
                ),
                format!("point the kubelet at unix://{} and restart it", self.containerd.display()),
            ),
            (true, false) => Finding::warn(
                NAME,
                format!(
                    "the plugin serves {pods} pods; cridge config migrate says what it does that cridge must be told"
                ),
                "disable the plugin and restart containerd; its pods go on running",
            ),
            (false, false) => Finding::warn(
                NAME,
                format!("the plugin is off and cridge does not serve: nobody looks after {pods} pods"),
                "start cridge.service (systemctl start cridge)",
            ),
            (false, true) if is_cridges => Finding::ok(
                NAME,
                format!("done: cridge serves {pods} pods to the kubelet ({})", self.source()),
            ),
            (false, true) if self.kubelet.is_none() => {
                Finding::ok(NAME, format!("cridge serves {pods} pods; no kubelet is seen here"))
            }
            (false, true) => Finding::warn(
                NAME,
                format!(
                    "cridge serves {pods} pods, and the kubelet asks {} ({})",
                    if is_containerds { "containerd still" } else { "somebody else" },
                    self.source()
                ),
                format!("point the kubelet at {cridge} and restart it"),
            ),
        }
    }

    fn source(&self) -> &str {
        self.kubelet.as_ref().map_or("no kubelet", |kubelet| &kubelet.source)
    }
}

/// `/var/run` has been a link to `/run` for long.
fn is_same(one: &Path, other: &Path) -> bool {
    let short = |path: &Path| {
        path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| Path::new("/run").join(rest))
    };
    short(one) == short(other)
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn each_stand_has_its_next_step() {
        let (theirs, ours) = (Some("/var/run/containerd/containerd.sock"), Some("/run/cridge/cridge.sock"));
        // (the plugin is on, cridge answers, the kubelet's socket)
        let cases = [
            (true, false, theirs, Outcome::Warn, "disable the plugin and restart containerd"),
            (true, false, None, Outcome::Warn, "disable the plugin and restart containerd"),
            (true, false, ours, Outcome::Warn, "point the kubelet at unix:///run/containerd/containerd.sock"),
            (
                true,
                true,
                theirs,
                Outcome::Warn,
                "disable the plugin and restart containerd; or, on the way back",
            ),
            (false, false, theirs, Outcome::Warn, "start cridge.service"),
            (false, false, ours, Outcome::Warn, "start cridge.service"),
            (false, true, theirs, Outcome::Warn, "point the kubelet at unix:///run/cridge/cridge.sock"),
            (
                false,
                true,
                Some("/run/crio/crio.sock"),
                Outcome::Warn,
                "point the kubelet at unix:///run/cridge",
            ),
            (false, true, ours, Outcome::Ok, ""),
            (false, true, None, Outcome::Ok, ""),
        ];
        for (plugin_is_on, cridge_answers, socket, outcome, fix) in cases {
            let kubelet = socket.map(|socket| Kubelet {
                socket: socket.into(),
                source: "a flag".into(),
                by_flag: true,
                config: None,
            });
            let stand = Stand {
                plugin_is_on,
                pods: 3,
                cridge_answers,
                kubelet,
                containerd: "/run/containerd/containerd.sock".into(),
                cridge: "/run/cridge/cridge.sock".into(),
            };
            let found = stand.next();
            let told = format!("{plugin_is_on} {cridge_answers} {socket:?}: {found}");
            assert_eq!(found.outcome, outcome, "{told}");
            assert!(
                found.fix.unwrap_or_default().starts_with(fix) && found.text.contains("3 pods"),
                "{told}"
            );
        }
    }
}
