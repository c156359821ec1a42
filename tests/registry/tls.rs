//! Certificates of both sides, made with openssl, before Debian's docker-registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use cridge::error::Kind;
use cridge::registry::RegistryError;

use crate::peers::{DockerRegistry, Doors, REPOSITORY, content};
use crate::{anonymous, credentials, reference, registry};

/// What `htpasswd -Bbn -C 4 jane hunter2` prints.
const JANE: &str = "jane:$2y$04$78nxSN.zUCc9kf7L1/A42eb.mxYUGnBuGr6HjxchjoNKlkRAC5LCu\n";

/// A folder of keys and certificates.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("openssl starts");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Signed by itself, and a CA, as `openssl req -x509` has it.
    fn own(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
             -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt"
        ));
    }

    /// Signed by `ca`, for 127.0.0.1.
    fn signed(&self, name: &str, ca: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr"
        ));
        std::fs::write(self.path("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days 2 -extfile extensions \
             -out {name}.crt"
        ));
    }
}

/// A registry with this certificate, that wants clients of this CA if any.
fn peer(keys: &Keys, name: &str, clients: Option<&Path>) -> DockerRegistry {
    let (certificate, key) = (keys.path(&format!("{name}.crt")), keys.path(&format!("{name}.key")));
    DockerRegistry::start(&Doors { tls: Some((&certificate, &key, clients)), htpasswd: None })
}

/// A root with a `hosts.toml` whose `server` is the peer: named as `server`, the loopback gets no leniency.
fn root(peer: &DockerRegistry, settings: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("_default")).unwrap();
    let text = format!("server = \"https://{}\"\n{settings}", peer.address);
    std::fs::write(root.path().join("_default/hosts.toml"), text).unwrap();
    root
}

async fn pulled(peer: &DockerRegistry, settings: &str) -> Result<(), RegistryError> {
    let root = root(peer, settings);
    let image = reference(&format!("{}/{REPOSITORY}:v1", peer.address));
    let manifest = registry(&[root.path()]).manifest(&image, &anonymous()).await?;
    assert_eq!(manifest.bytes, content().manifest);
    Ok(())
}

fn failed(peer: &DockerRegistry, cause: &str) -> String {
    let address = peer.address;
    format!(
        "cannot fetch the manifest of {address}/{REPOSITORY}:v1: \
         https://{address}/v2/{REPOSITORY}/manifests/v1: {cause}"
    )
}

#[tokio::test]
async fn a_ca_of_the_hosts_own_is_trusted() {
    let keys = Keys::new();
    keys.own("ca");
    keys.own("other");
    keys.signed("server", "ca");
    let peer = peer(&keys, "server", None);
    let ca = |name: &str| format!("ca = {:?}", keys.path(name));
    pulled(&peer, &ca("ca.crt")).await.unwrap();
    pulled(&peer, "skip_verify = true").await.unwrap();
    for settings in [String::new(), ca("other.crt")] {
        let error = pulled(&peer, &settings).await.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        let start = failed(&peer, "the certificate is not trusted: name its CA in hosts.toml (ca = \"…\"): ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }
    for (file, why) in [("server.key", "it holds no certificate"), ("extensions", "it holds no certificate")]
    {
        let error = pulled(&peer, &ca(file)).await.unwrap_err().to_string();
        let text = format!(
            "cannot fetch the manifest of {0}/{REPOSITORY}:v1: https://{0}/v2: cannot use {1}: {why}",
            peer.address,
            keys.path(file).display()
        );
        assert_eq!(error, text);
    }
    let error = pulled(&peer, &ca("missing")).await.unwrap_err().to_string();
    assert!(error.ends_with("missing: No such file or directory (os error 2)"), "{error}");
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_named_itself() {
    let keys = Keys::new();
    keys.own("server");
    keys.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x \
         -addext subjectAltName=IP:127.0.0.2 -keyout wrong.key -out wrong.crt",
    );
    let own = peer(&keys, "server", None);
    pulled(&own, &format!("ca = {:?}", keys.path("server.crt"))).await.unwrap();
    let wrong = peer(&keys, "wrong", None);
    let error = pulled(&wrong, &format!("ca = {:?}", keys.path("wrong.crt"))).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let error = pulled(&wrong, &format!("ca = {:?}", keys.path("server.crt"))).await.unwrap_err().to_string();
    assert!(error.contains("CaUsedAsEndEntity") || error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    let keys = Keys::new();
    keys.own("ca");
    keys.signed("server", "ca");
    keys.signed("client", "ca");
    let both = [keys.path("client.crt"), keys.path("client.key")].map(|path| std::fs::read(path).unwrap());
    std::fs::write(keys.path("both.pem"), both.concat()).unwrap();
    let peer = peer(&keys, "server", Some(&keys.path("ca.crt")));
    let ca = format!("ca = {:?}", keys.path("ca.crt"));
    pulled(&peer, &format!("{ca}\nclient = {:?}", keys.path("both.pem"))).await.unwrap();
    let pair = format!("{ca}\nclient = [[{:?}, {:?}]]", keys.path("client.crt"), keys.path("client.key"));
    pulled(&peer, &pair).await.unwrap();

    // The refusal comes after the handshake, as TLS 1.3 has it, and may be overtaken by the connection's end.
    let mut error = pulled(&peer, &ca).await.unwrap_err();
    for _ in 0..10 {
        if !error.is_unavailable() {
            break;
        }
        error = pulled(&peer, &ca).await.unwrap_err();
    }
    let cause =
        "TLS failed: the host refused us; where it wants a certificate, client in hosts.toml names ours: ";
    assert!(error.to_string().contains(cause), "{error}");
    assert_eq!(error.kind(), Kind::FailedPrecondition);

    let mixed = format!("{ca}\nclient = [[{:?}, {:?}]]", keys.path("client.crt"), keys.path("server.key"));
    let error = pulled(&peer, &mixed).await.unwrap_err().to_string();
    let why = "its key does not fit the certificate, or is of an unknown kind";
    assert!(error.ends_with(&format!("cannot use {}: {why}", keys.path("server.key").display())), "{error}");
}

#[tokio::test]
async fn docker_s_layout_of_certificates_does_too() {
    let keys = Keys::new();
    keys.own("ca");
    keys.signed("server", "ca");
    keys.signed("client", "ca");
    let peer = peer(&keys, "server", Some(&keys.path("ca.crt")));
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(format!("127.0.0.1_{}_", peer.address.port()));
    std::fs::create_dir(&folder).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "me.cert"), ("client.key", "me.key")] {
        std::fs::copy(keys.path(from), folder.join(to)).unwrap();
    }
    let image = reference(&format!("{}/{REPOSITORY}:v1", peer.address));
    registry(&[root.path()]).manifest(&image, &anonymous()).await.unwrap();
}

#[tokio::test]
async fn a_changed_file_is_read_anew() {
    let keys = Keys::new();
    keys.own("ca");
    keys.own("trusted");
    keys.signed("server", "ca");
    let peer = peer(&keys, "server", None);
    let root = root(&peer, &format!("ca = {:?}", keys.path("trusted.crt")));
    let registry = registry(&[root.path()]);
    let image = reference(&format!("{}/{REPOSITORY}:v1", peer.address));
    registry.manifest(&image, &anonymous()).await.unwrap_err();
    // Of another length, lest the clock be coarse.
    let ca = std::fs::read_to_string(keys.path("ca.crt")).unwrap();
    std::fs::write(keys.path("trusted.crt"), format!("{ca}\n\n\n")).unwrap();
    registry.manifest(&image, &anonymous()).await.unwrap();
}

#[tokio::test]
async fn a_port_without_tls_is_told_of() {
    let peer = DockerRegistry::start(&Doors::default());
    let error = pulled(&peer, "").await.unwrap_err();
    let cause =
        "TLS failed: the port seems to be without TLS; a host that is meant to be is http:// in hosts.toml";
    assert!(error.to_string().starts_with(&failed(&peer, cause)), "{error}");
}

#[tokio::test]
async fn a_password_file_is_satisfied_over_tls() {
    let keys = Keys::new();
    keys.own("server");
    let htpasswd = keys.path("htpasswd");
    std::fs::write(&htpasswd, JANE).unwrap();
    let (certificate, key) = (keys.path("server.crt"), keys.path("server.key"));
    let peer =
        DockerRegistry::start(&Doors { tls: Some((&certificate, &key, None)), htpasswd: Some(&htpasswd) });
    // By its own name, the loopback needs no CA.
    let (registry, image) = (registry(&[]), reference(&format!("{}/{REPOSITORY}:v1", peer.address)));
    let found = registry.manifest(&image, &credentials("jane", "hunter2", &image)).await.unwrap();
    assert_eq!(found.bytes, content().manifest);
    for (auth, advice) in [
        (anonymous(), "no credentials were given: it needs a pull secret, or is not there"),
        (
            credentials("jane", "hunter3", &image),
            "the credentials given are wrong, or do not allow this pull",
        ),
    ] {
        let error = registry.manifest(&image, &auth).await.unwrap_err();
        let denied = "access denied (401 Unauthorized: UNAUTHORIZED: authentication required): ";
        assert_eq!(error.to_string(), failed(&peer, &format!("{denied}{advice}")));
    }
}
