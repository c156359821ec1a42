//! A task held still, and its processes written to files by CRIU, which the shim has runc start.

use std::path::Path;

use containerd_client::services::v1 as api;
use prost::Message as _;

use super::call::Call;
use super::{Containerd, ContainerdError, TypedBlob};

type Result<T> = std::result::Result<T, ContainerdError>;

/// `containerd.runc.v1.CheckpointOptions` (containerd, api/types/runc/options/oci.proto), as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckpointOptions {
    /// Whether the processes end with it.
    #[prost(bool, tag = "1")]
    exit: bool,
    #[prost(string, tag = "8")]
    image_path: String,
    #[prost(string, tag = "9")]
    work_path: String,
}

impl Containerd {
    /// Freezes all processes of a task.
    pub async fn pause_task(&self, container_id: &str) -> Result<()> {
        let request = api::PauseTaskRequest { container_id: container_id.into() };
        Call::work("pause task", &container_id).run(self.calls().tasks().pause(request)).await
    }

    /// Lets the processes of a paused task go on.
    pub async fn resume_task(&self, container_id: &str) -> Result<()> {
        let request = api::ResumeTaskRequest { container_id: container_id.into() };
        Call::work("resume task", &container_id).run(self.calls().tasks().resume(request)).await
    }

    /// Has CRIU write a task's processes into the folder `images`, and its log and statistics into `work`; both must be
    /// there. The processes live on, paused ones paused. Given a folder, containerd keeps nothing of it itself.
    ///
    /// As long as it takes. To drop the call ends neither runc nor CRIU: they end by themselves, or are killed.
    pub async fn checkpoint_task(&self, container_id: &str, images: &Path, work: &Path) -> Result<()> {
        let options = CheckpointOptions {
            exit: false,
            image_path: images.display().to_string(),
            work_path: work.display().to_string(),
        };
        let options = TypedBlob {
            type_url: "containerd.runc.v1.CheckpointOptions".into(),
            value: options.encode_to_vec(),
        };
        let request = api::CheckpointTaskRequest {
            container_id: container_id.into(),
            options: Some(options.into()),
            ..Default::default()
        };
        // A wait of its own length, so not on the lane of the short calls.
        let call = Call::endless("checkpoint task", &container_id);
        call.run(self.streams().tasks().checkpoint(request)).await.map(drop)
    }
}
