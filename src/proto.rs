//! The CRI's messages and service traits, generated from `proto/` by `build.rs`; and OTLP's, in builds with traces.
//!
//! Invariant: no credential is printable. The one message that carries any, `AuthConfig`,
//! has its `Debug` here instead of a derived one, so every message around it is safe to log.

mod stored;

use std::fmt;

#[allow(clippy::all, missing_docs, rustdoc::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// What a collector of traces takes.
#[cfg(feature = "traces")]
#[allow(clippy::all, missing_docs, rustdoc::all)]
pub mod otlp {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

/// The CRI's declarations as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.pb"));

/// The paths of all calls of all services, in order.
pub const CALLS: &[&str] = include!(concat!(env!("OUT_DIR"), "/calls.rs"));

impl fmt::Debug for cri::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No `..`: a field that upstream adds must be sorted into the printable or the secret.
        let Self { username, password, auth, server_address, identity_token, registry_token } = self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &redacted(password))
            .field("auth", &redacted(auth))
            .field("server_address", server_address)
            .field("identity_token", &redacted(identity_token))
            .field("registry_token", &redacted(registry_token))
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
        let request = cri::PullImageRequest { auth: Some(auth), ..Default::default() };
        let text = format!("{request:?}");
        assert!(!text.contains("secret-"), "{text}");
        assert!(text.contains("alice"), "{text}");
    }
}
