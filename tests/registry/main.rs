//! The registry client against real and scripted peers on the loopback.

mod auth;
mod debian;
mod failures;
mod hosts;
mod peers;
mod proxy;
mod scripted;
mod tls;

use cridge::config::RegistryConfig;
use cridge::proto::cri::AuthConfig;
use cridge::registry::{Credentials, Reference, Registry};

/// A client whose hosts are those of these folders.
fn registry(config_dirs: &[&std::path::Path]) -> Registry {
    let config_dirs = config_dirs.iter().map(|dir| dir.to_path_buf()).collect();
    Registry::new(RegistryConfig { config_dirs, headers: Default::default() })
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn credentials(user: &str, password: &str, reference: &Reference) -> Credentials {
    let auth = AuthConfig { username: user.into(), password: password.into(), ..AuthConfig::default() };
    Credentials::from_cri(Some(&auth), reference).unwrap()
}

fn anonymous() -> Credentials {
    Credentials::default()
}

/// What scripted registries serve.
const MANIFEST: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn manifest() -> scripted::Reply {
    scripted::Reply::new(200, MANIFEST).with("Content-Type", "application/vnd.oci.image.index.v1+json")
}
