//! Why an image cannot be had, used or removed.

use crate::containerd::ContainerdError;
use crate::error::Kind;

/// An image operation's failure.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot {action} image {image}")]
    Containerd { action: &'static str, image: String, source: ContainerdError },
}

impl ImageError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Containerd { source, .. } => source.kind(),
        }
    }
}
