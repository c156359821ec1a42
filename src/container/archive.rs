//! The checkpoint archive: a tar with a container's frozen processes, what it changed in its root, and what it was, in
//! the files that podman began and checkpointctl, CRI-O and containerd read (checkpointctl, lib/metadata.go).
//!
//! Archives come from anywhere: what is unpacked are plain files of known names, of a bounded size, into a folder of our
//! own. Blocks; nothing here knows of containers.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// CRIU's images.
pub const IMAGES: &str = "checkpoint";
/// What the container was: [`ConfigDump`].
pub const CONFIG: &str = "config.dump";
/// Its OCI spec.
pub const SPEC: &str = "spec.dump";
/// Its status, as the CRI told it.
pub const STATUS: &str = "status.dump";
/// containerd's own file of its status, by which checkpointctl knows such archives.
pub const STATUS_FILE: &str = "status";
/// The files of its root that are new or changed.
pub const ROOTFS_DIFF: &str = "rootfs-diff.tar";
/// Paths that are gone from its root, as a list in JSON.
pub const DELETED: &str = "deleted.files";
/// CRIU's log of the dump.
pub const DUMP_LOG: &str = "dump.log";
/// The container's log until then.
pub const LOG: &str = "container.log";

/// Files that say what the rest is: first in an archive, so that they are found at once.
const DUMPS: [&str; 3] = [CONFIG, SPEC, STATUS];
/// Largest of those taken: a spec travels in a message of containerd's, which has 16 MiB at most.
const MAX_DUMP: u64 = 16 << 20;
/// Entries of an archive looked at; CRIU writes some ten a process.
const MAX_ENTRIES: usize = 1 << 20;
/// How a gzip stream begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a checkpoint says of its container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigDump {
    pub id: String,
    pub name: String,
    pub rootfs_image: String,
    /// The image by its digest, or by its id.
    pub rootfs_image_ref: String,
    pub rootfs_image_name: String,
    pub runtime: String,
    /// RFC 3339, as all times here.
    pub created_time: String,
    pub checkpointed_time: String,
    pub restored_time: String,
    pub restored: bool,
}

/// What is needed to plan a restore.
#[derive(Clone, Debug)]
pub struct Dumps {
    pub config: ConfigDump,
    pub spec: Spec,
}

/// Why something is not a checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFlaw {
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("it is compressed with zstd: decompress it first")]
    Zstd,
    #[error("its entry {name:?} {why}")]
    Entry { name: String, why: &'static str },
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {name} cannot be understood")]
    Malformed { name: &'static str, source: serde_json::Error },
    #[error("unpacked, it has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("cannot write {path}", path = path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Writes all files of a folder, two levels deep, as an archive.
pub fn pack(folder: &Path, into: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(into);
    archive.follow_symlinks(false);
    let mut names = names_in(folder)?;
    names.sort_by_key(|name| !DUMPS.iter().any(|dump| name == dump));
    for name in names {
        let path = folder.join(&name);
        archive.append_path_with_name(&path, &name)?;
        if path.is_dir() {
            for inner in names_in(&path)? {
                archive.append_path_with_name(path.join(&inner), Path::new(&name).join(&inner))?;
            }
        }
    }
    archive.into_inner()?.flush()
}

fn names_in(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Opens an archive, plain or compressed with gzip.
pub fn open(path: &Path) -> Result<Box<dyn Read + Send>, ArchiveFlaw> {
    decompressed(File::open(path).map_err(ArchiveFlaw::Unreadable)?)
}

/// What a file holds, plain or compressed with gzip; read from its beginning.
pub fn decompressed(mut file: File) -> Result<Box<dyn Read + Send>, ArchiveFlaw> {
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut magic).map_err(ArchiveFlaw::Unreadable)?;
    file.rewind().map_err(ArchiveFlaw::Unreadable)?;
    if magic == ZSTD {
        return Err(ArchiveFlaw::Zstd);
    }
    let file = BufReader::with_capacity(1 << 16, file);
    Ok(if magic.starts_with(&GZIP) { Box::new(GzDecoder::new(file)) } else { Box::new(file) })
}

/// Reads no more of an archive than it takes to plan a restore.
pub fn peek(archive: impl Read) -> Result<Dumps, ArchiveFlaw> {
    let (mut config, mut spec) = (None, None);
    for_each(archive, |name, entry| {
        match name.to_str() {
            Some(CONFIG) => config = Some(read_dump(entry)?),
            Some(SPEC) => spec = Some(read_dump(entry)?),
            _ => {}
        }
        Ok(config.is_none() || spec.is_none())
    })?;
    Dumps::parse(config, spec)
}

/// Unpacks what a restore needs into `folder`, which is there and empty; at most `limit` bytes.
pub fn unpack(archive: impl Read, folder: &Path, limit: u64) -> Result<(), ArchiveFlaw> {
    let mut left = limit;
    for_each(archive, |name, entry| {
        let target = folder.join(name);
        let unwritable = |path: &Path, source| ArchiveFlaw::Unwritable { path: path.to_owned(), source };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|source| unwritable(parent, source))?;
        }
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let mut file = match options.open(&target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ArchiveFlaw::Entry { name: name.display().to_string(), why: "is there twice" });
            }
            other => other.map_err(|source| unwritable(&target, source))?,
        };
        left -= copy_at_most(entry, &mut file, left, limit, &target)?;
        Ok(true)
    })
}

/// Copies an entry; how much that was.
fn copy_at_most(
    entry: &mut impl Read,
    file: &mut File,
    left: u64,
    limit: u64,
    target: &Path,
) -> Result<u64, ArchiveFlaw> {
    let (mut buffer, mut copied) = (vec![0; 1 << 16], 0);
    loop {
        let read = match entry.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveFlaw::Unreadable(error)),
        };
        copied += read as u64;
        if copied > left {
            return Err(ArchiveFlaw::TooLarge { limit });
        }
        file.write_all(&buffer[..read])
            .map_err(|source| ArchiveFlaw::Unwritable { path: target.to_owned(), source })?;
    }
}

/// Visits the files that a restore needs, by their place, until the visitor has seen enough. All other entries are
/// passed over, but none may lie about its place.
fn for_each<R: Read>(
    archive: R,
    mut visit: impl FnMut(&Path, &mut tar::Entry<'_, R>) -> Result<bool, ArchiveFlaw>,
) -> Result<(), ArchiveFlaw> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().map_err(ArchiveFlaw::Unreadable)?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(ArchiveFlaw::Unreadable)?;
        let path = entry.path().map_err(ArchiveFlaw::Unreadable)?.into_owned();
        let flaw = |why| ArchiveFlaw::Entry { name: path.to_string_lossy().chars().take(100).collect(), why };
        if number >= MAX_ENTRIES {
            return Err(flaw("is one too many"));
        }
        let place = place_of(&path).ok_or_else(|| flaw("leads out of the archive"))?;
        if !is_needed(&place) {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(flaw("is not a plain file"));
        }
        if !visit(&place, &mut entry)? {
            break;
        }
    }
    Ok(())
}

/// The path without `.`; `None` where it leads upwards or to the host's root.
fn place_of(path: &Path) -> Option<PathBuf> {
    let mut place = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => place.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(place)
}

fn is_needed(place: &Path) -> bool {
    let known = [CONFIG, SPEC, ROOTFS_DIFF, DELETED];
    match place.components().count() {
        1 => known.iter().any(|name| place == Path::new(name)),
        2 => place.starts_with(IMAGES),
        _ => false,
    }
}

/// Copies what a restore needs out of a folder that is laid out as an archive is; links and all that is not a plain file
/// are passed over, never followed.
pub fn copy(from: &Path, folder: &Path, limit: u64) -> Result<(), ArchiveFlaw> {
    let mut left = limit;
    let unreadable = ArchiveFlaw::Unreadable;
    let plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut places: Vec<PathBuf> = [CONFIG, SPEC, ROOTFS_DIFF, DELETED].map(PathBuf::from).into();
    let images = from.join(IMAGES);
    if fs::symlink_metadata(&images).is_ok_and(|metadata| metadata.is_dir()) {
        places.extend(names_in(&images).map_err(unreadable)?.iter().map(|name| Path::new(IMAGES).join(name)));
        let made = folder.join(IMAGES);
        fs::create_dir_all(&made).map_err(|source| ArchiveFlaw::Unwritable { path: made, source })?;
    }
    for place in places.iter().filter(|place| plain(&from.join(place))) {
        let mut source = File::open(from.join(place)).map_err(unreadable)?;
        let target = folder.join(place);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&target);
        let mut file = file.map_err(|source| ArchiveFlaw::Unwritable { path: target.clone(), source })?;
        left -= copy_at_most(&mut source, &mut file, left, limit, &target)?;
    }
    Ok(())
}

impl Dumps {
    /// Reads them out of an unpacked archive.
    pub fn read(folder: &Path) -> Result<Self, ArchiveFlaw> {
        let read = |name| match File::open(folder.join(name)) {
            Ok(mut file) => read_dump(&mut file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArchiveFlaw::Unreadable(error)),
        };
        Self::parse(read(CONFIG)?, read(SPEC)?)
    }

    fn parse(config: Option<Vec<u8>>, spec: Option<Vec<u8>>) -> Result<Self, ArchiveFlaw> {
        let malformed = |name| move |source| ArchiveFlaw::Malformed { name, source };
        let config = config.ok_or(ArchiveFlaw::Missing(CONFIG))?;
        let spec = spec.ok_or(ArchiveFlaw::Missing(SPEC))?;
        Ok(Self {
            config: serde_json::from_slice(&config).map_err(malformed(CONFIG))?,
            spec: serde_json::from_slice(&spec).map_err(malformed(SPEC))?,
        })
    }
}

fn read_dump(entry: &mut impl Read) -> Result<Vec<u8>, ArchiveFlaw> {
    let mut bytes = Vec::new();
    entry.take(MAX_DUMP + 1).read_to_end(&mut bytes).map_err(ArchiveFlaw::Unreadable)?;
    if bytes.len() as u64 > MAX_DUMP { Err(ArchiveFlaw::TooLarge { limit: MAX_DUMP }) } else { Ok(bytes) }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
