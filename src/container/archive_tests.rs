use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const SOUND: [(&str, &str); 2] = [(CONFIG, r#"{"id":"i","name":"n"}"#), (SPEC, r#"{"ociVersion":"1.1.0"}"#)];

/// Name, type and content of each.
type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a [u8])];

fn archive(entries: Entries) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        // As a hostile writer has it: the library's own ways refuse such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o777);
        if !kind.is_file() {
            header.set_link_name("/etc/shadow").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(bytes: &[u8], limit: u64) -> (Result<(), String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let result = unpack(bytes, folder.path(), limit).map_err(|flaw| crate::error::chain(&flaw));
    (result, folder)
}

#[test]
fn what_was_packed_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(IMAGES)).unwrap();
    for (name, text) in SOUND.into_iter().chain([("checkpoint/core-1.img", "core"), (DUMP_LOG, "log")]) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut bytes = Vec::new();
    pack(folder.path(), &mut bytes).unwrap();

    let dumps = peek(bytes.as_slice()).unwrap();
    assert_eq!((dumps.config.name.as_str(), dumps.spec.version().as_str()), ("n", "1.1.0"));
    let (result, out) = unpacked(&bytes, 1 << 20);
    result.unwrap();
    assert_eq!(fs::read_to_string(out.path().join("checkpoint/core-1.img")).unwrap(), "core");
    assert!(!out.path().join(DUMP_LOG).exists(), "nothing that is not needed");
    assert_eq!(Dumps::read(out.path()).unwrap().config, dumps.config);
}

#[test]
fn a_compressed_one_is_read_and_zstd_told_of() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let plain = archive(&SOUND.map(|(name, text)| (name, tar::EntryType::Regular, text.as_bytes())));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for bytes in [plain, gzip.finish().unwrap()] {
        fs::write(file.path(), bytes).unwrap();
        assert_eq!(peek(open(file.path()).unwrap()).unwrap().config.id, "i");
    }
    fs::write(file.path(), ZSTD).unwrap();
    assert!(matches!(open(file.path()), Err(ArchiveFlaw::Zstd)));
}

#[test]
fn a_hostile_one_is_refused_and_writes_nowhere_else() {
    use tar::EntryType as E;
    let cases: [(&str, Entries); 8] = [
        ("leads out of the archive", &[("../evil", E::Regular, b"x")]),
        ("leads out of the archive", &[("checkpoint/../../evil", E::Regular, b"x")]),
        ("leads out of the archive", &[("/etc/evil", E::Regular, b"x")]),
        ("is not a plain file", &[("config.dump", E::Symlink, b"")]),
        ("is not a plain file", &[("checkpoint/pages-1.img", E::Link, b"")]),
        ("is not a plain file", &[("rootfs-diff.tar", E::Fifo, b"")]),
        ("is there twice", &[("spec.dump", E::Regular, b"a"), ("./spec.dump", E::Regular, b"b")]),
        (
            "more than 100 bytes",
            &[("checkpoint/a", E::Regular, &[0; 60]), ("checkpoint/b", E::Regular, &[0; 60])],
        ),
    ];
    for (expected, entries) in cases {
        let (result, folder) = unpacked(&archive(entries), 100);
        let text = result.expect_err(expected);
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
        assert!(!folder.path().parent().unwrap().join("evil").exists());
    }
}

#[test]
fn a_link_in_the_place_of_the_images_is_passed_over() {
    // It writes nothing itself, and what comes after it finds a folder of our own.
    let entries: [(&str, tar::EntryType, &[u8]); 2] = [
        ("checkpoint", tar::EntryType::Symlink, b""),
        ("checkpoint/core-1.img", tar::EntryType::Regular, b"x"),
    ];
    let (result, folder) = unpacked(&archive(&entries), 100);
    result.unwrap();
    assert!(fs::symlink_metadata(folder.path().join(IMAGES)).unwrap().is_dir());
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let text = |entries: &[(&str, &str)]| {
        let entries: Vec<_> =
            entries.iter().map(|(name, text)| (*name, tar::EntryType::Regular, text.as_bytes())).collect();
        crate::error::chain(&peek(archive(&entries).as_slice()).unwrap_err())
    };
    assert_eq!(text(&[]), "it has no config.dump");
    assert_eq!(text(&[(CONFIG, "{}")]), "it has no spec.dump");
    assert!(text(&[(CONFIG, "{}"), (SPEC, "[")]).starts_with("its spec.dump cannot be understood"));
}

#[test]
fn a_folder_is_copied_without_its_links() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join(IMAGES)).unwrap();
    fs::write(from.path().join("checkpoint/core-1.img"), "core").unwrap();
    symlink("/etc/hostname", from.path().join("checkpoint/files.img")).unwrap();
    symlink("/etc/hostname", from.path().join(CONFIG)).unwrap();
    copy(from.path(), to.path(), 100).unwrap();
    assert_eq!(names_in(to.path()).unwrap(), [IMAGES]);
    assert_eq!(names_in(&to.path().join(IMAGES)).unwrap(), ["core-1.img"]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = peek(bytes.as_slice());
        let (_, folder) = unpacked(&bytes, 1000);
        drop(folder);
    }

    #[test]
    fn no_name_leads_out(name in "[a-z./]{1,40}") {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let _ = unpack(archive(&[(&name, tar::EntryType::Regular, b"x")]).as_slice(), &inner, 100);
        prop_assert_eq!(names_in(folder.path()).unwrap(), ["inner"]);
    }
}
