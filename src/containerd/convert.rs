//! Between protobuf's types and this program's, where several services share them.

use std::collections::{BTreeMap, HashMap};

use containerd_client::types;
use prost_types::Any;

use super::{Descriptor, SnapshotMount, TypedBlob};
use crate::id::Digest;
use crate::time::Timestamp;

/// Go's zero time is in the year 1: nothing that containerd knows happened before 1970.
pub(super) fn timestamp(time: Option<prost_types::Timestamp>) -> Timestamp {
    time.filter(|time| time.seconds >= 0)
        .map_or(Timestamp::NEVER, |time| Timestamp::from_parts(time.seconds, time.nanos))
}

/// Protobuf's maps have no order.
pub(super) fn ordered<V>(map: HashMap<String, V>) -> BTreeMap<String, V> {
    map.into_iter().collect()
}

pub(super) fn unordered(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl From<Any> for TypedBlob {
    fn from(any: Any) -> Self {
        Self { type_url: any.type_url, value: any.value }
    }
}

impl From<TypedBlob> for Any {
    fn from(blob: TypedBlob) -> Self {
        Self { type_url: blob.type_url, value: blob.value }
    }
}

impl From<types::Mount> for SnapshotMount {
    fn from(mount: types::Mount) -> Self {
        Self { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
    }
}

impl From<&SnapshotMount> for types::Mount {
    fn from(mount: &SnapshotMount) -> Self {
        let SnapshotMount { kind, source, target, options } = mount.clone();
        Self { r#type: kind, source, target, options }
    }
}

impl From<types::Descriptor> for Descriptor {
    fn from(descriptor: types::Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: Digest::new(descriptor.digest),
            size: bytes(descriptor.size),
            annotations: ordered(descriptor.annotations),
        }
    }
}

impl From<&Descriptor> for types::Descriptor {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.to_string(),
            size: signed(descriptor.size),
            annotations: unordered(&descriptor.annotations),
        }
    }
}

/// Sizes are signed in containerd's API and never negative in its answers.
pub(super) fn bytes(size: i64) -> u64 {
    size.max(0).unsigned_abs()
}

/// A size for containerd, whose files are no longer than an `i64` either.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_zero_time_has_not_happened() {
        let time = |seconds| timestamp(Some(prost_types::Timestamp { seconds, nanos: 7 }));
        assert_eq!(time(-62_135_596_800), Timestamp::NEVER);
        assert_eq!(time(1), Timestamp::from_nanos(1_000_000_007));
        assert_eq!(timestamp(None), Timestamp::NEVER);
    }
}
