//! The files that come of it: readable by root alone, since headers and proxies may hold secrets.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::MigrateError;
use crate::linux::file::replace;

const MODE: u32 = 0o600;

/// What to do with a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Replace,
}

/// Writes a file, whole or not at all; its folder is made.
///
/// # Errors
/// [`MigrateError::Exists`] for one that is there and to be kept.
pub fn write(path: &Path, text: &str, existing: Existing) -> Result<(), MigrateError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => MigrateError::Exists { path: path.to_owned() },
        _ => MigrateError::Write { path: path.to_owned(), source },
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match existing {
        Existing::Keep => {
            let file = fs::File::options().write(true).create_new(true).mode(MODE).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
        }
        Existing::Replace => {
            let mut sibling = path.as_os_str().to_owned();
            sibling.push(".new");
            replace(path, Path::new(&sibling), MODE, |file| file.write_all(text.as_bytes())).map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_there_is_kept_unless_it_is_to_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.toml");
        write(&path, "one", Existing::Keep).unwrap();
        let error = write(&path, "two", Existing::Keep).unwrap_err();
        assert!(matches!(error, MigrateError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, "two", Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
