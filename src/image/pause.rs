//! The image of pause containers: built in, so that a pod needs no registry, unless another one is configured.
//!
//! The program is `pause/main.rs`, which `build.rs` compiles. Its image is one layer with one file in it, the same
//! bytes at every build of the same program: its name carries their digest.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;

use super::blob::{self, Labels, Role};
use super::lease::Share;
use super::manifest::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use super::platform::Platforms;
use super::record::{Pin, record};
use super::{Image, ImageError, Images, PullRequest, tar};
use crate::containerd::{ContainerdError, Descriptor};
use crate::id::Digest;
use crate::registry::Reference;

/// The program, for this build's target.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
/// Where it comes from: a registry that does not exist.
const REPOSITORY: &str = "cridge.local/pause";
/// Nobody, as in Kubernetes' own pause image.
const USER: &str = "65535:65535";

/// The built-in image, ready to be stored.
struct Built {
    name: String,
    manifest: Part,
    config: Part,
    layer: Part,
}

struct Part {
    descriptor: Descriptor,
    bytes: Bytes,
}

impl Part {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            annotations: Default::default(),
        };
        Self { descriptor, bytes }
    }

    fn to_json(&self) -> serde_json::Value {
        let Descriptor { media_type, digest, size, .. } = &self.descriptor;
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
    }
}

static BUILT: LazyLock<Built> = LazyLock::new(|| {
    let layer = Part::new(OCI_LAYER, tar::of_program("pause", PROGRAM));
    let config = json!({
        "architecture": Platforms::host().best().architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": USER,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/pause"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest.as_str()]},
    });
    let config = Part::new(OCI_CONFIG, config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    });
    let manifest = Part::new(OCI_MANIFEST, manifest.to_string().into_bytes());
    let name = format!("{REPOSITORY}:{}", &manifest.descriptor.digest.hex()[..12]);
    Built { name, manifest, config, layer }
});

/// Which image pauses, and what is known of it.
pub struct Pause {
    configured: Option<String>,
    /// Snapshotters that are known to have it unpacked.
    unpacked: Mutex<HashSet<String>>,
    /// Held while it is being made ready.
    preparing: tokio::sync::Mutex<()>,
}

impl Pause {
    pub fn new(configured: Option<&str>) -> Self {
        let normalised =
            |text: &str| text.parse::<Reference>().map_or(text.to_owned(), |name| name.to_string());
        Self {
            configured: configured.map(normalised),
            unpacked: Mutex::default(),
            preparing: tokio::sync::Mutex::default(),
        }
    }

    /// The image's name.
    pub fn name(&self) -> &str {
        self.configured.as_deref().unwrap_or(&BUILT.name)
    }

    /// Whether this names the image that no registry has.
    pub fn is_built_in(&self, name: &str) -> bool {
        name == BUILT.name
    }

    /// Has the next use look again.
    pub fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set of names is right whatever happened while it was locked.
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// The image of pause containers: built in, or the configured one (pulled when missing); unpacked.
    pub async fn pause(&self, snapshotter: &str) -> Result<Arc<Image>, ImageError> {
        let pause = &self.0.pause;
        if let Some(image) = self.ready_pause(snapshotter) {
            return Ok(image);
        }
        let _preparing = pause.preparing.lock().await;
        if let Some(image) = self.ready_pause(snapshotter) {
            return Ok(image);
        }
        let image = match &pause.configured {
            None => self.built_in_pause(snapshotter).await?,
            Some(name) => self.configured_pause(name, snapshotter).await?,
        };
        pause.known().insert(snapshotter.to_owned());
        Ok(image)
    }

    /// The pause image's name: `Status`' sandboxImage.
    pub fn pause_name(&self) -> &str {
        self.0.pause.name()
    }

    fn ready_pause(&self, snapshotter: &str) -> Option<Arc<Image>> {
        let known = self.0.pause.known().contains(snapshotter);
        known.then(|| self.find(self.pause_name())).flatten()
    }

    async fn configured_pause(&self, name: &str, snapshotter: &str) -> Result<Arc<Image>, ImageError> {
        let Some(image) = self.find(name) else {
            return self
                .pull(PullRequest { reference: name, auth: None, snapshotter: Some(snapshotter) })
                .await;
        };
        self.ensure_unpacked(&image, snapshotter).await?;
        Ok(image)
    }

    /// The built-in image, whether it pauses or not; unpacked.
    pub(super) async fn built_in_pause(&self, snapshotter: &str) -> Result<Arc<Image>, ImageError> {
        let image = match self.find(&BUILT.name) {
            Some(image) => image,
            None => self.store_built_in().await?,
        };
        self.ensure_unpacked(&image, snapshotter).await?;
        Ok(image)
    }

    /// Writes the built-in image into containerd, under its name.
    async fn store_built_in(&self) -> Result<Arc<Image>, ImageError> {
        let inner = &*self.0;
        let name = &BUILT.name;
        let failed = || ImageError::containerd("store", name);
        let lease = inner.leases.take(&inner.containerd, name).await?;
        write(lease.share()).await.map_err(failed())?;
        let (target, id) = (&BUILT.manifest.descriptor, BUILT.config.descriptor.digest.as_str());
        for name in [id, name] {
            inner.containerd.put_image(&record(name, target, Pin::Pinned)).await.map_err(failed())?;
        }
        lease.keep().await;
        for name in [id, name] {
            self.refresh(name).await?;
        }
        self.find(name).ok_or_else(|| ImageError::Removed { image: name.clone() })
    }
}

async fn write(share: &Share) -> Result<(), ContainerdError> {
    let Built { manifest, config, layer, .. } = &*BUILT;
    let kept = blob::refers_to_parts(&config.descriptor.digest, [&layer.descriptor.digest]);
    let parts = [
        (Role::Layer, layer, Labels::new()),
        (Role::Config, config, Labels::new()),
        (Role::Manifest, manifest, kept),
    ];
    for (role, part, labels) in parts {
        blob::put(share, role, &part.descriptor, part.bytes.clone(), &labels).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::image::manifest::{Document, ImageConfiguration};

    #[test]
    fn the_image_is_one_that_we_would_take() {
        let Ok(Document::Manifest(manifest)) = Document::parse(OCI_MANIFEST, &BUILT.manifest.bytes) else {
            panic!("not a manifest")
        };
        assert_eq!(manifest.layers[0].descriptor, BUILT.layer.descriptor);
        let configuration = ImageConfiguration::parse(&BUILT.config.bytes).expect("a config");
        assert_eq!(configuration.diff_ids.first(), Some(&BUILT.layer.descriptor.digest));
        assert_eq!(configuration.config.user().as_deref(), Some(USER));
        assert!(Platforms::host().rank(&configuration.platform).is_some());
        BUILT.name.parse::<Reference>().expect("a reference");
    }

    #[test]
    fn the_program_ends_when_it_is_told_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pause");
        // Written by another process: a fork of ours that had it open for writing would keep it from being run.
        let mut install = Command::new("install");
        install.arg("--mode=755").arg("/dev/stdin").arg(&path).stdin(Stdio::piped());
        let mut install = install.spawn().expect("install");
        install.stdin.take().expect("piped").write_all(PROGRAM).expect("read");
        assert!(install.wait().expect("an end").success());
        for signal in ["-TERM", "-INT"] {
            let mut child = Command::new(&path).stdin(Stdio::null()).spawn().expect("runs on this machine");
            // Others are taken and change nothing, before and after.
            for signal in ["-CHLD", "-HUP", "-USR1", signal] {
                let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
                assert!(sent.expect("kill").success());
            }
            let status = child.wait().expect("an end");
            // A signal that comes before the program blocks it ends it by default.
            assert!(status.code() == Some(0) || status.code().is_none(), "{status}");
        }
    }
}
