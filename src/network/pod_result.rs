//! All networks' results as go-cni unites them, which is what the built-in plugin keeps of a pod's network
//! (`CNIResult` in the sandbox's metadata): field names and empty values are Go's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::result::{Address, CniResult, Dns, Facts, Interface, Route};

/// The networks of one pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PodResult {
    interfaces: BTreeMap<String, PodInterface>,
    #[serde(rename = "DNS")]
    dns: Vec<Dns>,
    routes: Option<Vec<Route>>,
}

#[derive(Debug, Default, Serialize)]
struct PodInterface {
    #[serde(rename = "IPConfigs")]
    ip_configs: Option<Vec<PodAddress>>,
    #[serde(rename = "Mac")]
    mac: String,
    #[serde(rename = "Sandbox")]
    sandbox: String,
    #[serde(rename = "PciID")]
    pci_id: String,
    #[serde(rename = "SocketPath")]
    socket_path: String,
}

#[derive(Debug, Serialize)]
struct PodAddress {
    #[serde(rename = "IP")]
    ip: IpAddr,
    /// Go's empty `net.IP` is an empty text.
    #[serde(rename = "Gateway")]
    gateway: String,
}

/// The interface whose addresses are the pod's.
pub(super) const POD_INTERFACE: &str = "eth0";

impl PodResult {
    /// Unites the loopback of the namespace at `sandbox` and the results of the networks, in their order.
    pub fn new(sandbox: &str, results: &[CniResult]) -> Result<Self, String> {
        let mut united = Self {
            interfaces: BTreeMap::from([(POD_INTERFACE.into(), PodInterface::default())]),
            dns: vec![],
            routes: None,
        };
        united.add(loopback(sandbox));
        for result in results {
            united.add(result.facts()?);
        }
        Ok(united)
    }

    fn add(&mut self, facts: Facts) {
        for interface in &facts.interfaces {
            let pod_interface = PodInterface {
                ip_configs: None,
                mac: interface.mac.clone(),
                sandbox: interface.sandbox.clone(),
                pci_id: interface.pci_id.clone(),
                socket_path: interface.socket_path.clone(),
            };
            self.interfaces.insert(interface.name.clone(), pod_interface);
        }
        for ip in &facts.ips {
            // The index was checked when the result was read; addresses without one are the pod's.
            let name = ip.interface.and_then(|n| facts.interfaces.get(n)).map_or(POD_INTERFACE, |i| &i.name);
            let gateway = ip.gateway.map(|g| g.to_string()).unwrap_or_default();
            let configs =
                self.interfaces.entry(name.to_owned()).or_default().ip_configs.get_or_insert_default();
            configs.push(PodAddress { ip: ip.address.addr(), gateway });
        }
        self.dns.push(facts.dns);
        if !facts.routes.is_empty() {
            self.routes.get_or_insert_default().extend(facts.routes);
        }
    }

    /// The pod's addresses in the order of the results.
    pub fn ips(&self) -> Vec<IpAddr> {
        let configs = self.interfaces.get(POD_INTERFACE).and_then(|i| i.ip_configs.as_deref());
        configs.unwrap_or_default().iter().map(|config| config.ip).collect()
    }
}

/// What the loopback plugin reports of a namespace whose `lo` is up.
fn loopback(sandbox: &str) -> Facts {
    let address = |text: &str| Address {
        address: text.parse().expect("both texts below are networks"),
        gateway: None,
        interface: Some(0),
    };
    let mut ips = vec![address("127.0.0.1/8")];
    // Without IPv6 in the kernel the link has one address.
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        ips.push(address("::1/128"));
    }
    let lo = Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    Facts { interfaces: vec![lo], ips, ..Facts::default() }
}
