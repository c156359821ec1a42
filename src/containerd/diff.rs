//! Layers applied to snapshots, by containerd itself.

use super::{Containerd, ContainerdError, Descriptor, SnapshotMount};

type Result<T> = std::result::Result<T, ContainerdError>;

impl Containerd {
    /// Unpacks a layer of the content store into the mounts; the descriptor of what was unpacked, whose digest must be
    /// the layer's diffID. As long as it takes: cancel by dropping.
    pub async fn apply_layer(&self, layer: &Descriptor, mounts: &[SnapshotMount]) -> Result<Descriptor> {
        unimplemented!("{layer:?} {mounts:?}")
    }
}
