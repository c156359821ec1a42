//! Why an image cannot be had, used or removed.

use std::sync::Arc;
use std::time::Duration;

use crate::containerd::ContainerdError;
use crate::error::Kind;
use crate::id::Digest;
use crate::registry::{InvalidReference, RegistryError};

/// With this a pull's error must begin for the kubelet to say "registry unavailable"
/// (k8s.io/cri-api `pkg/errors`, `ErrRegistryUnavailable`).
pub const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";

/// An image operation's failure.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text names no image.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("cannot {action} image {image}")]
    Containerd { action: &'static str, image: String, source: ContainerdError },
    /// The registry does not answer, or says that it cannot now.
    #[error("{REGISTRY_UNAVAILABLE}: cannot pull image {image}")]
    RegistryUnavailable { image: String, source: RegistryError },
    #[error("cannot pull image {image}")]
    Registry { image: String, source: RegistryError },
    /// The image itself is wrong, or not for this node.
    #[error("image {image} is refused")]
    Refused { image: String, source: Flaw },
    /// The registry keeps the connection and sends nothing.
    #[error(
        "cannot pull image {image}: no byte of {digest} came for {} (image.pull_progress_timeout)",
        humantime::format_duration(*limit)
    )]
    Stalled { image: String, digest: Digest, limit: Duration },
    /// A name is there without (all of) its content.
    #[error("image {image} lacks {digest} in the content store: pull it again")]
    Incomplete { image: String, digest: Digest },
    #[error("image {image} was removed while it was being pulled")]
    Removed { image: String },
    #[error("image {image} is not removed: every pod of this node is held by it")]
    Pause { image: String },
    /// A download or unpacking that several pulls waited for.
    #[error(transparent)]
    Shared(Arc<ImageError>),
    #[error("{what} ended before its time")]
    Stopped { what: String },
    /// The first measurement has not come yet.
    #[error("the snapshots have not been measured within {}", humantime::format_duration(*limit))]
    Unmeasured { limit: Duration },
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Flaw {
    #[error("{what} is malformed: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("it is a docker schema 1 image; push it again with a builder of this decade")]
    Schema1,
    #[error("{media_type:?} is no image manifest or index")]
    MediaType { media_type: String },
    #[error("it is not for {wanted}; it is for {}", list(offered))]
    Platform { wanted: String, offered: Vec<String> },
    #[error("its indexes are nested deeper than {limit}")]
    TooDeep { limit: usize },
    #[error("it takes more than {limit} manifests to find the one for this node")]
    TooManyManifests { limit: usize },
    #[error("{digest} has an algorithm other than sha256")]
    Algorithm { digest: String },
    #[error("its layer {digest} is foreign ({media_type}): not distributed with it")]
    Foreign { digest: Digest, media_type: String },
    #[error("its layer {digest} is encrypted ({media_type}), and this node decrypts none")]
    Encrypted { digest: Digest, media_type: String },
    #[error("its layer {digest} is of the unknown type {media_type:?}")]
    LayerType { digest: Digest, media_type: String },
    #[error("it has {layers} layers and {diff_ids} diff ids")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("{digest} is of {size} bytes, and more than {limit} are not taken for {what}")]
    TooLarge { what: &'static str, digest: Digest, size: u64, limit: u64 },
    #[error("{digest} has more than the {size} bytes that it is said to have")]
    Oversize { digest: Digest, size: u64 },
    #[error("{digest} ended after {got} of {size} bytes")]
    Truncated { digest: Digest, got: u64, size: u64 },
    #[error("what came as {digest} has another digest")]
    Content { digest: Digest },
    #[error("its layer {layer} unpacks to {found}, not to {expected}")]
    DiffId { layer: Digest, found: Digest, expected: Digest },
    #[error("its layer {layer} unpacks to more than {limit} bytes (image.max_layer_bytes)")]
    Expansion { layer: Digest, limit: u64 },
}

fn list(offered: &[String]) -> String {
    if offered.is_empty() { "no platform at all".to_owned() } else { offered.join(", ") }
}

impl ImageError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reference(_) => Kind::InvalidArgument,
            Self::Containerd { source, .. } => source.kind(),
            Self::RegistryUnavailable { .. } => Kind::Unavailable,
            Self::Registry { source, .. } => source.kind(),
            Self::Refused { source: Flaw::Platform { .. }, .. } => Kind::NotFound,
            Self::Refused { .. } | Self::Pause { .. } => Kind::FailedPrecondition,
            Self::Stalled { .. } | Self::Unmeasured { .. } => Kind::DeadlineExceeded,
            Self::Incomplete { .. } | Self::Removed { .. } => Kind::NotFound,
            Self::Shared(error) => error.kind(),
            Self::Stopped { .. } => Kind::Internal,
        }
    }

    /// A registry's failure, in the words that the kubelet knows.
    pub(super) fn registry(image: &str, source: RegistryError) -> Self {
        let image = image.to_owned();
        if source.is_unavailable() {
            Self::RegistryUnavailable { image, source }
        } else {
            Self::Registry { image, source }
        }
    }

    pub(super) fn refused(image: &str, source: Flaw) -> Self {
        Self::Refused { image: image.to_owned(), source }
    }

    /// For `map_err`: a call to containerd that failed, and what it was for.
    pub(super) fn containerd(action: &'static str, image: &str) -> impl FnOnce(ContainerdError) -> Self {
        move |source| Self::Containerd { action, image: image.to_owned(), source }
    }
}
