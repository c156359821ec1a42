//! Layers applied to snapshots, and made of what changed between two of them, by containerd itself.

use containerd_client::services::v1 as api;

use super::call::Call;
use super::{Containerd, ContainerdError, Descriptor, SnapshotMount};

/// Media type of a layer that is a plain tar archive (OCI image spec, layer.md).
pub const PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

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

    /// Writes a layer, not compressed, of what was changed from `lower` to `upper` into the content store, as the ingest
    /// `name`; held by the lease of this handle. As long as it takes: cancel by dropping.
    pub async fn diff_layer(
        &self,
        name: &str,
        lower: &[SnapshotMount],
        upper: &[SnapshotMount],
    ) -> Result<Descriptor> {
        let request = api::DiffRequest {
            left: lower.iter().map(Into::into).collect(),
            right: upper.iter().map(Into::into).collect(),
            media_type: PLAIN_LAYER.into(),
            r#ref: name.into(),
            ..Default::default()
        };
        let call = Call::endless("compare snapshots for", &name);
        let answer = call.run(self.streams().diff().diff(request)).await?;
        answer.diff.map(Descriptor::from).ok_or_else(|| call.malformed("there is no descriptor in it"))
    }
}
