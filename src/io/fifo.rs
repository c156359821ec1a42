//! The FIFOs of one task, named as the built-in plugin names them.

use std::path::{Path, PathBuf};

use super::IoError;

/// Paths handed to the shim: `<dir>/<random>/<id>-{stdin,stdout,stderr}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fifos {
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
    /// Named for a tty too (the shim wants it); nothing comes through then.
    pub stderr: Option<PathBuf>,
    pub terminal: bool,
}

/// Whether a container has a standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    Open,
    None,
}

impl Fifos {
    /// Makes a random folder (0700) under `dir` and the FIFOs in it. Leaves nothing behind on error.
    pub fn create(dir: &Path, id: &str, terminal: bool, stdin: Stdin) -> Result<Self, IoError> {
        unimplemented!("{dir:?} {id} {terminal} {stdin:?}")
    }

    /// From the paths that containerd tells of a running task (adoption); empty texts are absent.
    pub fn from_task(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> Self {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Self { stdin: path(stdin), stdout: path(stdout), stderr: path(stderr), terminal }
    }

    /// Removes the FIFOs and their random folder; what is gone is fine.
    pub fn remove(&self) -> Result<(), IoError> {
        unimplemented!()
    }
}
