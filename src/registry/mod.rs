//! Registries: image references, hosts.toml, authentication, manifests and blobs over HTTP (OCI distribution spec).
//!
//! Knows nothing of containerd: what is fetched is handed on as bytes and streams. Invariant: no credential, and no
//! query of a URL, is ever part of a text, be it Display or Debug.

mod answer;
mod auth;
mod challenge;
mod client;
mod credentials;
mod error;
mod exchange;
mod explain;
#[cfg(test)]
mod fuzz;
mod hosts;
mod hosts_file;
mod proxy;
mod reference;
mod tls;
mod transport;

pub use client::{Blob, Manifest, Registry};
pub use credentials::Credentials;
pub use error::{Cause, Failures, RegistryError};
pub use reference::{InvalidReference, Reference};
