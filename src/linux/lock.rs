//! A lock on a file, held by an open descriptor: for one daemon per state folder, and for the CNI plugins of one pod.

use std::fs::File;
use std::path::Path;

use super::LinuxError;

/// Takes the exclusive lock on `path` (made if missing) or says `None` at once when somebody holds it.
/// The lock goes with the last descriptor: dropped here and in every child that inherited it.
pub fn try_exclusive(path: &Path) -> Result<Option<File>, LinuxError> {
    unimplemented!("{path:?}")
}
