//! A vendor's file: which devices there are, and what each needs. A field that nobody knows, or that the file's version
//! does not have yet, spoils it, as the specification asks for.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::edits::Edits;
use super::name::{check_device, check_kind};

/// Versions of the specification, oldest first; what is common to the first three is what all of them have.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// A file that is sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `vendor.com/class`.
    pub kind: String,
    pub devices: BTreeMap<String, Edits>,
    /// For every container that gets any of its devices.
    pub edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    devices: Vec<RawDevice>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

impl Document {
    /// Reads YAML, of which JSON is a part, and checks all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        raw.check_version()?;
        check_kind(&raw.kind)?;
        raw.container_edits.check().map_err(|why| format!("containerEdits.{why}"))?;
        if raw.devices.is_empty() {
            return Err("has no devices".into());
        }
        let mut devices = BTreeMap::new();
        for (n, RawDevice { name, container_edits, .. }) in raw.devices.into_iter().enumerate() {
            check_device(&name).map_err(|why| format!("devices[{n}].name: {why}"))?;
            if container_edits == Edits::default() {
                return Err(format!("device {name:?} edits nothing"));
            }
            container_edits.check().map_err(|why| format!("device {name:?}: containerEdits.{why}"))?;
            if devices.insert(name.clone(), container_edits).is_some() {
                return Err(format!("has two devices {name:?}"));
            }
        }
        Ok(Self { kind: raw.kind, devices, edits: raw.container_edits })
    }
}

impl Raw {
    fn check_version(&self) -> Result<(), String> {
        let version = self.cdi_version.strip_prefix('v').unwrap_or(&self.cdi_version);
        let known = |version: &str| VERSIONS.iter().position(|known| *known == version);
        let Some(given) = known(version) else {
            let (from, to) = (VERSIONS[0], VERSIONS[VERSIONS.len() - 1]);
            return Err(format!("cdiVersion: {version:?} is not known: {from} to {to} are"));
        };
        match self
            .needs()
            .into_iter()
            .filter(|(_, used)| *used)
            .find(|(needed, _)| known(needed) > Some(given))
        {
            Some((needed, _)) => {
                Err(format!("cdiVersion: {version} has not all of its fields; {needed} would"))
            }
            None => Ok(()),
        }
    }

    /// The versions that brought something, newest first, and whether it is used.
    fn needs(&self) -> [(&'static str, bool); 5] {
        let edits =
            || self.devices.iter().map(|device| &device.container_edits).chain([&self.container_edits]);
        let digit = |device: &RawDevice| device.name.starts_with(|c: char| c.is_ascii_digit());
        let annotated = self.devices.iter().any(|device| !device.annotations.is_empty());
        let class = self.kind.split_once('/').map_or("", |(_, class)| class);
        [
            ("1.1.0", edits().any(Edits::needs_1_1)),
            ("0.7.0", edits().any(Edits::needs_0_7)),
            ("0.6.0", annotated || !self.annotations.is_empty() || class.contains('.')),
            ("0.5.0", self.devices.iter().any(digit) || edits().any(Edits::needs_0_5)),
            ("0.4.0", edits().any(Edits::needs_0_4)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_and_yaml_are_read() {
        let json = r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": [{"name": "0", "containerEdits":
            {"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/g"}]}}], "containerEdits": {"env": ["A=1"]}}"#;
        let yaml = "---\ncdiVersion: v0.5.0\nkind: vendor.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                    deviceNodes:\n    - path: /dev/gpu0\n      hostPath: /dev/g\ncontainerEdits:\n  env: [A=1]\n";
        let document = Document::parse(json).unwrap();
        assert_eq!(document, Document::parse(yaml).unwrap());
        assert_eq!(document.kind, "vendor.com/gpu");
        assert!(document.devices.contains_key("0"));
    }

    fn with(version: &str, kind: &str, name: &str, edits: &str) -> String {
        format!(
            r#"{{"cdiVersion": "{version}", "kind": "{kind}", "devices": [{{"name": "{name}", "containerEdits": {{{edits}}}}}]}}"#
        )
    }

    #[test]
    fn a_field_needs_the_version_that_brought_it() {
        const ENV: &str = r#""env": ["A=1"]"#;
        for (version, older, kind, name, edits) in [
            ("0.1.0", None, "v/c", "d", ENV),
            (
                "0.4.0",
                Some("0.3.0"),
                "v/c",
                "d",
                r#""mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "x"}]"#,
            ),
            ("0.5.0", Some("0.4.0"), "v/c", "1", ENV),
            (
                "0.5.0",
                Some("0.4.0"),
                "v/c",
                "d",
                r#""deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]"#,
            ),
            ("0.6.0", Some("0.5.0"), "v/c.d", "d", ENV),
            ("0.7.0", Some("0.6.0"), "v/c", "d", r#""additionalGids": [7]"#),
            ("0.7.0", Some("0.6.0"), "v/c", "d", r#""intelRdt": {"closID": "x"}"#),
            ("1.1.0", Some("1.0.0"), "v/c", "d", r#""intelRdt": {"enableMonitoring": true}"#),
            (
                "1.1.0",
                Some("1.0.0"),
                "v/c",
                "d",
                r#""netDevices": [{"hostInterfaceName": "e", "name": "f"}]"#,
            ),
        ] {
            Document::parse(&with(version, kind, name, edits)).unwrap_or_else(|why| panic!("{edits}: {why}"));
            if let Some(older) = older {
                let why = Document::parse(&with(older, kind, name, edits)).expect_err(edits);
                assert!(why.contains(version), "{why}");
            }
        }
    }

    #[test]
    fn what_is_unsound_is_told() {
        for (text, word) in [
            (String::new(), ""),
            ("[]".into(), ""),
            (with("9.9.9", "v/c", "d", r#""env": ["A=1"]"#), "9.9.9"),
            (with("1.1.0", "v", "d", r#""env": ["A=1"]"#), "kind"),
            (with("1.1.0", "v/c", "-", r#""env": ["A=1"]"#), "devices[0].name"),
            (with("1.1.0", "v/c", "d", ""), "edits nothing"),
            (with("1.1.0", "v/c", "d", r#""novel": 1"#), "novel"),
            (with("1.1.0", "v/c", "d", r#""env": ["=1"]"#), "env[0]"),
            (with("1.1.0", "v/c", "d", r#""env": ["A"]"#), "env[0]"),
            (with("1.1.0", "v/c", "d", r#""env": ["A=\u0000"]"#), "env[0]"),
            (with("1.1.0", "v/c", "d", r#""deviceNodes": [{"path": ""}]"#), "deviceNodes[0].path"),
            (with("1.1.0", "v/c", "d", r#""deviceNodes": [{"path": "/dev/../x"}]"#), "deviceNodes[0].path"),
            (
                with("1.1.0", "v/c", "d", r#""deviceNodes": [{"path": "/dev/x", "type": "q"}]"#),
                "deviceNodes[0].type",
            ),
            (
                with("1.1.0", "v/c", "d", r#""deviceNodes": [{"path": "/dev/x", "permissions": "rwx"}]"#),
                "deviceNodes[0].permissions",
            ),
            (
                with("1.1.0", "v/c", "d", r#""mounts": [{"hostPath": "", "containerPath": "/b"}]"#),
                "mounts[0].hostPath",
            ),
            (
                with("1.1.0", "v/c", "d", r#""mounts": [{"hostPath": "/a", "containerPath": "b"}]"#),
                "mounts[0].containerPath",
            ),
            (with("1.1.0", "v/c", "d", r#""hooks": [{"hookName": "x", "path": "/b"}]"#), "hooks[0].hookName"),
            (
                with("1.1.0", "v/c", "d", r#""hooks": [{"hookName": "poststop", "path": "b"}]"#),
                "hooks[0].path",
            ),
            (
                with(
                    "1.1.0",
                    "v/c",
                    "d",
                    r#""hooks": [{"hookName": "poststop", "path": "/b", "timeout": 0}]"#,
                ),
                "hooks[0].timeout",
            ),
            (with("1.1.0", "v/c", "d", r#""intelRdt": {"closID": "../x"}"#), "intelRdt.closID"),
            (
                with("1.1.0", "v/c", "d", r#""netDevices": [{"hostInterfaceName": "", "name": "f"}]"#),
                "netDevices[0]",
            ),
            (
                with("1.1.0", "v/c", "d", r#""env": ["A=1"]"#)
                    .replace("}]}", r#"}, {"name": "d", "containerEdits": {"env": ["A=1"]}}]}"#),
                "two",
            ),
            (r#"{"cdiVersion": "1.0.0", "kind": "v/c", "devices": []}"#.into(), "no devices"),
        ] {
            let why = Document::parse(&text).expect_err(&text);
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_document_panics(text in any::<String>()) {
            let _ = Document::parse(&text);
        }

        #[test]
        fn near_documents_do_not_panic(edits in "[a-zA-Z0-9\":,{}\\[\\] /=]{0,60}") {
            let _ = Document::parse(&with("1.1.0", "v/c", "d", &edits));
        }
    }
}
