//! Files that are replaced whole, and removals that anybody may have done before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Has `path` be what `write` writes, or stay what it was; never a part. `sibling` is written first, in the same folder:
/// of a name that nobody takes for something else, should a kill leave it there.
///
/// # Errors
/// Those of `write` and of the file system; the sibling is removed.
pub fn replace(
    path: &Path,
    sibling: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    remove(sibling)?;
    let mut new = File::options().write(true).create_new(true).mode(mode).open(sibling)?;
    write(&mut new).and_then(|()| fs::rename(sibling, path)).inspect_err(|_| drop(fs::remove_file(sibling)))
}

/// Removes a file; one that is gone is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_file(path))
}

/// Removes a folder with all that is in it; one that is gone is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_dir_all(path))
}

/// Removes a folder that must be empty; one that is gone is fine.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_dir(path))
}

/// What is absent needs no removing.
pub fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, sibling) = (dir.path().join("file"), dir.path().join(".file"));
        let names = || fs::read_dir(dir.path()).unwrap().count();
        replace(&path, &sibling, 0o600, |file| file.write_all(b"one")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let failing = |file: &mut File| file.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into()));
        replace(&path, &sibling, 0o600, failing).unwrap_err();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"one".to_vec(), 1));
        fs::write(&sibling, "longer, and left by a kill").unwrap();
        replace(&path, &sibling, 0o600, |file| file.write_all(b"two")).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"two".to_vec(), 1));
    }

    #[test]
    fn what_is_gone_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        fs::write(&file, "").unwrap();
        fs::create_dir_all(folder.join("inner")).unwrap();
        remove_folder(&folder).unwrap_err();
        for _ in 0..2 {
            remove(&file).unwrap();
            remove_tree(&folder).unwrap();
            remove_folder(&folder).unwrap();
        }
        fs::write(&file, "").unwrap();
        remove(&file.join("below")).unwrap_err();
    }
}
