//! A registry in a few lines: serves what it was given, counts who asked for what, and misbehaves on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cridge::config::RegistryConfig;
use cridge::id::Digest;
use cridge::registry::Registry;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What goes wrong with a blob.
#[derive(Clone)]
pub enum Fault {
    /// The first so many answers end at this byte.
    Cut { answers: usize, at: usize },
    /// Other bytes are served.
    Swapped(Vec<u8>),
    /// Half of it comes, the rest when this is closed.
    Held(Arc<Semaphore>),
    /// Half of it comes, and the connection stays.
    Silent,
}

#[derive(Default)]
struct Shelf {
    /// By path below `/v2/`: type and content.
    things: HashMap<String, (String, Vec<u8>)>,
    faults: HashMap<Digest, Fault>,
    /// `user:password` in base64 that a repository wants.
    locks: HashMap<String, String>,
    /// Paths asked for and granted, with the range.
    log: Vec<(String, Option<usize>)>,
}

enum Found {
    Thing { media_type: String, bytes: Vec<u8>, fault: Option<Fault> },
    Nothing,
    Locked,
}

impl Shelf {
    fn find(&mut self, method: &str, path: &str, authorization: Option<&str>, from: Option<usize>) -> Found {
        let lock = self.locks.iter().find(|(repository, _)| path.starts_with(&format!("{repository}/")));
        if lock.is_some_and(|(_, basic)| authorization != Some(&format!("Basic {basic}"))) {
            return Found::Locked;
        }
        if method == "GET" {
            self.log.push((path.to_owned(), from));
        }
        let Some((media_type, bytes)) = self.things.get(path).cloned() else { return Found::Nothing };
        let digest = Digest::new(path.rsplit('/').next().unwrap_or_default());
        let fault = match self.faults.get_mut(&digest) {
            Some(Fault::Cut { answers: 0, .. }) => None,
            Some(fault) => {
                let now = fault.clone();
                if let Fault::Cut { answers, .. } = fault {
                    *answers -= 1;
                }
                Some(now)
            }
            None => None,
        };
        Found::Thing { media_type, bytes, fault }
    }
}

pub struct Server {
    shelf: Arc<Mutex<Shelf>>,
    accepting: tokio::task::JoinHandle<()>,
    hosts: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let shared = shelf.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, shared.clone()));
            }
        });
        let hosts = tempfile::tempdir().expect("a folder");
        let folder = hosts.path().join("_default");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("hosts.toml"), format!("server = \"http://{address}\"\n"))
            .expect("written");
        Self { shelf, accepting, hosts }
    }

    /// A client that looks for every registry here.
    pub fn client(&self) -> Registry {
        Registry::new(RegistryConfig {
            config_dirs: vec![self.hosts.path().into()],
            headers: Default::default(),
        })
    }

    pub fn put_blob(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        let path = format!("{repository}/blobs/{digest}");
        self.shelf().things.insert(path, ("application/octet-stream".into(), bytes.into()));
    }

    /// Under its digest, and a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag, Digest::of(bytes).as_str()] {
            let path = format!("{repository}/manifests/{name}");
            self.shelf().things.insert(path, (media_type.into(), bytes.into()));
        }
    }

    pub fn fault(&self, digest: &Digest, fault: Fault) {
        self.shelf().faults.insert(digest.clone(), fault);
    }

    /// Locks a repository.
    pub fn lock(&self, repository: &str, basic: &str) {
        self.shelf().locks.insert(repository.into(), basic.into());
    }

    /// The offsets at which a blob was asked for, in order.
    pub fn asked(&self, digest: &Digest) -> Vec<usize> {
        let end = format!("/blobs/{digest}");
        let shelf = self.shelf();
        shelf.log.iter().filter(|(path, _)| path.ends_with(&end)).map(|(_, from)| from.unwrap_or(0)).collect()
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request a connection.
async fn answer(stream: TcpStream, shelf: Arc<Mutex<Shelf>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut words = head[0].split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.strip_prefix("/v2/").unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let header = |name: &str| {
        let mut found = head.iter().filter_map(|line| line.split_once(": "));
        found.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let from =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    let found = shelf.lock().unwrap().find(method, &path, header("authorization").as_deref(), from);
    let Found::Thing { media_type, mut bytes, fault } = found else {
        let refusal = match found {
            Found::Locked => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"",
            _ => "404 Not Found",
        };
        let refusal = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return stream.write_all(refusal.as_bytes()).await;
    };
    if let Some(Fault::Swapped(others)) = &fault {
        bytes = others.clone();
    }
    let start = from.unwrap_or(0).min(bytes.len());
    let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    let range = from.map(|_| format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len()));
    let length = bytes.len() - start;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{}Connection: close\r\n\r\n",
        range.unwrap_or_default()
    );
    stream.write_all(head.as_bytes()).await?;
    if method == "HEAD" {
        return Ok(());
    }
    let half = start + length / 2;
    match fault {
        Some(Fault::Cut { at, .. }) => stream.write_all(&bytes[start..at.clamp(start, bytes.len())]).await,
        Some(Fault::Held(told)) => {
            stream.write_all(&bytes[start..half]).await?;
            let _ = told.acquire().await;
            stream.write_all(&bytes[half..]).await
        }
        Some(Fault::Silent) => {
            stream.write_all(&bytes[start..half]).await?;
            tokio::time::sleep(Duration::from_secs(600)).await;
            Ok(())
        }
        _ => stream.write_all(&bytes[start..]).await,
    }
}
