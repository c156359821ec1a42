//! TLS towards one host: whom we trust, and as whom we appear.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::error::Cause;
use super::hosts::TlsFiles;

/// Builds what a connection needs. Blocks on files.
pub(super) fn client_config(files: &TlsFiles, system: &RootCertStore) -> Result<ClientConfig, Cause> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Cause::Tls)?
        .dangerous();
    let builder = match files.skip_verify {
        Some(true) => builder.with_custom_certificate_verifier(Arc::new(Unverified(provider.clone()))),
        _ => builder.with_custom_certificate_verifier(Arc::new(Verified::new(files, system, &provider)?)),
    };
    let mut config = if files.client.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(Identities::load(files, &provider)?))
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The system's store, or what SSL_CERT_FILE and SSL_CERT_DIR name. Blocks on files.
pub(super) fn system_roots() -> RootCertStore {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!("the system's CA store: {error}");
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(loaded.certs);
    tracing::debug!(roots = roots.len(), unusable, "loaded the system's CA store");
    roots
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let pem = |why| Cause::Pem { path: path.to_owned(), why };
    let found = found.map_err(|_| pem("it is not PEM"))?;
    if found.is_empty() { Err(pem("it holds no certificate")) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, Cause> {
    std::fs::read(path).map_err(|source| Cause::File { path: path.to_owned(), source })
}

/// Our own certificates; the first whose key the server can check is shown.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl Identities {
    fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, Cause> {
        let load = |(certificate, key): &(std::path::PathBuf, Option<std::path::PathBuf>)| {
            let path = key.as_ref().unwrap_or(certificate);
            let pem = |why| Cause::Pem { path: path.clone(), why };
            let chain = certificates(certificate)?;
            let key =
                PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| pem("it holds no private key"))?;
            let pair = CertifiedKey::from_der(chain, key, provider);
            pair.map(Arc::new)
                .map_err(|_| pem("its key does not fit the certificate, or is of an unknown kind"))
        };
        files.client.iter().map(load).collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|identity| identity.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The usual checks, and one kindness: a self-signed certificate that says it is a CA, as `openssl req -x509` makes
/// them, may be a server's own where the operator named that very certificate.
#[derive(Debug)]
struct Verified {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Verified {
    fn new(files: &TlsFiles, system: &RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, Cause> {
        let mut roots = system.clone();
        let mut named = Vec::new();
        for path in &files.ca {
            for certificate in certificates(path)? {
                let why = "a certificate in it is not well-formed";
                roots.add(certificate.clone()).map_err(|_| Cause::Pem { path: path.clone(), why })?;
                named.push(certificate);
            }
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let inner = inner.map_err(|error| Cause::Tls(rustls::Error::General(error.to_string())))?;
        Ok(Self { inner, named })
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match result {
            // Its dates are checked before this complaint, its name after.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if why.to_string() == "CaUsedAsEndEntity" && self.named.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `skip_verify`: any certificate will do, as long as its owner holds the key.
struct Unverified(Arc<CryptoProvider>);

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unverified")
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
