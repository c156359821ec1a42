//! The daemon's ends of a container's FIFOs, in the hands of somebody who outlives it. What a container wrote last is
//! then still there when its shim has gone before the next daemon came, and a standard input does not end meanwhile.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::lines::Stream;
use super::source::open_fifo;
use super::{Fifos, IoError};
use crate::linux::fdstore::FdStore;

/// What standard input is called beside [`Stream::name`].
pub(super) const STDIN: &str = "stdin";
/// As much of an id as a name has: enough to be the only one, and short, for all names have to fit into one variable.
const OF_ID: usize = 16;

/// Who keeps the ends, and whose they are. By default nobody does.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    store: FdStore,
    owner: String,
}

impl Keeper {
    /// For the container with that id.
    pub fn new(store: FdStore, id: &str) -> Self {
        Self { store, owner: id.chars().take(OF_ID).collect() }
    }

    /// The kept end of the FIFO at this path; or one that is opened now, and kept from now on.
    ///
    /// # Errors
    /// None is kept, and the path is missing or no FIFO.
    pub(super) fn open(&self, stream: &str, path: &Path, access: OFlags) -> Result<OwnedFd, IoError> {
        let name = self.name(stream);
        // It knows that it has had writers: one that is opened once they have gone would wait for the first.
        let kept = self.store.take(&name).into_iter().find(|end| is_at(end, path));
        if let Some(end) = kept {
            return Ok(end);
        }
        let end = open_fifo(path, access)?;
        self.store.keep(&name, end.as_fd());
        Ok(end)
    }

    /// The FIFOs whose ends are kept, for want of a task that could be asked for them.
    pub fn fifos(&self, terminal: bool) -> Option<Fifos> {
        let [stdin, stdout, stderr] = self.names().map(|name| self.store.path(&name));
        let any = stdin.is_some() || stdout.is_some() || stderr.is_some();
        any.then_some(Fifos { stdin, stdout, stderr, terminal })
    }

    /// The end is kept no more.
    pub(super) fn forget(&self, stream: &str) {
        self.store.forget(&self.name(stream));
    }

    /// None of the container's ends is kept any more.
    pub fn forget_all(&self) {
        for name in self.names() {
            self.store.forget(&name);
        }
    }

    /// What the container's ends are called.
    pub fn names(&self) -> [String; 3] {
        [STDIN, Stream::Stdout.name(), Stream::Stderr.name()].map(|stream| self.name(stream))
    }

    fn name(&self, stream: &str) -> String {
        format!("{}-{stream}", self.owner)
    }
}

/// Whether it is the file at this path.
fn is_at(end: &OwnedFd, path: &Path) -> bool {
    let (held, found) = (rustix::fs::fstat(end), rustix::fs::lstat(path));
    held.is_ok_and(|held| found.is_ok_and(|found| (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)))
}
