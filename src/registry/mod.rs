//! Registries: image references, hosts.toml, authentication, manifests and blobs over HTTP (OCI distribution spec).
//!
//! Knows nothing of containerd: what is fetched is handed on as bytes and streams.

mod client;
mod error;
mod reference;

pub use client::{Blob, Credentials, Manifest, Registry};
pub use error::RegistryError;
pub use reference::{InvalidReference, Reference};
