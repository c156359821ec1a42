//! TLS of the streaming server: with a certificate of the operator's, or with one of our own.
//!
//! Invariant: whoever connects gets the newest pair that was whole. One that is just being replaced, certificate before
//! key, leaves the former in its place.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::StreamingError;
use crate::config::StreamingTls;

/// How long a certificate of our own is good; a fresh one is made at half of it.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// How far a client's clock may be behind ours.
const SKEW: Duration = Duration::from_secs(3600);

/// What the server shows to clients. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    source: StreamingTls,
    address: IpAddr,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamp: Option<Stamp>,
}

/// What changes with a pair of certificate and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// Inode, size and time of change of both files.
    Files([(u64, u64, i64, i64); 2]),
    /// When it was made.
    Made(SystemTime),
}

impl Identity {
    /// Reads, or makes, the first pair. Blocks on files.
    ///
    /// # Errors
    /// [`StreamingError::Certificate`].
    pub fn load(source: &StreamingTls, address: IpAddr) -> Result<Self, StreamingError> {
        let stamp = stamp(source);
        let current = Mutex::new(Current { config: server_config(source, address)?, stamp });
        Ok(Self(Arc::new(Inner { source: source.clone(), address, current })))
    }

    /// For the next connection. Blocks on files.
    pub fn acceptor(&self) -> TlsAcceptor {
        let Inner { source, address, current } = &*self.0;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.is_fresh(source) {
            // Taken before: a change while the files are read is another one.
            let stamp = stamp(source);
            match server_config(source, *address) {
                Ok(config) => {
                    tracing::info!("clients of exec, attach and port-forward get a new certificate");
                    *current = Current { config, stamp };
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(error, "the former certificate is kept");
                }
            }
        }
        current.config.clone().into()
    }
}

impl Current {
    fn is_fresh(&self, source: &StreamingTls) -> bool {
        match self.stamp {
            Some(Stamp::Made(when)) => when.elapsed().is_ok_and(|age| age < LIFETIME / 2),
            files => files == stamp(source),
        }
    }
}

/// What is there now; `None` if that cannot be told.
fn stamp(source: &StreamingTls) -> Option<Stamp> {
    let of = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    };
    match source {
        StreamingTls::SelfSigned => Some(Stamp::Made(SystemTime::now())),
        StreamingTls::Files { certificate, key } => Some(Stamp::Files([of(certificate)?, of(key)?])),
    }
}

fn server_config(source: &StreamingTls, address: IpAddr) -> Result<Arc<ServerConfig>, StreamingError> {
    let (chain, key) = match source {
        StreamingTls::SelfSigned => {
            self_signed(address).map_err(|source| failed("one of our own", source))?
        }
        StreamingTls::Files { certificate, key } => {
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain = chain.map_err(|source| failed(certificate.display(), source))?;
            (chain, PrivateKeyDer::from_pem_file(key).map_err(|source| failed(key.display(), source))?)
        }
    };
    let of = match source {
        StreamingTls::SelfSigned => "one of our own".to_owned(),
        StreamingTls::Files { certificate, .. } => certificate.display().to_string(),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    config.map(Arc::new).map_err(|source| failed(of, source))
}

fn failed(
    what: impl ToString,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StreamingError {
    StreamingError::Certificate { what: what.to_string(), source: source.into() }
}

/// A chain of certificates, the server's first, and its key.
type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(address: IpAddr) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([address.to_string()])?;
    params.distinguished_name.push(DnType::CommonName, "cridge");
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFETIME).into();
    let certificate = params.self_signed(&key)?;
    Ok((vec![certificate.into()], key.into()))
}

#[cfg(test)]
pub(super) fn write_pair(folder: &Path, address: IpAddr) -> StreamingTls {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([address.to_string()]).unwrap().self_signed(&key).unwrap();
    let pem = |label: &str, der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let [certificate_file, key_file] = ["tls.crt", "tls.key"].map(|name| folder.join(name));
    std::fs::write(&certificate_file, pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::write(&key_file, pem("PRIVATE KEY", key.serialized_der())).unwrap();
    StreamingTls::Files { certificate: certificate_file, key: key_file }
}
