//! A private containerd on a node of its own, and what the tests put on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cridge::containerd::{Containerd, ContainerdError, Descriptor};
use cridge::id::{Digest, LeaseId, SnapshotKey};

/// Obeys one word a line, and says so; ends with its input.
const KEEPER: &str = r#"
while read -r word; do
    case $word in
        up) hack/lab containerd-up "$1" "$2" >&2 ;;
        kill)
            pid=$(cat "$1/containerd.pid")
            kill -KILL "$pid"
            while kill -0 "$pid" 2>/dev/null && [ "$(ps -o stat= -p "$pid" | cut -c 1)" != Z ]; do sleep 0.02; done
            rm -f "$1/containerd.pid"
            ;;
    esac && echo "$word"
done
hack/lab containerd-down "$1" >&2
"#;

pub struct Node {
    pub release: String,
    dir: tempfile::TempDir,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    process: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Node {
    /// Starts the release on a node of its own.
    pub fn up(release: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("cridge.").tempdir().expect("a folder");
        let mut process = Command::new("hack/ns")
            .args(["bash", "-c", KEEPER, "keeper"])
            .arg(dir.path())
            .arg(release)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hack/ns starts");
        let words = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let node =
            Self { release: release.into(), dir, keeper: Mutex::new(Keeper { process, words, answers }) };
        node.order("up");
        node
    }

    /// Starts the daemon again on what it left.
    pub fn restart(&self) {
        self.order("up");
    }

    /// Ends the daemon without warning; shims live on.
    pub fn kill(&self) {
        self.order("kill");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    pub fn is_1_6(&self) -> bool {
        self.release == "1.6"
    }

    pub fn is_2(&self) -> bool {
        self.release.starts_with('2')
    }

    fn order(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.words.as_mut().expect("it is not dropped"), "{word}").expect("the keeper lives");
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).expect("the keeper answers");
        assert_eq!(answer.trim(), word, "containerd {}", self.release);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        keeper.words = None;
        let _ = keeper.process.wait();
    }
}

/// A test's own namespace on a node, with a lease that keeps its things.
pub struct Place {
    pub node: Arc<Node>,
    pub containerd: Containerd,
}

impl Place {
    pub fn new(node: Arc<Node>, name: &str) -> Self {
        let containerd = Containerd::new(&node.socket(), &name.replace('_', "-"));
        Self { node, containerd }
    }

    /// The same under a lease, so that no garbage collection gets in between.
    pub async fn leased(&self) -> Containerd {
        let lease = LeaseId::new("test");
        self.containerd.create_lease(&lease, None).await.expect("a lease");
        self.containerd.leased(&lease)
    }

    /// A committed snapshot with busybox in it.
    pub async fn rootfs(&self) -> SnapshotKey {
        let containerd = self.leased().await;
        let layer = self.busybox_layer();
        let descriptor = put_layer(&containerd, &layer).await.expect("a blob");
        let (key, base) = (SnapshotKey::new("unpacking"), SnapshotKey::new("base"));
        let mounts =
            containerd.prepare_snapshot("overlayfs", &key, None, &Default::default()).await.expect("mounts");
        containerd.apply_layer(&descriptor, &mounts).await.expect("an unpacked layer");
        containerd.commit_snapshot("overlayfs", &base, &key, &Default::default()).await.expect("a commit");
        base
    }

    /// A tar with busybox as its own shell.
    pub fn busybox_layer(&self) -> Bytes {
        let files = tempfile::tempdir().expect("a folder");
        let bin = files.path().join("bin");
        for folder in ["bin", "proc", "dev"] {
            std::fs::create_dir(files.path().join(folder)).expect("a folder");
        }
        std::fs::copy(cache().join("programs/bin/busybox"), bin.join("busybox")).expect("busybox");
        for name in ["sh", "sleep", "cat"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
        }
        let tar =
            Command::new("tar").arg("-C").arg(files.path()).args(["-c", "."]).output().expect("tar runs");
        assert!(tar.status.success(), "{tar:?}");
        tar.stdout.into()
    }
}

/// Where `hack/lab` keeps what it got, busybox among it.
fn cache() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/lab");
    let run = |word: &str| Command::new(&lab).arg(word).output().expect("hack/lab runs");
    assert!(run("images").status.success());
    String::from_utf8(run("path").stdout).expect("a path").trim().into()
}

/// Writes a blob as the layer that it is.
pub async fn put_layer(containerd: &Containerd, layer: &Bytes) -> Result<Descriptor, ContainerdError> {
    let digest = Digest::of(layer);
    let mut writer = containerd.write_content("layer", &digest, layer.len() as u64).await?;
    // All of it is there already where another namespace has it.
    writer.write(layer.slice(usize::try_from(writer.offset()).expect("a small blob")..)).await?;
    writer.commit(&Default::default()).await?;
    Ok(Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest,
        size: layer.len() as u64,
        annotations: Default::default(),
    })
}

/// Awaits what must come, and fails where it does not.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it comes within 30 s")
}
