//! What a plugin's ADD prints (CNI spec, "ADD Success"), in every version of the spec.
//!
//! A result is kept as the plugin wrote it, unknown fields too, until another version is asked for.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::version::Version;

/// One network's result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CniResult {
    version: Version,
    raw: Map<String, Value>,
}

impl CniResult {
    /// Reads and checks what a plugin printed; without a version of its own it has the configuration's.
    ///
    /// # Errors
    /// A sentence without the bytes.
    pub fn parse(bytes: &[u8], config: Version) -> Result<Self, String> {
        let raw: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| format!("not a JSON object: {e}"))?;
        Self::from_map(raw, config)
    }

    /// The same for JSON that was read already.
    pub fn from_map(mut raw: Map<String, Value>, config: Version) -> Result<Self, String> {
        let version = match raw.get("cniVersion") {
            Some(Value::String(text)) if !text.is_empty() => {
                Version::parse(text).ok_or_else(|| format!("cniVersion {text:?} is no version"))?
            }
            Some(Value::String(_)) | None => config,
            Some(_) => return Err("cniVersion is no text".into()),
        };
        raw.insert("cniVersion".into(), json!(version.to_string()));
        let result = Self { version, raw };
        result.facts()?;
        Ok(result)
    }

    /// As the plugin wrote it.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// In the form of another version: what a plugin of a configuration of that version can read.
    pub fn as_version(&self, version: Version) -> Result<Map<String, Value>, String> {
        if Form::of(version) == Form::of(self.version) {
            let mut raw = self.raw.clone();
            raw.insert("cniVersion".into(), json!(version.to_string()));
            return Ok(raw);
        }
        self.facts()?.write(version)
    }

    /// What it tells, whatever its form.
    pub fn facts(&self) -> Result<Facts, String> {
        let facts: Facts = match Form::of(self.version) {
            Form::PerFamily => {
                serde_json::from_value::<PerFamily>(Value::Object(self.raw.clone())).map(Facts::from)
            }
            _ => serde_json::from_value(Value::Object(self.raw.clone())),
        }
        .map_err(|e| e.to_string())?;
        match facts.ips.iter().filter_map(|ip| ip.interface).find(|n| *n >= facts.interfaces.len()) {
            Some(n) => Err(format!("an address is on interface {n} of {}", facts.interfaces.len())),
            None => Ok(facts),
        }
    }
}

/// The shapes that a result had over time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `ip4` and `ip6`, before 0.3.0.
    PerFamily,
    /// `interfaces` and `ips`, each address with its `version`.
    Versioned,
    /// The same without, since 1.0.0.
    Plain,
}

impl Form {
    fn of(version: Version) -> Self {
        match version {
            v if v < Version::LISTS => Self::PerFamily,
            v if v < Version::PLAIN_ADDRESSES => Self::Versioned,
            _ => Self::Plain,
        }
    }
}

/// `null` where Go's libraries write it for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What all versions tell.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Facts {
    #[serde(default, deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "or_default")]
    pub ips: Vec<Address>,
    #[serde(default, deserialize_with = "or_default")]
    pub routes: Vec<Route>,
    #[serde(default, deserialize_with = "or_default")]
    pub dns: Dns,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interface {
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub mac: String,
    #[serde(default, deserialize_with = "or_default")]
    pub sandbox: String,
    #[serde(default, deserialize_with = "or_default")]
    pub socket_path: String,
    #[serde(default, rename = "pciID", deserialize_with = "or_default")]
    pub pci_id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Address {
    #[serde(with = "net_text")]
    pub address: IpNet,
    #[serde(default, deserialize_with = "gateway")]
    pub gateway: Option<IpAddr>,
    pub interface: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Route {
    #[serde(with = "net_text")]
    pub dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "gateway")]
    pub gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<i64>,
}

/// An address with its prefix length, as text.
mod net_text {
    use super::IpNet;

    pub fn serialize<S: serde::Serializer>(net: &IpNet, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(net)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
        <String as serde::Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Go writes a missing address as an empty text.
fn gateway<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)? {
        Some(text) if !text.is_empty() => text.parse().map(Some).map_err(serde::de::Error::custom),
        _ => Ok(None),
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub domain: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub options: Vec<String>,
}

/// CNI 0.1.0 and 0.2.0: one address of each family.
#[derive(Default, Deserialize)]
struct PerFamily {
    ip4: Option<FamilyAddress>,
    ip6: Option<FamilyAddress>,
    #[serde(default, deserialize_with = "or_default")]
    dns: Dns,
}

#[derive(Deserialize)]
struct FamilyAddress {
    #[serde(with = "net_text")]
    ip: IpNet,
    #[serde(default, deserialize_with = "gateway")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "or_default")]
    routes: Vec<Route>,
}

impl From<PerFamily> for Facts {
    fn from(old: PerFamily) -> Self {
        let mut facts = Facts { dns: old.dns, ..Facts::default() };
        for family in [old.ip4, old.ip6].into_iter().flatten() {
            facts.ips.push(Address { address: family.ip, gateway: family.gateway, interface: None });
            // A route without a gateway of its own went over the address' one.
            let with_gateway = |route: Route| Route { gw: route.gw.or(family.gateway), ..route };
            facts.routes.extend(family.routes.into_iter().map(with_gateway));
        }
        facts
    }
}

impl Facts {
    fn write(&self, version: Version) -> Result<Map<String, Value>, String> {
        let mut out = Map::from_iter([("cniVersion".to_owned(), json!(version.to_string()))]);
        let form = Form::of(version);
        if form == Form::PerFamily {
            for (key, ipv4) in [("ip4", true), ("ip6", false)] {
                if let Some(ip) = self.ips.iter().find(|ip| is_ipv4(&ip.address) == ipv4) {
                    out.insert(key.into(), self.write_family(ip));
                }
            }
            if out.len() == 1 {
                return Err(format!(
                    "a result without an address cannot be told to a plugin of CNI {version}"
                ));
            }
        } else {
            if !self.interfaces.is_empty() {
                out.insert("interfaces".into(), self.interfaces.iter().map(|i| i.write(form)).collect());
            }
            if !self.ips.is_empty() {
                out.insert("ips".into(), self.ips.iter().map(|ip| ip.write(form)).collect());
            }
            if !self.routes.is_empty() {
                out.insert("routes".into(), json!(self.routes));
            }
        }
        let dns = json!(self.dns);
        if dns != json!({}) {
            out.insert("dns".into(), dns);
        }
        Ok(out)
    }

    fn write_family(&self, ip: &Address) -> Value {
        let same_family = |route: &&Route| is_ipv4(&route.dst) == is_ipv4(&ip.address);
        let routes: Vec<Value> = self
            .routes
            .iter()
            .filter(same_family)
            .map(|r| with_some("gw", r.gw, json!({"dst": r.dst.to_string()})))
            .collect();
        let mut out = with_some("gateway", ip.gateway, json!({"ip": ip.address.to_string()}));
        if !routes.is_empty() {
            out["routes"] = Value::Array(routes);
        }
        out
    }
}

fn is_ipv4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}

fn with_some(key: &str, value: Option<IpAddr>, mut object: Value) -> Value {
    if let Some(value) = value {
        object[key] = json!(value);
    }
    object
}

impl Interface {
    fn write(&self, form: Form) -> Value {
        let mut out = Map::from_iter([("name".to_owned(), json!(self.name))]);
        let newer = |text| if form == Form::Plain { text } else { "" };
        let fields = [
            ("mac", self.mac.as_str()),
            ("sandbox", &self.sandbox),
            ("socketPath", newer(&self.socket_path)),
            ("pciID", newer(&self.pci_id)),
        ];
        let filled = fields.into_iter().filter(|(_, text)| !text.is_empty());
        out.extend(filled.map(|(key, text)| (key.to_owned(), json!(text))));
        Value::Object(out)
    }
}

impl Address {
    fn write(&self, form: Form) -> Value {
        let mut out = with_some("gateway", self.gateway, json!({"address": self.address.to_string()}));
        if form == Form::Versioned {
            out["version"] = json!(if is_ipv4(&self.address) { "4" } else { "6" });
        }
        if let Some(interface) = self.interface {
            out["interface"] = json!(interface);
        }
        out
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
