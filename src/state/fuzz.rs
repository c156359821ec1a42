use std::path::Path;

use super::{ContainerMetadata, ContainerStatusFile, SandboxMetadata, UpdatedResources};
use crate::fuzz::fuzz;

// What is written of what was read is read as the same; but for other writers' keys, where JSON's fractions may lose
// their last digit.

#[test]
fn no_status_file_does_harm() {
    let path = Path::new("/status");
    fuzz("status", |input, _| {
        let Ok(mut status) = ContainerStatusFile::from_json(input, path) else { return };
        status.unknown.clear();
        assert_eq!(ContainerStatusFile::from_json(&status.to_json(), path).as_ref().ok(), Some(&status));
    });
}

#[test]
fn no_metadata_does_harm() {
    fuzz("metadata", |input, _| {
        if let Ok(mut metadata) = SandboxMetadata::from_json(input) {
            metadata.unknown.clear();
            metadata.cni_result.take();
            assert_eq!(SandboxMetadata::from_json(&metadata.to_json()).as_ref().ok(), Some(&metadata));
        }
        if let Ok(mut metadata) = ContainerMetadata::from_json(input) {
            metadata.unknown.clear();
            assert_eq!(ContainerMetadata::from_json(&metadata.to_json()).as_ref().ok(), Some(&metadata));
        }
        if let Ok(updated) = UpdatedResources::from_json(input) {
            assert_eq!(UpdatedResources::from_json(&updated.to_json()).as_ref().ok(), Some(&updated));
        }
    });
}
