//! Debian's docker-registry as a private process with an image inside.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cridge::id::Digest;

/// To wait for a process to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The repository that every registry has, with the tag `v1`.
pub const REPOSITORY: &str = "team/app";

/// What is in the registries: a blob of some size, and a manifest that names it.
pub struct Content {
    storage: PathBuf,
    pub blob: Vec<u8>,
    pub blob_digest: Digest,
    pub manifest: Vec<u8>,
    pub manifest_digest: Digest,
}

/// A registry of its own. Ends when dropped.
pub struct DockerRegistry {
    process: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// Who may come in.
#[derive(Default)]
pub struct Doors<'a> {
    /// A file of htpasswd.
    pub htpasswd: Option<&'a Path>,
    /// Certificate, key, and the CA of the clients.
    pub tls: Option<(&'a Path, &'a Path, Option<&'a Path>)>,
}

impl DockerRegistry {
    /// Starts one on the common content.
    pub fn start(doors: &Doors<'_>) -> Self {
        Self::on(&content().storage, doors)
    }

    fn on(storage: &Path, doors: &Doors<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let address = free_address();
            let config = folder.path().join("config.yml");
            std::fs::write(&config, configuration(storage, address, doors)).unwrap();
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            let mut process = Command::new(program())
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("docker-registry (Debian's package) starts");
            while TcpStream::connect(address).is_err() {
                let ended = process.try_wait().unwrap();
                let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
                assert!(Instant::now() < deadline, "docker-registry does not listen ({ended:?}): {}", log());
                if ended.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // Somebody else may have taken the port meanwhile: then it has ended, and another port is tried.
            if process.try_wait().unwrap().is_none() {
                return Self { process, address, _folder: folder };
            }
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(storage: &Path, address: SocketAddr, doors: &Doors<'_>) -> String {
    let mut text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
        storage.display()
    );
    if let Some(htpasswd) = doors.htpasswd {
        text.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", htpasswd.display()));
    }
    text.push_str(&format!("http:\n  addr: {address}\n"));
    if let Some((certificate, key, clients)) = doors.tls {
        text.push_str(&format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        ));
        if let Some(clients) = clients {
            text.push_str(&format!("    clientcas: [{}]\n", clients.display()));
        }
    }
    text
}

/// From the lab's cache, or installed.
fn program() -> PathBuf {
    let lab =
        std::env::var_os("CRIDGE_LAB").map(|lab| Path::new(&lab).join("programs/usr/bin/docker-registry"));
    lab.filter(|path| path.exists()).unwrap_or_else(|| "docker-registry".into())
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The content, pushed once into a storage folder that all registries of this process read.
pub fn content() -> &'static Content {
    static CONTENT: OnceLock<Content> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let storage = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("registry-content");
        let _ = std::fs::remove_dir_all(&storage);
        let blob: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let blob_digest = Digest::of(&blob);
        let config = b"{}".to_vec();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{blob_digest}","size":{}}}]}}"#,
            Digest::of(&config),
            blob.len()
        )
        .into_bytes();
        let manifest_digest = Digest::of(&manifest);
        let registry = DockerRegistry::on(&storage, &Doors::default());
        for blob in [&config, &blob] {
            push_blob(registry.address, blob);
        }
        push(registry.address, "PUT", &format!("/v2/{REPOSITORY}/manifests/v1"), &manifest);
        Content { storage, blob, blob_digest, manifest, manifest_digest }
    })
}

fn push_blob(address: SocketAddr, blob: &[u8]) {
    let location = push(address, "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), b"");
    let separator = if location.contains('?') { '&' } else { '?' };
    push(address, "PUT", &format!("{location}{separator}digest={}", Digest::of(blob)), blob);
}

/// One request by hand: the client under test knows no pushing. Returns the path of `Location`.
fn push(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default();
    let prefix = format!("http://{address}");
    location.strip_prefix(&prefix).unwrap_or(location).to_owned()
}
