//! What a container changed in its root, in two forms: a layer, with whiteouts for what is gone (OCI image spec,
//! layer.md), as containerd makes and applies them; and as checkpoint archives have it, `rootfs-diff.tar` without
//! whiteouts beside the paths in `deleted.files`. Pure; bytes that are kept are kept as they are.

use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Begins the name of an empty file that stands for the absence of one.
const WHITEOUT: &str = ".wh.";
/// Begins the names with other meanings, such as that a folder hides all of the one below it.
const META: &str = ".wh..wh.";
/// What a tar archive is made of.
const BLOCK: u64 = 512;

/// Copies a layer into `diff` without its plain whiteouts; the absolute paths that those stood for.
pub fn split(layer: &mut (impl Read + Seek), diff: &mut impl Write) -> io::Result<Vec<String>> {
    let (mut kept, mut deleted, mut begin) = (Vec::new(), Vec::new(), 0);
    let mut archive = tar::Archive::new(&mut *layer);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        // Headers with what the entry's own has no room for come before it, and belong to it.
        let end = (entry.raw_file_position() + entry.size()).next_multiple_of(BLOCK);
        match removed(&entry.path_bytes()) {
            Some(path) => deleted.push(path),
            None => kept.push(begin..end),
        }
        begin = end;
    }
    for range in kept {
        layer.seek(SeekFrom::Start(range.start))?;
        let length = range.end - range.start;
        if io::copy(&mut layer.by_ref().take(length), diff)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    diff.write_all(&[0; 2 * BLOCK as usize])?;
    Ok(deleted)
}

/// Writes a layer that removes `deleted` and then brings what is in `diff`.
///
/// # Errors
/// `InvalidData` for a path that leads upwards or is none, besides those of reading and writing.
pub fn join(deleted: &[String], diff: &mut impl Read, layer: &mut impl Write) -> io::Result<()> {
    let mut whiteouts = tar::Builder::new(Vec::new());
    for path in deleted {
        let name = whiteout(path).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path:?} is no path in a root"))
        })?;
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o600);
        whiteouts.append_data(&mut header, name, io::empty())?;
    }
    let mut whiteouts = whiteouts.into_inner()?;
    // Without the two empty blocks of its end: more is to come.
    whiteouts.truncate(whiteouts.len() - 2 * BLOCK as usize);
    layer.write_all(&whiteouts)?;
    io::copy(diff, layer).map(drop)
}

/// The path that a plain whiteout stands for. One that JSON cannot say stays a whiteout.
fn removed(path: &[u8]) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(path));
    let name = path.file_name()?.to_str()?;
    if name.starts_with(META) {
        return None;
    }
    let gone = path.with_file_name(name.strip_prefix(WHITEOUT).filter(|name| !name.is_empty())?);
    let gone: PathBuf = gone.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    Some(format!("/{}", gone.to_str()?))
}

fn whiteout(path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let name = path.file_name()?.to_str()?;
    let sound = plain && !name.starts_with(WHITEOUT) && !path.to_str()?.contains('\0');
    sound.then(|| path.with_file_name(format!("{WHITEOUT}{name}")))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn whiteouts_become_paths() {
        let long = format!("{}/.wh.gone", "deep/".repeat(40));
        let layer = tar_of(&[
            ("etc/.wh.passwd".into(), vec![]),
            ("etc/new".into(), vec![1; 700]),
            (long, vec![]),
            ("opaque/.wh..wh..opq".into(), vec![]),
        ]);
        let mut diff = Vec::new();
        let deleted = split(&mut Cursor::new(layer), &mut diff).unwrap();
        assert_eq!(deleted, ["/etc/passwd".to_owned(), format!("/{}gone", "deep/".repeat(40))]);
        assert_eq!(diff, tar_of(&[("etc/new".into(), vec![1; 700]), ("opaque/.wh..wh..opq".into(), vec![])]));
    }

    #[test]
    fn a_path_out_of_the_root_is_refused() {
        for path in ["", "/", "/..", "../x", "/etc/../../x", "/etc/.wh.x", "a\0b"] {
            let error = join(&[path.to_owned()], &mut io::empty(), &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_joined_is_split_again(
            deleted in prop::collection::vec("(/[a-z]{1,60}){1,4}", 0..5),
            files in prop::collection::vec(("[a-z]{1,8}(/[a-z]{1,90}){0,3}", any::<Vec<u8>>()), 0..5),
        ) {
            let (plain, mut layer, mut diff) = (tar_of(&files), Vec::new(), Vec::new());
            join(&deleted, &mut plain.as_slice(), &mut layer).unwrap();
            prop_assert_eq!(split(&mut Cursor::new(layer), &mut diff).unwrap(), deleted);
            prop_assert_eq!(diff, plain);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = split(&mut Cursor::new(bytes), &mut Vec::new());
        }
    }
}
