//! What a checkpoint says of its container beside the processes and files: the dumps, and the log until then.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::archive::{self, ConfigDump};
use super::error::blocking;
use super::{Container, ContainerError, Containers};
use crate::containerd::ContainerRecord;
use crate::proto::cri;
use crate::time::Timestamp;

/// A log as it was at one moment: what is written later, or to another file, is not part of it.
pub(super) struct LogSoFar {
    file: File,
    length: u64,
}

impl LogSoFar {
    /// Of a container that has a log.
    pub fn of(container: &Container) -> Option<Self> {
        let file = File::open(&container.facts().metadata.log_path).ok()?;
        let length = file.metadata().ok()?.len();
        Some(Self { file, length })
    }
}

impl Containers {
    /// Writes the dumps and the log into a checkpoint's folder.
    pub(super) async fn write_dumps(
        &self,
        container: &Container,
        folder: &Path,
        taken_at: Timestamp,
        log: Option<LogSoFar>,
    ) -> Result<(), ContainerError> {
        let containerd = &self.inner().containerd;
        let record =
            containerd.container(container.id.as_str()).await.map_err(container.failed("read the record"))?;
        let config = self.config_dump(container, &record, taken_at);
        let config = serde_json::to_vec(&config).expect("texts and a truth value");
        let status = self.status_dump(container, &record).to_string().into_bytes();
        let status_file = self.root_dir(&container.id).join("status");
        let folder = folder.to_owned();
        let write = move || {
            write_file(folder.join(archive::CONFIG), &mut config.as_slice())?;
            write_file(folder.join(archive::SPEC), &mut record.spec.as_slice())?;
            write_file(folder.join(archive::STATUS), &mut status.as_slice())?;
            let kept = fs::read(&status_file).map_err(|source| ContainerError::File {
                action: "read",
                path: status_file,
                source,
            })?;
            write_file(folder.join(archive::STATUS_FILE), &mut kept.as_slice())?;
            match log {
                Some(log) => write_file(folder.join(archive::LOG), &mut log.file.take(log.length)),
                None => Ok(()),
            }
        };
        blocking(&container.id, write).await
    }

    fn config_dump(
        &self,
        container: &Container,
        record: &ContainerRecord,
        taken_at: Timestamp,
    ) -> ConfigDump {
        let facts = container.facts();
        let metadata = facts.metadata.config.metadata.clone().unwrap_or_default();
        let image = self.inner().images.find(&facts.metadata.image_ref);
        let digest = image.and_then(|image| image.repo_digests.first().cloned());
        ConfigDump {
            id: container.id.to_string(),
            name: metadata.name,
            rootfs_image: record.image.clone(),
            rootfs_image_ref: digest.unwrap_or_else(|| facts.metadata.image_ref.clone()),
            rootfs_image_name: record.image.clone(),
            runtime: record.runtime.name.clone(),
            created_time: facts.file.created_at.to_string(),
            checkpointed_time: taken_at.to_string(),
            // Go's time of nothing.
            restored_time: "0001-01-01T00:00:00Z".into(),
            restored: false,
        }
    }

    /// As Go writes a CRI `ContainerStatus`.
    fn status_dump(&self, container: &Container, record: &ContainerRecord) -> serde_json::Value {
        let facts = container.facts();
        let config = &facts.metadata.config;
        let image = json!({ "image": record.image });
        json!({
            "id": container.id.as_str(),
            "metadata": config.metadata,
            "state": cri::ContainerState::ContainerRunning as i32,
            "created_at": facts.file.created_at.nanos(),
            "started_at": facts.file.started_at.nanos(),
            "image": image,
            "image_ref": facts.metadata.image_ref,
            "labels": config.labels,
            "annotations": config.annotations,
            "mounts": config.mounts,
            "log_path": facts.metadata.log_path,
        })
    }
}

/// A new file that only its owner may read: memory of processes is next to it.
pub(super) fn write_file(path: PathBuf, content: &mut impl io::Read) -> Result<(), ContainerError> {
    let mut options = File::options();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| io::copy(content, &mut file));
    written.map(drop).map_err(ContainerError::file("write", &path))
}
