//! The connection: one channel for calls, one for streams that live long.

use std::path::Path;

use crate::id::LeaseId;

/// A handle on containerd in one namespace. Cheap to clone; connects when first used, and again after a loss.
#[derive(Clone, Debug)]
pub struct Containerd(());

impl Containerd {
    /// Names the socket and namespace; does not connect yet.
    pub fn new(socket: &Path, namespace: &str) -> Self {
        unimplemented!("{socket:?} {namespace}")
    }

    /// The same connection, with what it creates kept under the lease.
    pub fn leased(&self, lease: &LeaseId) -> Self {
        unimplemented!("{lease}")
    }

    /// Process id of the peer that answers on the socket (SO_PEERCRED): whose capabilities and OOM score rule.
    pub async fn server_pid(&self) -> Result<i32, std::io::Error> {
        unimplemented!()
    }
}
