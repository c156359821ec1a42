//! What survives a restart beside containerd's own records, in the built-in plugin's formats, byte for byte, so that
//! adoption and rollback need no conversion (contract §2).

mod error;
#[cfg(test)]
mod fuzz;
mod index;
mod json;
mod making;
mod metadata;
mod names;
mod status_file;

pub use error::StateError;
pub use index::{PrefixIndex, PrefixMatch};
pub use making::{MakeError, Making};
pub use metadata::{
    CONTAINER_METADATA_TYPE, ContainerMetadata, KIND_LABEL, SANDBOX_METADATA_TYPE, SandboxMetadata,
    UPDATED_RESOURCES_TYPE, UpdatedResources,
};
pub use names::{Names, Taken};
pub use status_file::ContainerStatusFile;

#[cfg(test)]
mod tests;
