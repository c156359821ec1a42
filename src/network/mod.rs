//! Pod networks: calls CNI plugins as libcni would, and keeps their results where libcni keeps them.
//!
//! Knows nothing of pods beyond the names that CNI_ARGS carries.

mod error;
mod pod;

pub use error::NetworkError;
pub use pod::{Attachment, Bandwidth, Networks, PodNetwork, PortMapping};
