//! The CRI's messages and service traits, generated from `proto/` by `build.rs`.
//!
//! Invariant: no credential is printable. The one message that carries any, `AuthConfig`,
//! has its `Debug` here instead of a derived one, so every message around it is safe to log.

use std::fmt;

#[allow(clippy::all, missing_docs, rustdoc::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The declarations in `proto/` as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.pb"));

impl fmt::Debug for cri::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &redacted(&self.password))
            .field("auth", &redacted(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &redacted(&self.identity_token))
            .field("registry_token", &redacted(&self.registry_token))
            .finish()
    }
}

/// Tells whether a secret is set, and nothing else of it.
fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "[redacted]" }
}

#[cfg(test)]
mod tests {
    use super::cri;

    #[test]
    fn no_credential_is_printed_by_the_request_that_carries_it() {
        let auth = cri::AuthConfig {
            username: "alice".into(),
            password: "secret-1".into(),
            auth: "secret-2".into(),
            server_address: "registry.example".into(),
            identity_token: "secret-3".into(),
            registry_token: "secret-4".into(),
        };
        let request = cri::PullImageRequest {
            auth: Some(auth),
            ..Default::default()
        };
        let text = format!("{request:?}");
        assert!(!text.contains("secret-"), "{text}");
        assert!(text.contains("alice"), "{text}");
    }
}
