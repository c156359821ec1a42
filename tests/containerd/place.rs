//! A test's own corner of a node, and what the tests put there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use cridge::containerd::{Containerd, ContainerdError, Descriptor};
use cridge::id::{Digest, LeaseId, SnapshotKey};

use super::node::Node;
use super::releases::Corner;

/// A test's own namespace on a node, with a lease that keeps its things.
pub struct Place {
    pub node: Arc<Node>,
    pub containerd: Containerd,
}

impl Corner for Place {
    async fn new(node: Arc<Node>, name: &str) -> Self {
        let containerd = Containerd::new(&node.socket(), &name.replace('_', "-"));
        containerd.ensure_namespace().await.expect("a namespace");
        Self { node, containerd }
    }
}

impl Place {
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
