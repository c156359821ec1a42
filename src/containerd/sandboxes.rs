//! The sandbox store that containerd has since 1.7: records that give-back needs (design, "How a pod starts").

use super::{Containerd, ContainerdError, RuntimeSelection, TypedBlob};

type Result<T> = std::result::Result<T, ContainerdError>;

impl Containerd {
    /// Writes the sandbox's record with its metadata extension and `name` label. `Kind::Unimplemented` on 1.6.
    pub async fn create_sandbox_record(
        &self,
        id: &str,
        name: &str,
        runtime: &RuntimeSelection,
        metadata: TypedBlob,
    ) -> Result<()> {
        unimplemented!("{id} {name} {runtime:?} {metadata:?}")
    }

    /// Replaces the metadata extension.
    pub async fn set_sandbox_metadata(&self, id: &str, metadata: TypedBlob) -> Result<()> {
        unimplemented!("{id} {metadata:?}")
    }

    /// Deletes the record; one that is gone is fine, and so is a containerd without the store.
    pub async fn delete_sandbox_record(&self, id: &str) -> Result<()> {
        unimplemented!("{id}")
    }
}
