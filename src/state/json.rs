//! JSON as Go's encoding/json writes it, and the `Version` that every stored object carries.

use std::io;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::Formatter;

use super::StateError;
use crate::id::{ContainerId, PodId};

/// The only version that there has been, from containerd 1.0 to 2.4.
pub const VERSION: &str = "v1";

/// Compact JSON in which, as in Go's, what HTML or JavaScript would take amiss is escaped in strings.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        mut text: &str,
    ) -> io::Result<()> {
        while let Some(at) = text.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, rest) = text.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut rest = rest.chars();
            let special = rest.next().map_or(0, u32::from);
            write!(writer, "\\u{special:04x}")?;
            text = rest.as_str();
        }
        writer.write_all(text.as_bytes())
    }
}

/// Writes the value as Go would.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, GoFormatter))
        .expect("string keys and plain data into memory: nothing can fail");
    bytes
}

/// Reads the version first, so that a later format is told from rubbish; `what` names the object in errors.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: impl Fn() -> String) -> Result<T, StateError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Envelope {
        #[serde(default)]
        version: String,
    }
    let malformed = |source| StateError::Malformed { what: what(), source };
    let Envelope { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version != VERSION {
        let version = version.chars().take(40).collect();
        return Err(StateError::Version { what: what(), version });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Go's nil for a list without items, and for a message that is absent.
pub fn null_if_empty<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

/// The default where Go wrote nil.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An id as its text.
pub fn as_text<S: Serializer>(id: &impl AsRef<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_ref())
}

/// A path as text: they come from CRI messages, which are UTF-8, or are our own.
pub fn path_text<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

pub fn pod_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PodId, D::Error> {
    PodId::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub fn container_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ContainerId, D::Error> {
    ContainerId::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}
