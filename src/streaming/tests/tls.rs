use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::tls::write_pair;
use super::{echo, server_with};
use crate::config::StreamingTls;

const ADDRESS: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// What the server answers to a request without an upgrade, if its certificate is this one.
async fn answer(url: &str, certificate: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (host, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let stream = TcpStream::connect(host).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::from(ADDRESS), stream).await?;
    stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn certificate(folder: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap()
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let tls = write_pair(folder.path(), ADDRESS);
    let (streaming, _stop) = server_with(Some(tls)).await;
    let url = || streaming.url(echo()).unwrap();
    let first = certificate(folder.path());
    assert!(answer(&url(), &first).await.unwrap().starts_with("HTTP/1.1 426 "));
    // Half of the next one: it is as if nothing had happened.
    let elsewhere = tempfile::tempdir().unwrap();
    write_pair(elsewhere.path(), ADDRESS);
    let replace =
        |name: &str| std::fs::rename(elsewhere.path().join(name), folder.path().join(name)).unwrap();
    replace("tls.key");
    assert!(answer(&url(), &first).await.unwrap().starts_with("HTTP/1.1 426 "));
    replace("tls.crt");
    let second = certificate(folder.path());
    answer(&url(), &first).await.unwrap_err();
    assert!(answer(&url(), &second).await.unwrap().starts_with("HTTP/1.1 426 "));
}

#[tokio::test]
async fn without_tls_nothing_is_answered_where_tls_is_served() {
    let (streaming, _stop) = server_with(Some(StreamingTls::SelfSigned)).await;
    let url = streaming.url(echo()).unwrap();
    let (mut stream, answer) = super::ask(&url.replace("https://", "http://"), "").await;
    // An alert, at most, which is no HTTP.
    assert!(!answer.starts_with("HTTP/"), "{answer}");
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
}
