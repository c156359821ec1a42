//! The traffic of a pod's network namespace.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::parse::{self, Interface};
use crate::time::Timestamp;

/// The interface that a pod's first network makes.
const DEFAULT: &str = "eth0";

/// All interfaces but the loopback. There is at least one: a kubelet that is told of a network without a default
/// interface crashes (1.37's `criInterfaceToSummary`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub at: Timestamp,
    /// `eth0`, or else the first one.
    pub default: Interface,
    pub others: Vec<Interface>,
}

/// Reads the counters of the namespace pinned at `netns` through a process in it, for which nobody has to enter it.
/// `None` when the process has left, or the pod has no network of its own, or none any more: DEL takes the interfaces
/// before the pause is gone.
pub(super) fn of_pod(netns: &Path, pause: u32) -> Option<Network> {
    if netns.as_os_str().is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pause}/net/dev")).ok()?;
    let at = Timestamp::now();
    // The pid may be somebody else's by now.
    let namespace = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let theirs = namespace(Path::new(&format!("/proc/{pause}/ns/net")))?;
    if namespace(netns)? == theirs { Network::new(at, parse::net_dev(&text)) } else { None }
}

impl Network {
    fn new(at: Timestamp, mut interfaces: Vec<Interface>) -> Option<Self> {
        let default = interfaces.iter().position(|interface| interface.name == DEFAULT).unwrap_or(0);
        let default = (!interfaces.is_empty()).then(|| interfaces.remove(default))?;
        Some(Self { at, default, others: interfaces })
    }

    /// The default one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Interface> {
        std::iter::once(&self.default).chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Option<Network> {
        let interface = |name: &&str| Interface { name: (*name).to_owned(), ..Default::default() };
        Network::new(Timestamp::NEVER, names.iter().map(interface).collect())
    }

    #[test]
    fn the_default_is_eth0_or_the_first() {
        for (names, default, others) in [
            (&["net1", "eth0", "net2"][..], "eth0", &["net1", "net2"][..]),
            (&["net1", "net2"], "net1", &["net2"]),
        ] {
            let network = named(names).unwrap();
            assert_eq!(network.default.name, default);
            let rest: Vec<_> = network.others.iter().map(|interface| interface.name.as_str()).collect();
            assert_eq!(rest, others);
        }
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn a_process_of_another_namespace_is_not_the_pods() {
        let own = format!("/proc/{}/ns/net", std::process::id());
        let has = !parse::net_dev(&std::fs::read_to_string("/proc/self/net/dev").unwrap()).is_empty();
        assert_eq!(of_pod(Path::new(&own), std::process::id()).is_some(), has);
        assert_eq!(of_pod(Path::new("/proc/self/ns/pid"), std::process::id()), None);
        assert_eq!(of_pod(Path::new(""), std::process::id()), None);
        assert_eq!(of_pod(Path::new(&own), u32::MAX), None);
    }
}
