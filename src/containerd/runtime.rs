//! The shim of a container, and its options as containerd's own configuration writes them.

use std::path::Path;

use prost::Message as _;

use super::TypedBlob;
use crate::config::HandlerConfig;

/// The one shim type whose options are runc's.
const RUNC_TYPE: &str = "io.containerd.runc.v2";

/// Shim and options of a record (`runc` handlers: `containerd.runc.v1.Options`).
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSelection {
    pub name: String,
    pub options: Option<TypedBlob>,
}

/// `containerd.runc.v1.Options` (containerd, api/types/runc/options/oci.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(bool, tag = "1")]
    no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    no_new_keyring: bool,
    #[prost(string, tag = "3")]
    shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    io_uid: u32,
    #[prost(uint32, tag = "5")]
    io_gid: u32,
    #[prost(string, tag = "6")]
    binary_name: String,
    #[prost(string, tag = "7")]
    root: String,
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    criu_image_path: String,
    #[prost(string, tag = "11")]
    criu_work_path: String,
}

/// `runtimeoptions.v1.Options` (containerd, api/types/runtimeoptions/v1/api.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct GenericOptions {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    config_body: Vec<u8>,
}

impl RuntimeSelection {
    /// From a handler's configuration: `containerd.runc.v1.Options` for `io.containerd.runc.v2`, otherwise
    /// `runtimeoptions.v1.Options` (contract §0, typeurls).
    ///
    /// # Errors
    /// A sentence that names the option key that is unknown or of the wrong type.
    pub fn from_handler(handler: &HandlerConfig) -> Result<Self, String> {
        let options = if handler.runtime_type == RUNC_TYPE {
            Some(TypedBlob {
                type_url: "containerd.runc.v1.Options".into(),
                value: RuncOptions::from_table(&handler.options)?.encode_to_vec(),
            })
        } else if handler.options.is_empty() {
            None
        } else {
            Some(TypedBlob {
                type_url: "runtimeoptions.v1.Options".into(),
                value: GenericOptions::from_table(&handler.options)?.encode_to_vec(),
            })
        };
        Ok(Self { name: handler.runtime_type.clone(), options })
    }

    /// Whether the shim is runc's: the one that checkpoints and restores.
    pub fn is_runc(&self) -> bool {
        self.name == RUNC_TYPE
    }

    /// Options of a task whose process comes out of CRIU's images in that folder, with CRIU's log in `work`: those of
    /// the container and these. None where it is not runc's shim.
    pub fn restoring(&self, images: &Path, work: &Path) -> Option<TypedBlob> {
        self.runc_options(|options| {
            options.criu_image_path = images.display().to_string();
            options.criu_work_path = work.display().to_string();
        })
    }

    /// The same runtime, with the pipes of its processes owned by `(uid, gid)` of the node: a process in a user
    /// namespace cannot open its own streams again else. Runtimes other than runc's are not told.
    pub fn with_stream_owner(&self, (uid, gid): (u32, u32)) -> Self {
        let owned = self.runc_options(|options| (options.io_uid, options.io_gid) = (uid, gid));
        Self { name: self.name.clone(), options: owned.or_else(|| self.options.clone()) }
    }

    /// The options of runc's shim, changed. They are our own encoding, or the built-in plugin's of the same message.
    fn runc_options(&self, change: impl FnOnce(&mut RuncOptions)) -> Option<TypedBlob> {
        let own = self.options.as_ref().filter(|_| self.is_runc())?;
        let mut options = RuncOptions::decode(own.value.as_slice()).ok()?;
        change(&mut options);
        Some(TypedBlob { value: options.encode_to_vec(), ..own.clone() })
    }
}

impl RuncOptions {
    fn from_table(table: &toml::Table) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in table {
            match key.as_str() {
                "NoPivotRoot" => options.no_pivot_root = boolean(key, value)?,
                "NoNewKeyring" => options.no_new_keyring = boolean(key, value)?,
                "ShimCgroup" => options.shim_cgroup = text(key, value)?,
                "IoUid" => options.io_uid = number(key, value)?,
                "IoGid" => options.io_gid = number(key, value)?,
                "BinaryName" => options.binary_name = text(key, value)?,
                "Root" => options.root = text(key, value)?,
                "SystemdCgroup" => options.systemd_cgroup = boolean(key, value)?,
                "CriuImagePath" => options.criu_image_path = text(key, value)?,
                "CriuWorkPath" => options.criu_work_path = text(key, value)?,
                _ => return Err(format!("{RUNC_TYPE} has no option {key:?}")),
            }
        }
        Ok(options)
    }
}

impl GenericOptions {
    /// Without a file of its own, the shim is given the table as it stands.
    fn from_table(table: &toml::Table) -> Result<Self, String> {
        let field = |key: &str| table.get(key).map_or(Ok(String::new()), |value| text(key, value));
        let config_path = field("ConfigPath")?;
        let config_body = if config_path.is_empty() { table.to_string().into_bytes() } else { Vec::new() };
        Ok(Self { type_url: field("TypeUrl")?, config_path, config_body })
    }
}

fn boolean(key: &str, value: &toml::Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| mistaken(key, "true or false", value))
}

fn text(key: &str, value: &toml::Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| mistaken(key, "a text", value))
}

fn number(key: &str, value: &toml::Value) -> Result<u32, String> {
    let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| mistaken(key, "a whole number from 0 to 4294967295", value))
}

fn mistaken(key: &str, expected: &str, value: &toml::Value) -> String {
    format!("option {key:?} must be {expected}, not {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(runtime_type: &str, options: &str) -> HandlerConfig {
        HandlerConfig {
            runtime_type: runtime_type.into(),
            options: options.parse().unwrap(),
            ..HandlerConfig::default()
        }
    }

    #[test]
    fn runcs_options_are_encoded_as_containerd_encodes_them() {
        let toml = "BinaryName = '/opt/runc'\nSystemdCgroup = true\nIoUid = 7";
        let selection = RuntimeSelection::from_handler(&handler(RUNC_TYPE, toml)).unwrap();
        let options = selection.options.unwrap();
        assert_eq!(options.type_url, "containerd.runc.v1.Options");
        // Field 4 varint 7, field 6 the nine bytes of the name, field 9 varint 1.
        assert_eq!(options.value, b"\x20\x07\x32\x09/opt/runc\x48\x01");
    }

    #[test]
    fn streams_belong_to_whom_is_said_and_other_options_stay() {
        let selection =
            RuntimeSelection::from_handler(&handler(RUNC_TYPE, "BinaryName = 'r'\nIoUid = 9")).unwrap();
        let options = selection.with_stream_owner((7, 8)).options.unwrap();
        assert_eq!(options.type_url, "containerd.runc.v1.Options");
        assert_eq!(options.value, b"\x20\x07\x28\x08\x32\x01r");
        let kata = RuntimeSelection::from_handler(&handler("io.containerd.kata.v2", "debug = true")).unwrap();
        assert_eq!(kata.with_stream_owner((7, 8)), kata);
    }

    #[test]
    fn runc_without_options_has_empty_ones() {
        let options = RuntimeSelection::from_handler(&handler(RUNC_TYPE, "")).unwrap().options.unwrap();
        assert_eq!((options.type_url.as_str(), options.value), ("containerd.runc.v1.Options", Vec::new()));
    }

    #[test]
    fn a_restored_task_keeps_the_options() {
        let selection = RuntimeSelection::from_handler(&handler(RUNC_TYPE, "Root = '/r'")).unwrap();
        let options = selection.restoring(Path::new("/images"), Path::new("/work")).unwrap();
        let options = RuncOptions::decode(options.value.as_slice()).unwrap();
        let paths = [options.root, options.criu_image_path, options.criu_work_path];
        assert_eq!(paths, ["/r", "/images", "/work"]);

        let kata = RuntimeSelection::from_handler(&handler("io.containerd.kata.v2", "a = 1")).unwrap();
        assert_eq!(kata.restoring(Path::new("/images"), Path::new("/work")), None);
    }

    #[test]
    fn a_mistake_names_its_key() {
        for (toml, text) in [
            ("SystemdCGroup = true", "io.containerd.runc.v2 has no option \"SystemdCGroup\""),
            ("SystemdCgroup = 'yes'", "option \"SystemdCgroup\" must be true or false, not \"yes\""),
            ("IoUid = -1", "option \"IoUid\" must be a whole number from 0 to 4294967295, not -1"),
            ("Root = 3", "option \"Root\" must be a text, not 3"),
        ] {
            assert_eq!(RuntimeSelection::from_handler(&handler(RUNC_TYPE, toml)).unwrap_err(), text);
        }
    }

    #[test]
    fn another_shim_gets_its_file_or_the_whole_table() {
        let decode = |toml: &str| {
            let options =
                RuntimeSelection::from_handler(&handler("io.containerd.kata.v2", toml)).unwrap().options;
            GenericOptions::decode(options.unwrap().value.as_slice()).unwrap()
        };
        let file = decode("ConfigPath = '/etc/kata.toml'\nTypeUrl = 't'");
        assert_eq!((file.config_path.as_str(), file.type_url.as_str()), ("/etc/kata.toml", "t"));
        assert!(file.config_body.is_empty());

        let body = String::from_utf8(decode("debug = true").config_body).unwrap();
        assert_eq!(body.trim(), "debug = true");

        let none = RuntimeSelection::from_handler(&handler("io.containerd.kata.v2", "")).unwrap();
        assert_eq!(none.options, None);
    }
}
