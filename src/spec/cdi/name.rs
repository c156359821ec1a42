//! Names of devices: `vendor.com/class=device`.

use std::collections::BTreeMap;
use std::fmt;

use crate::proto::cri;
use crate::spec::SpecError;

/// Keys of annotations that name devices, several with commas between.
const ANNOTATIONS: &str = "cdi.k8s.io/";
/// Longest part of a name taken: a DNS name's length, as the kind's specification has it.
const MAX_PART: usize = 253;

/// A device's full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdiName {
    /// `vendor.com/class`.
    pub kind: String,
    pub device: String,
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl CdiName {
    /// # Errors
    /// Why it is no device's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(MAX_PART).collect();
        let (kind, device) = text
            .split_once('=')
            .ok_or_else(|| format!("{shown:?} is no name like vendor.com/class=device"))?;
        check_kind(kind)?;
        check_device(device)?;
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }
}

/// The devices that a config asks for, each once, with the field that does: `CDI_devices`, then annotations by key.
///
/// # Errors
/// A name that is none.
pub fn wanted(config: &cri::ContainerConfig) -> Result<Vec<(String, CdiName)>, SpecError> {
    let fields = config.cdi_devices.iter().enumerate();
    let fields = fields.map(|(n, device)| (format!("config.CDI_devices[{n}].name"), device.name.as_str()));
    let annotations: BTreeMap<_, _> =
        config.annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATIONS)).collect();
    let annotations = annotations.into_iter().flat_map(|(key, names)| {
        names.split(',').map(move |name| (format!("config.annotations[{key:?}]"), name))
    });
    let mut wanted: Vec<(String, CdiName)> = Vec::new();
    for (field, name) in fields.chain(annotations) {
        let name = CdiName::parse(name).map_err(|why| SpecError::invalid(field.clone(), why))?;
        if wanted.iter().all(|(_, known)| *known != name) {
            wanted.push((field, name));
        }
    }
    Ok(wanted)
}

/// `vendor.com/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    let part = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= MAX_PART
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    match kind.split_once('/') {
        Some((vendor, class)) if part(vendor) && part(class) => Ok(()),
        _ => Err(format!(
            "{:?} is no kind like vendor.com/class",
            kind.chars().take(MAX_PART).collect::<String>()
        )),
    }
}

/// A device's own part of its name.
pub(super) fn check_device(name: &str) -> Result<(), String> {
    let ends = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    let inner = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
    if ends && inner && name.len() <= MAX_PART {
        Ok(())
    } else {
        let shown: String = name.chars().take(MAX_PART).collect();
        Err(format!("{shown:?} is no device's name: letters, digits and - _ . : between them"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_a_vendor_a_class_and_a_device() {
        for good in ["v/c=d", "vendor.com/gpu=0", "nvidia.com/gpu=GPU-1:2.3_x", "a.b-c/d_e.f=all"] {
            assert_eq!(CdiName::parse(good).unwrap().to_string(), good);
        }
        let long = format!("v/c={}", "d".repeat(300));
        for bad in [
            "",
            "=",
            "v/c",
            "v/c=",
            "v=d",
            "/c=d",
            "v/=d",
            "1v/c=d",
            "v/1c=d",
            "v./c=d",
            "v/c-=d",
            "v/c/e=d",
            "v/c=-d",
            "v/c=d:",
            "v/c=a=b",
            "v/c=a b",
            "v/c=ä",
            "v/c=d\0",
            "/dev/null",
            long.as_str(),
        ] {
            let why = CdiName::parse(bad).expect_err(bad);
            assert!(why.len() < 600, "{why}");
        }
    }

    #[test]
    fn each_device_is_wanted_once_the_field_before_annotations() {
        let mut config = cri::ContainerConfig {
            cdi_devices: ["v/c=2", "v/c=1"].map(|name| cri::CdiDevice { name: name.into() }).into(),
            annotations: [("cdi.k8s.io/z", "v/c=3"), ("cdi.k8s.io/a", "v/c=4,v/c=1"), ("other", "v/c=9")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        };
        let names = |config: &cri::ContainerConfig| -> Vec<_> {
            wanted(config).unwrap().into_iter().map(|(field, name)| format!("{field} {name}")).collect()
        };
        assert_eq!(
            names(&config),
            [
                "config.CDI_devices[0].name v/c=2",
                "config.CDI_devices[1].name v/c=1",
                "config.annotations[\"cdi.k8s.io/a\"] v/c=4",
                "config.annotations[\"cdi.k8s.io/z\"] v/c=3",
            ]
        );
        config.annotations.insert("cdi.k8s.io/b".into(), "foobar".into());
        let error = wanted(&config).unwrap_err().to_string();
        assert!(error.starts_with("config.annotations[\"cdi.k8s.io/b\"]: \"foobar\" "), "{error}");
    }

    proptest! {
        #[test]
        fn no_name_panics(text in any::<String>()) {
            if let Ok(name) = CdiName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
