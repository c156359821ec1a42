//! Classes of block I/O and of Intel RDT: annotations name one, the node's operator says what is in it. Pure.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{
    LinuxBlockIo, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};
use serde::Deserialize;

use crate::proto::cri;
use crate::quantity;

/// What a class is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassKind {
    BlockIo,
    Rdt,
}

/// A class that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub name: String,
    /// Where it was.
    pub field: String,
}

/// The container's class: its own annotation's, else the pod's for this container, else the pod's for all. Empty is none.
pub fn class_of(
    kind: ClassKind,
    config: &cri::ContainerConfig,
    pod: &cri::PodSandboxConfig,
) -> Option<Class> {
    let word = match kind {
        ClassKind::BlockIo => "blockio",
        ClassKind::Rdt => "rdt",
    };
    let container = config.metadata.as_ref().map_or("", |metadata| metadata.name.as_str());
    let of = |place: &str, annotations: &HashMap<String, String>, key: String| {
        let name = annotations.get(&key)?.clone();
        Some(Class { name, field: format!("{place}.annotations[{key:?}]") })
    };
    let pods = format!("{word}.resources.beta.kubernetes.io");
    of("config", &config.annotations, format!("io.kubernetes.cri.{word}-class"))
        .or_else(|| of("sandbox_config", &pod.annotations, format!("{pods}/container.{container}")))
        .or_else(|| of("sandbox_config", &pod.annotations, format!("{pods}/pod")))
        .filter(|class| !class.name.is_empty())
}

/// What an operator's file has of block I/O (goresctrl's `pkg/blockio`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockIoClasses {
    #[serde(rename = "Classes")]
    classes: BTreeMap<String, Vec<Parameters>>,
}

/// For some devices, or without any the weight of all others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Parameters {
    devices: Option<Vec<String>>,
    throttle_read_bps: Option<Amount>,
    throttle_write_bps: Option<Amount>,
    #[serde(rename = "ThrottleReadIOPS")]
    throttle_read_iops: Option<Amount>,
    #[serde(rename = "ThrottleWriteIOPS")]
    throttle_write_iops: Option<Amount>,
    weight: Option<Amount>,
}

/// A number, or a text like 50M.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

impl Amount {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => quantity::parse(text).and_then(|value| u64::try_from(value).ok()),
        }
    }
}

/// Weights that the kernel's schedulers take.
const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;

/// Settings of devices by their numbers; what comes later wins.
type OfDevices = BTreeMap<(i64, i64), u64>;

impl BlockIoClasses {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// What the class is in a spec; `expand` gives the numbers of the block devices that a path with wildcards names.
    ///
    /// # Errors
    /// There is no such class, or a value of it is none.
    pub fn to_oci(
        &self,
        class: &str,
        expand: impl Fn(&str) -> Vec<(i64, i64)>,
    ) -> Result<LinuxBlockIo, String> {
        let parts = self.classes.get(class).ok_or_else(|| {
            let known: Vec<_> = self.classes.keys().map(String::as_str).collect();
            format!("has no class {class:?} (its classes: {})", known.join(", "))
        })?;
        let mut out = LinuxBlockIo::default();
        let mut of_devices: [OfDevices; 5] = Default::default();
        for part in parts {
            let values = part.values().map_err(|why| format!("class {class:?}: {why}"))?;
            match &part.devices {
                None if values[1..].iter().any(Option::is_some) => {
                    return Err(format!("class {class:?}: throttling needs Devices"));
                }
                None => {
                    out.set_weight(values[0].and_then(|weight| u16::try_from(weight).ok()).or(out.weight()))
                }
                Some(devices) => {
                    for device in devices.iter().flat_map(|pattern| expand(pattern)) {
                        for (settings, value) in of_devices.iter_mut().zip(values) {
                            settings.extend(value.map(|value| (device, value)));
                        }
                    }
                    &mut out
                }
            };
        }
        let [weights, read_bps, write_bps, read_iops, write_iops] = of_devices;
        out.set_weight_device(some(weights.iter().map(weight).collect()));
        out.set_throttle_read_bps_device(some(read_bps.iter().map(throttle).collect()));
        out.set_throttle_write_bps_device(some(write_bps.iter().map(throttle).collect()));
        out.set_throttle_read_iops_device(some(read_iops.iter().map(throttle).collect()));
        out.set_throttle_write_iops_device(some(write_iops.iter().map(throttle).collect()));
        Ok(out)
    }
}

impl Parameters {
    /// Weight, then the throttles in the order of the specification.
    fn values(&self) -> Result<[Option<u64>; 5], String> {
        let named = [
            ("Weight", &self.weight),
            ("ThrottleReadBps", &self.throttle_read_bps),
            ("ThrottleWriteBps", &self.throttle_write_bps),
            ("ThrottleReadIOPS", &self.throttle_read_iops),
            ("ThrottleWriteIOPS", &self.throttle_write_iops),
        ];
        let mut values = [None; 5];
        for (value, (name, amount)) in values.iter_mut().zip(named) {
            let Some(amount) = amount else { continue };
            let number = amount.value().ok_or_else(|| format!("{name}: {amount:?} is no number like 50M"))?;
            if name == "Weight" && !WEIGHTS.contains(&number) {
                return Err(format!(
                    "Weight: {number} is not between {} and {}",
                    WEIGHTS.start(),
                    WEIGHTS.end()
                ));
            }
            *value = Some(number);
        }
        Ok(values)
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn weight((&(major, minor), &value): (&(i64, i64), &u64)) -> LinuxWeightDevice {
    let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor);
    let device = u16::try_from(value).into_iter().fold(device, |device, weight| device.weight(weight));
    device.build().expect("its numbers are all that it needs")
}

fn throttle((&(major, minor), &rate): (&(i64, i64), &u64)) -> LinuxThrottleDevice {
    let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate);
    device.build().expect("all of its fields are given")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_annotation_counts() {
        let mut config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "app".into(), attempt: 0 }),
            ..Default::default()
        };
        let mut pod = cri::PodSandboxConfig::default();
        let name = |config: &_, pod: &_| class_of(ClassKind::Rdt, config, pod).map(|class| class.name);
        assert_eq!(name(&config, &pod), None);
        pod.annotations.insert("blockio.resources.beta.kubernetes.io/pod".into(), "other".into());
        pod.annotations.insert("rdt.resources.beta.kubernetes.io/container.web".into(), "other".into());
        assert_eq!(name(&config, &pod), None);
        pod.annotations.insert("rdt.resources.beta.kubernetes.io/pod".into(), "pod".into());
        assert_eq!(name(&config, &pod).as_deref(), Some("pod"));
        pod.annotations.insert("rdt.resources.beta.kubernetes.io/container.app".into(), "for-app".into());
        assert_eq!(name(&config, &pod).as_deref(), Some("for-app"));
        config.annotations.insert("io.kubernetes.cri.rdt-class".into(), "own".into());
        let class = class_of(ClassKind::Rdt, &config, &pod).unwrap();
        assert_eq!(class.name, "own");
        assert_eq!(class.field, "config.annotations[\"io.kubernetes.cri.rdt-class\"]");
        config.annotations.insert("io.kubernetes.cri.rdt-class".into(), String::new());
        assert_eq!(name(&config, &pod), None);
    }

    const FILE: &str = "
Classes:
  Slow:
    - Weight: 80
    - Devices: [\"/dev/sd[a-z]\", /dev/vda]
      ThrottleReadBps: 50M
      ThrottleWriteIOPS: 5k
      Weight: 50
    - Devices: [/dev/vda]
      ThrottleReadBps: 1Ki
  Fast:
    - Weight: \"400\"
  Light: [{Weight: 9}]
  Odd: [{Devices: [/dev/vda], ThrottleReadBps: fast}]
  All: [{ThrottleReadBps: 1}]
";

    fn expand(pattern: &str) -> Vec<(i64, i64)> {
        match pattern {
            "/dev/sd[a-z]" => vec![(8, 0), (8, 16)],
            "/dev/vda" => vec![(254, 0)],
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_class_becomes_settings_of_its_devices() {
        let classes = BlockIoClasses::parse(FILE).unwrap();
        let made = |class| serde_json::to_value(classes.to_oci(class, expand).unwrap()).unwrap();
        let weight = |major, minor| json!({"major": major, "minor": minor, "weight": 50});
        let rate = |major, minor, rate| json!({"major": major, "minor": minor, "rate": rate});
        assert_eq!(
            made("Slow"),
            json!({
                "weight": 80,
                "weightDevice": [weight(8, 0), weight(8, 16), weight(254, 0)],
                "throttleReadBpsDevice": [rate(8, 0, 50_000_000), rate(8, 16, 50_000_000), rate(254, 0, 1024)],
                "throttleWriteIOPSDevice": [rate(8, 0, 5000), rate(8, 16, 5000), rate(254, 0, 5000)],
            })
        );
        assert_eq!(made("Fast"), json!({"weight": 400}));
        for (class, word) in
            [("None", "Fast"), ("Light", "Weight: 9"), ("Odd", "ThrottleReadBps"), ("All", "Devices")]
        {
            let why = classes.to_oci(class, expand).unwrap_err();
            assert!(why.contains(class) && why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_is_no_file_of_classes_is_refused() {
        for text in [
            "",
            "[]",
            "Classes: 3",
            "Klasses: {}",
            "Classes: {A: [{Novel: 1}]}",
            "Classes: {A: [{Weight: -1}]}",
        ] {
            BlockIoClasses::parse(text)
                .and_then(|classes| classes.to_oci("A", expand).map(drop))
                .expect_err(text);
        }
    }
}
