//! What a switch changed and what was there before: all that a rollback needs, in one file for root alone.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::edit::{self, File};
use super::error::SwitchError;
use crate::linux::file;

/// One file's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: PathBuf,
    pub file: File,
    /// `None` where it was not there.
    pub was: Option<String>,
    pub is: String,
}

/// A switch, as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// cridge's endpoint.
    pub cridge: String,
    /// The one that the kubelet asked before.
    pub before: String,
    /// Whether there is a kubelet to be restarted.
    pub kubelet: bool,
    pub changes: Vec<Change>,
}

impl Record {
    /// # Errors
    /// [`SwitchError::NotSwitched`] where there is none.
    pub fn load(path: &Path) -> Result<Self, SwitchError> {
        let text = read(path)?.ok_or_else(|| SwitchError::NotSwitched { path: path.to_owned() })?;
        serde_json::from_str(&text)
            .map_err(|error| SwitchError::Record { path: path.to_owned(), why: error.to_string() })
    }

    pub fn save(&self, path: &Path) -> Result<(), SwitchError> {
        let text = serde_json::to_string_pretty(self).expect("it is strings and lists");
        write(path, &text, 0o600)
    }
}

impl Change {
    pub fn make(&self) -> Result<(), SwitchError> {
        write(&self.path, &self.is, mode(&self.path))
    }

    /// Puts back what was there, or takes the switch out of what somebody else has made of the file since.
    pub fn take_back(&self, record: &Record) -> Result<(), SwitchError> {
        let Some(now) = read(&self.path)? else { return Ok(()) };
        if now == self.is && self.was.is_none() {
            return file::remove(&self.path)
                .map_err(|source| SwitchError::Write { path: self.path.clone(), source });
        }
        let text = match &self.was {
            Some(was) if now == self.is || now == *was => was.clone(),
            _ => edit::taken_back(self.file, &now, &record.cridge, &record.before)
                .map_err(|why| SwitchError::Edit { path: self.path.clone(), why })?,
        };
        write(&self.path, &text, mode(&self.path))
    }
}

/// `None` where it is not there.
pub fn read(path: &Path) -> Result<Option<String>, SwitchError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SwitchError::Read { path: path.to_owned(), source }),
    }
}

/// Whole and on the disk, or not at all; its folder is made.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), SwitchError> {
    let failed = |source| SwitchError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut sibling = path.as_os_str().to_owned();
    sibling.push(".new");
    file::replace(path, Path::new(&sibling), mode, |file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .map_err(failed)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o644, |there| there.permissions().mode() & 0o777)
}
