//! Identifiers as types: no `String` that means something.

use std::fmt;
use std::sync::Arc;

use rand::RngExt as _;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an id: 64 hex digits are")]
pub struct InvalidId(String);

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as containerd and the CRI write it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Whether a text is the id of a pod or container: 64 lower-case hex digits.
pub fn is_id(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(hex)
}

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// A fresh random id: 64 hex digits, as cAdvisor expects of a cgroup's name.
            pub fn generate() -> Self {
                let bytes: [u8; 32] = rand::rng().random();
                Self(hex::encode(bytes).into())
            }

            /// Takes a full id.
            ///
            /// # Errors
            /// [`InvalidId`] unless the text is 64 lower-case hex digits.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_id(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId(text.chars().take(80).collect()))
                }
            }
        }
    };
}

macro_rules! given_text {
    ($name:ident) => {
        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
        }
    };
}

text_type! {
    /// A pod sandbox, and its pause container's record and task in containerd.
    PodId
}
text_type! {
    /// A container of a pod, its record and task in containerd.
    ContainerId
}
text_type! {
    /// `sha256:<hex>` of an image's config: what the CRI calls the image id.
    ImageId
}
text_type! {
    /// A content digest, `<algorithm>:<hex>`.
    Digest
}
text_type! {
    /// The key of a snapshot within its snapshotter: a container id, or a chain ID.
    SnapshotKey
}
text_type! {
    /// A containerd lease: what it names is safe from garbage collection.
    LeaseId
}

random_id!(PodId);
random_id!(ContainerId);
given_text!(ImageId);
given_text!(Digest);
given_text!(SnapshotKey);
given_text!(LeaseId);

impl From<&PodId> for SnapshotKey {
    fn from(id: &PodId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&ContainerId> for SnapshotKey {
    fn from(id: &ContainerId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&Digest> for ImageId {
    fn from(digest: &Digest) -> Self {
        Self(digest.0.clone())
    }
}

impl Digest {
    /// The sha256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes))).into())
    }

    /// The hex part, or the whole text where there is no algorithm.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, hex)| hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_parses() {
        let id = PodId::generate();
        assert_eq!(PodId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../../etc"] {
            assert!(ContainerId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn digests_are_sha256() {
        let empty = Digest::of(b"");
        assert_eq!(empty.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
