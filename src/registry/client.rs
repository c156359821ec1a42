//! The client: one for the daemon, shared by all pulls.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

use super::{Reference, RegistryError};
use crate::config::RegistryConfig;
use crate::id::Digest;
use crate::proto::cri::AuthConfig;

/// Hosts, connections and tokens. Cheap to clone.
#[derive(Clone)]
pub struct Registry(());

/// Credentials of one pull. Its Debug tells nothing.
#[derive(Clone, Default)]
pub struct Credentials(());

/// A manifest or index as served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    /// Of `bytes`, checked; equal to the reference's digest where it has one.
    pub digest: Digest,
    pub bytes: Bytes,
}

/// A blob's bytes from an offset on. Not yet checked against its digest.
pub struct Blob {
    /// Where the stream begins: the offset asked for, or 0 where the server ignored the range.
    pub offset: u64,
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>,
}

impl Credentials {
    /// From the CRI: user and password, `auth`, identity token or registry token. Those meant for another
    /// `server_address` than the reference's registry are left out.
    ///
    /// # Errors
    /// When `auth` or `server_address` is malformed.
    pub fn from_cri(auth: Option<&AuthConfig>, reference: &Reference) -> Result<Self, RegistryError> {
        let _ = auth;
        unimplemented!("{reference}")
    }
}

impl Registry {
    /// Reads nothing yet: hosts.toml files are read at each pull (an operator's edit needs no restart).
    pub fn new(config: RegistryConfig) -> Self {
        let _ = config;
        unimplemented!()
    }

    /// Fetches the manifest or index that the reference names, from the first host that has it. At most 4 MiB.
    pub async fn manifest(
        &self,
        reference: &Reference,
        auth: &Credentials,
    ) -> Result<Manifest, RegistryError> {
        let _ = auth;
        unimplemented!("{reference}")
    }

    /// Opens a blob of the reference's repository at `offset`. Retries, other hosts and redirects happen inside, until
    /// the stream is open; the caller resumes a stream that broke by asking again with the offset reached.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        offset: u64,
        auth: &Credentials,
    ) -> Result<Blob, RegistryError> {
        let _ = auth;
        unimplemented!("{reference} {digest} {offset}")
    }

    /// For `cridge check` and error texts: which hosts a pull would try, with which CA, headers and proxy.
    pub fn explain(&self, registry: &str) -> Vec<String> {
        unimplemented!("{registry}")
    }
}
