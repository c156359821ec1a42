//! The FIFOs of one task, named as the built-in plugin names them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::IoError;
use crate::linux::file;

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
    ///
    /// # Errors
    /// The folder or a FIFO cannot be made.
    pub fn create(dir: &Path, id: &str, terminal: bool, stdin: Stdin) -> Result<Self, IoError> {
        let mut folders = DirBuilder::new();
        folders.mode(0o700);
        folders.recursive(true).create(dir).map_err(IoError::on("create", dir))?;
        let folder = dir.join(format!("{:016x}", rand::random::<u64>()));
        folders.recursive(false).create(&folder).map_err(IoError::on("create", &folder))?;

        let path = |stream: &str| Some(folder.join(format!("{id}-{stream}")));
        let stdin = if stdin == Stdin::Open { path("stdin") } else { None };
        let fifos = Self { stdin, stdout: path("stdout"), stderr: path("stderr"), terminal };
        for path in fifos.paths() {
            if let Err(errno) = rustix::fs::mkfifoat(CWD, path, Mode::RWXU) {
                // Ours alone and just made; if even this fails, the first failure is the one to tell.
                drop(fs::remove_dir_all(&folder));
                return Err(IoError::on("create FIFO", path)(errno));
            }
        }
        Ok(fifos)
    }

    /// From what containerd tells of a running task (adoption). The URIs of logging plugins (`binary://…`) are absent:
    /// they are not ours to read.
    pub fn from_task(
        stdin: Option<PathBuf>,
        stdout: Option<PathBuf>,
        stderr: Option<PathBuf>,
        terminal: bool,
    ) -> Self {
        let ours = |path: Option<PathBuf>| path.filter(|path| path.is_absolute());
        Self { stdin: ours(stdin), stdout: ours(stdout), stderr: ours(stderr), terminal }
    }

    /// All that are in folders of [`Self::create`]'s under `dir`, by their ids. What cannot be read is not there.
    pub fn all_in(dir: &Path) -> Vec<(String, Self)> {
        let entries =
            |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<(String, Self)> = Vec::new();
        for path in entries(dir).flat_map(|folder| entries(&folder).collect::<Vec<_>>()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((id, stream)) = name.and_then(|name| name.rsplit_once('-')) else { continue };
            let at = found.iter().position(|(known, _)| known == id).unwrap_or_else(|| {
                found.push((id.to_owned(), Self::default()));
                found.len() - 1
            });
            let fifos = &mut found[at].1;
            match stream {
                "stdin" => fifos.stdin = Some(path),
                "stdout" => fifos.stdout = Some(path),
                "stderr" => fifos.stderr = Some(path),
                _ => {}
            }
        }
        found
    }

    /// Removes the FIFOs and their random folder; what is gone is fine. Nothing but a FIFO is removed, and no symbolic
    /// link in place of a FIFO or of the folder is followed: the paths may come from somebody else's record.
    ///
    /// # Errors
    /// The first that could not be removed; the others are.
    pub fn remove(&self) -> Result<(), IoError> {
        let mut folders: Vec<&Path> = self.paths().filter_map(Path::parent).collect();
        folders.dedup();
        let fifos = self.paths().map(|path| (path, remove_fifo(path)));
        let removed: Vec<_> = fifos.collect();
        let emptied = folders.into_iter().map(|folder| (folder, file::remove_folder(folder)));
        removed
            .into_iter()
            .chain(emptied)
            .try_for_each(|(path, result)| result.map_err(IoError::on("remove", path)))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten().map(PathBuf::as_path)
    }
}

fn remove_fifo(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let remove = || {
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Fifo => rustix::fs::unlinkat(&folder, name, AtFlags::empty()),
            _ => Err(Errno::INVAL),
        }
    };
    file::gone_is_fine(remove().map_err(io::Error::from))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn fifos_come_and_go_with_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let io = dir.path().join("containers/one/io");
        let fifos = Fifos::create(&io, "one", false, Stdin::Open).unwrap();
        for path in fifos.paths() {
            let found = fs::metadata(path).unwrap();
            assert!(found.file_type().is_fifo());
            assert_eq!(found.permissions().mode() & 0o777, 0o700);
            assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(fifos.stderr.as_ref().unwrap().ends_with("one-stderr"));
        fifos.remove().unwrap();
        fifos.remove().unwrap();
        assert_eq!(fs::read_dir(&io).unwrap().count(), 0);
    }

    #[test]
    fn without_stdin_there_is_no_path_for_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Fifos::create(dir.path(), "one", true, Stdin::None).unwrap().stdin, None);
    }

    #[test]
    fn a_failed_creation_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let too_long = "x".repeat(300);
        let error = Fifos::create(dir.path(), &too_long, false, Stdin::Open).unwrap_err();
        assert!(error.to_string().starts_with("cannot create FIFO"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_and_plain_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, link) = (dir.path().join("outside"), dir.path().join("link"));
        fs::create_dir(&outside).unwrap();
        let victim = Fifos::create(&outside, "v", false, Stdin::None).unwrap();
        symlink(victim.stdout.as_ref().unwrap().parent().unwrap(), &link).unwrap();
        let through_link = Fifos { stdout: Some(link.join("v-stdout")), ..Fifos::default() };
        assert!(through_link.remove().is_err());
        assert!(victim.stdout.as_ref().unwrap().exists());

        let file = outside.join("file");
        fs::write(&file, "kept").unwrap();
        assert!(Fifos { stdout: Some(file.clone()), ..Fifos::default() }.remove().is_err());
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }

    #[test]
    fn a_logging_plugins_uri_is_not_a_fifo() {
        let path = |text: &str| Some(PathBuf::from(text));
        let (stdout, stderr) = (path("binary:///bin/logger?id=1"), path("/run/x-stderr"));
        let fifos = Fifos::from_task(None, stdout, stderr, false);
        assert_eq!((fifos.stdin, fifos.stdout), (None, None));
        assert_eq!(fifos.stderr.as_deref(), Some(Path::new("/run/x-stderr")));
    }
}
