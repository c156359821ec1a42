//! The JSON of the CRI messages that the built-in plugin stores: what Go's encoding/json writes of the structs that
//! protoc-gen-go makes, with names as declared, enums as numbers and the empty left out. `build.rs` puts it on them.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

/// Go's `omitempty`: a message is left out where it is absent, never where it is there and empty.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A map in the order of its keys, so that the same message always gives the same bytes.
pub fn sorted<S: Serializer>(map: &HashMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    map.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
}

/// The bytes of an environment variable as text: upstream's `api_json.go` keeps the form that it had as a string, with
/// U+FFFD for every byte that is not UTF-8. What a process gets is in its OCI spec, made before this is stored.
pub mod text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the bytes as text.
    pub fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(value.len());
        for chunk in value.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        serializer.serialize_str(&text)
    }

    /// Reads the text as bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}
