//! The traffic of a pod's network namespace.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::parse::{self, Interface};
use crate::time::Timestamp;

/// The interface that a pod's first network makes.
const DEFAULT: &str = "eth0";

/// All interfaces but the loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub at: Timestamp,
    /// `eth0`, or else the first one.
    pub default: Option<Interface>,
    pub others: Vec<Interface>,
}

/// Reads the counters of the namespace pinned at `netns` through a process in it, for which nobody has to enter it.
/// `None` when the process has left, or the pod has no network of its own.
pub(super) fn of_pod(netns: &Path, pause: u32) -> Option<Network> {
    if netns.as_os_str().is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pause}/net/dev")).ok()?;
    let at = Timestamp::now();
    // The pid may be somebody else's by now.
    let namespace = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let theirs = namespace(Path::new(&format!("/proc/{pause}/ns/net")))?;
    (namespace(netns)? == theirs).then(|| Network::new(at, parse::net_dev(&text)))
}

impl Network {
    fn new(at: Timestamp, mut interfaces: Vec<Interface>) -> Self {
        let default = interfaces.iter().position(|interface| interface.name == DEFAULT).unwrap_or(0);
        let default = (!interfaces.is_empty()).then(|| interfaces.remove(default));
        Self { at, default, others: interfaces }
    }

    /// The default one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Interface> {
        self.default.iter().chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Network {
        let interface = |name: &&str| Interface { name: (*name).to_owned(), ..Default::default() };
        Network::new(Timestamp::NEVER, names.iter().map(interface).collect())
    }

    #[test]
    fn the_default_is_eth0_or_the_first() {
        for (names, default, others) in [
            (&["net1", "eth0", "net2"][..], Some("eth0"), &["net1", "net2"][..]),
            (&["net1", "net2"], Some("net1"), &["net2"]),
            (&[], None, &[]),
        ] {
            let network = named(names);
            assert_eq!(network.default.as_ref().map(|interface| interface.name.as_str()), default);
            let rest: Vec<_> = network.others.iter().map(|interface| interface.name.as_str()).collect();
            assert_eq!(rest, others);
        }
    }

    #[test]
    fn a_process_of_another_namespace_is_not_the_pods() {
        let own = format!("/proc/{}/ns/net", std::process::id());
        assert!(of_pod(Path::new(&own), std::process::id()).is_some());
        assert_eq!(of_pod(Path::new("/proc/self/ns/pid"), std::process::id()), None);
        assert_eq!(of_pod(Path::new(""), std::process::id()), None);
        assert_eq!(of_pod(Path::new(&own), u32::MAX), None);
    }
}
