//! The things that tests share: `hack/lab`, the folder of this run, the registry with the test images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use super::node::{Node, NodeOptions};

/// One run's folder, and the registry in it.
pub struct Lab {
    dir: tempfile::TempDir,
    registry: OnceLock<Registry>,
    subnets: AtomicU8,
}

/// Started with the first node.
struct Registry {
    cache: PathBuf,
    port: u16,
    images: HashMap<String, Image>,
}

/// What `images.json` says of a test image.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Image {
    /// The manifest's or index' digest.
    pub digest: String,
    /// The config's digest; none for an index.
    #[serde(default)]
    pub id: String,
}

impl Lab {
    /// A folder with nothing in it yet.
    pub fn new() -> Self {
        // A socket's path has 107 bytes: the folder's name has to be short.
        let dir = tempfile::Builder::new().prefix("cn").tempdir_in("/tmp").expect("a folder in /tmp");
        Self { dir, registry: OnceLock::new(), subnets: AtomicU8::new(1) }
    }

    fn up(&self) -> &Registry {
        self.registry.get_or_init(|| {
            let port = hack_lab(&["registry-up", text(&self.registry_dir()), "0"]).parse().expect("a port");
            let cache = PathBuf::from(hack_lab(&["path"]));
            let list =
                std::fs::read(self.registry_dir().join("images.json")).expect("the list of test images");
            Registry { cache, port, images: serde_json::from_slice(&list).expect("a list of images") }
        })
    }

    /// Where the registry listens on loopback.
    pub fn registry_port(&self) -> u16 {
        self.up().port
    }

    fn registry_dir(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    /// What the registry has under a name without its host, such as `cridge-tests/oci:1`.
    pub fn image(&self, name: &str) -> &Image {
        self.up().images.get(name).unwrap_or_else(|| panic!("no test image is called {name}"))
    }

    /// A program that `hack/lab` has.
    pub fn program(&self, name: &str) -> PathBuf {
        self.up().cache.join("bin").join(name)
    }

    /// A folder, bridge and subnet that no other node of this run has, then containerd and the server there.
    pub async fn node(&self, release: &str, options: NodeOptions) -> Node {
        let number = self.subnets.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(format!("n{number}"));
        std::fs::create_dir_all(&dir).expect("a node's folder");
        let release = release.to_owned();
        let (port, cache) = (self.up().port, self.up().cache.clone());
        let (subnet, bridge) = (format!("10.200.{number}.0/24"), format!("cn{number}"));
        Node::up(dir, cache, release, port, subnet, bridge, options).await
    }

    /// Stops the registry; the folder goes when this does.
    pub fn down(&self) {
        if self.registry.get().is_some() {
            hack_lab(&["registry-down", text(&self.registry_dir())]);
        }
    }
}

/// runc of a release that `hack/lab` has.
pub fn runc(release: &str) -> PathBuf {
    PathBuf::from(hack_lab(&["path"])).join("runc").join(release).join("runc")
}

/// Runs `hack/lab`, and returns what it printed.
pub(super) fn hack_lab(args: &[&str]) -> String {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/lab");
    let output = Command::new(&lab).args(args).output().expect("hack/lab can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hack/lab {args:?} failed: {errors}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain characters")
}
