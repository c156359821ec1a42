//! What an unpacked checkpoint's container changed, made into one layer that containerd takes. Blocks.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::archive::{self, ArchiveFlaw};
use super::changes;
use crate::id::Digest;

/// Bytes of a list of deleted files.
const MAX_DELETED: u64 = 64 << 20;

/// A layer on disk.
pub struct WrittenLayer {
    pub path: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

/// The changes as a layer; none where nothing was changed.
pub fn write_layer(folder: &Path, limit: u64) -> Result<Option<WrittenLayer>, ArchiveFlaw> {
    let deleted = read_deleted(&folder.join(archive::DELETED))?;
    let diff = match File::open(folder.join(archive::ROOTFS_DIFF)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(ArchiveFlaw::Unreadable(error)),
    };
    if diff.is_none() && deleted.is_empty() {
        return Ok(None);
    }
    let path = folder.join("changes.layer");
    let unwritable = |source| ArchiveFlaw::Unwritable { path: path.clone(), source };
    let file = File::options().write(true).create_new(true).open(&path).map_err(unwritable)?;
    let mut layer = Summed { inner: BufWriter::new(file), sum: Sha256::new(), size: 0, limit };
    let mut diff = match diff {
        // containerd's own archives have the changes compressed.
        Some(file) => archive::decompressed(file)?,
        None => Box::new(io::empty()),
    };
    let joined = changes::join(&deleted, &mut diff, &mut layer);
    let joined = joined.and_then(|()| layer.write_all(&nobody_elses())).and_then(|()| layer.flush());
    if layer.size > limit {
        return Err(ArchiveFlaw::TooLarge { limit });
    }
    joined.map_err(ArchiveFlaw::Unreadable)?;
    let digest = Digest::new(format!("sha256:{}", hex::encode(layer.sum.finalize())));
    Ok(Some(WrittenLayer { size: layer.size, path, digest }))
}

/// What stands behind an archive's end is read over, and makes it one of its kind: of two equal layers, the end of one
/// can take the other's content along (containerd removes a file after its record, and may find it named again).
fn nobody_elses() -> [u8; 16] {
    rand::random()
}

fn read_deleted(path: &Path) -> Result<Vec<String>, ArchiveFlaw> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ArchiveFlaw::Unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_DELETED + 1).read_to_end(&mut bytes).map_err(ArchiveFlaw::Unreadable)?;
    if bytes.len() as u64 > MAX_DELETED {
        return Err(ArchiveFlaw::TooLarge { limit: MAX_DELETED });
    }
    serde_json::from_slice(&bytes).map_err(|source| ArchiveFlaw::Malformed { name: archive::DELETED, source })
}

/// A writer that sums up what it writes, and writes no more than so much.
struct Summed<W> {
    inner: W,
    sum: Sha256,
    size: u64,
    limit: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.size += written as u64;
        if self.size > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn a_layer_is_summed_up_as_it_is_written() {
        let diff = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&diff).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut digests = Vec::new();
        for diff in [&diff, &gzip] {
            let folder = folder(&[(archive::ROOTFS_DIFF, diff), (archive::DELETED, br#"["/etc/passwd"]"#)]);
            let layer = write_layer(folder.path(), 1 << 20).unwrap().unwrap();
            let bytes = fs::read(&layer.path).unwrap();
            assert_eq!(layer.size, bytes.len() as u64);
            assert_eq!(layer.digest.as_str(), format!("sha256:{}", hex::encode(Sha256::digest(&bytes))));
            assert!(bytes.starts_with(b"etc/.wh.passwd\0"));
            digests.push(layer.digest);
        }
        assert_ne!(digests[0], digests[1], "no two are the same");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(write_layer(folder(&[]).path(), 10).unwrap().is_none(), "nothing was changed");
        let told = |files: &[(&str, &[u8])]| {
            crate::error::chain(&write_layer(folder(files).path(), 600).err().expect("a flaw"))
        };
        assert_eq!(told(&[(archive::ROOTFS_DIFF, &[0; 601])]), "unpacked, it has more than 600 bytes");
        assert!(told(&[(archive::DELETED, br#"["/../x"]"#)]).contains("is no path in a root"));
        assert!(told(&[(archive::DELETED, b"{")]).starts_with("its deleted.files cannot be understood"));
        // Unpacked, it would be far more than it is.
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&[0; 1 << 20]).unwrap();
        let bomb = bomb.finish().unwrap();
        assert_eq!(told(&[(archive::ROOTFS_DIFF, &bomb)]), "unpacked, it has more than 600 bytes");
    }
}
