use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::archive::{self, ConfigDump};
use super::changes;
use crate::fuzz::fuzz;

/// Bytes that an archive may unpack to here.
const LIMIT: u64 = 16 << 10;

/// The plain files below a folder, and their bytes; whatever else there is makes it fail.
fn files_in(folder: &Path, depth: usize) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        assert!(kind.is_file() || kind.is_dir() && depth > 0, "{}", entry.path().display());
        let inside = || files_in(&entry.path(), depth - 1);
        bytes += if kind.is_dir() { inside() } else { entry.metadata().unwrap().len() };
    }
    bytes
}

#[test]
fn no_archive_does_harm() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("container/restore");
    fuzz("checkpoint", |input, _| {
        if let Ok(dumps) = archive::peek(input) {
            let again = serde_json::to_vec(&dumps.config).unwrap();
            assert_eq!(serde_json::from_slice::<ConfigDump>(&again).unwrap(), dumps.config);
        }
        fs::create_dir_all(&folder).unwrap();
        let _ = archive::unpack(input, &folder, LIMIT);
        assert!(files_in(&folder, 1) <= LIMIT);
        // Neither beside it nor above it.
        assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn no_layer_of_changes_does_harm() {
    fuzz("layer", |input, _| {
        let mut diff = Vec::new();
        let Ok(deleted) = changes::split(&mut Cursor::new(input), &mut diff) else { return };
        assert!(
            deleted.iter().all(|path| path.starts_with('/') && !path.split('/').any(|part| part == ".."))
        );
        let mut layer = Vec::new();
        let _ = changes::join(&deleted, &mut diff.as_slice(), &mut layer);
    });
}
