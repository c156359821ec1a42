//! Layers applied to snapshots, by containerd itself.

use containerd_client::services::v1 as api;

use super::call::Call;
use super::{Containerd, ContainerdError, Descriptor, SnapshotMount};

type Result<T> = std::result::Result<T, ContainerdError>;

impl Containerd {
    /// Unpacks a layer of the content store into the mounts; the descriptor of what was unpacked, whose digest must be
    /// the layer's diffID. As long as it takes: cancel by dropping.
    pub async fn apply_layer(&self, layer: &Descriptor, mounts: &[SnapshotMount]) -> Result<Descriptor> {
        let request = api::ApplyRequest {
            diff: Some(layer.into()),
            mounts: mounts.iter().map(Into::into).collect(),
            ..Default::default()
        };
        let call = Call::endless("unpack layer", &layer.digest);
        let answer = call.run(self.calls().diff().apply(request)).await?;
        answer.applied.map(Descriptor::from).ok_or_else(|| call.malformed("there is no descriptor in it"))
    }
}
