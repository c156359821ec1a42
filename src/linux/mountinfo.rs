//! /proc/self/mountinfo, line by line (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// How mounts made below a mount point travel (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    SharedSlave,
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub mount_point: PathBuf,
    /// Path within the filesystem that forms the mount's root.
    pub root: PathBuf,
    pub fs_type: String,
    pub source: String,
    pub options: Vec<String>,
    pub super_options: Vec<String>,
    pub propagation: Propagation,
}

/// Reads the whole file, or says which line is not as the kernel writes them.
pub(super) fn parse(file: &[u8]) -> Result<Vec<MountInfo>, String> {
    let lines = file.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| parse_line(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned())).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|b| *b == b' ');
    let root = fields.by_ref().nth(3)?;
    let mount_point = fields.next()?;
    let options = fields.next()?;
    let mut propagation = Propagation::Private;
    loop {
        let field = fields.next()?;
        propagation = match (propagation, field) {
            (_, b"-") => break,
            (Propagation::Private, f) if f.starts_with(b"shared:") => Propagation::Shared,
            (Propagation::Private, f) if f.starts_with(b"master:") => Propagation::Slave,
            (Propagation::Shared, f) if f.starts_with(b"master:") => Propagation::SharedSlave,
            (Propagation::Slave, f) if f.starts_with(b"shared:") => Propagation::SharedSlave,
            (same, _) => same,
        };
    }
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let list = |field: &[u8]| field.split(|b| *b == b',').map(text).collect();
    Some(MountInfo {
        mount_point: OsString::from_vec(unescape(mount_point)).into(),
        root: OsString::from_vec(unescape(root)).into(),
        options: list(options),
        propagation,
        fs_type: text(fields.next()?),
        source: text(fields.next()?),
        super_options: list(fields.next()?),
    })
}

/// The kernel writes blank, tab, newline, `#` and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_every_propagation_is_read() {
        let file = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
            37 35 98:0 / /s rw shared:3 - tmpfs none rw\n\
            38 35 98:0 / /ss rw shared:3 master:4 propagate_from:2 - tmpfs none rw\n\
            39 35 98:0 / /u rw unbindable - tmpfs none rw\n";
        let mounts = parse(file).unwrap();
        let propagation: Vec<_> = mounts.iter().map(|m| m.propagation).collect();
        use Propagation::*;
        assert_eq!(propagation, [Private, Slave, Shared, SharedSlave, Private]);
        assert_eq!(mounts[1].mount_point, Path::new("/mnt 2"));
        assert_eq!(mounts[1].root, Path::new("/mnt1"));
        assert_eq!(mounts[1].options, ["rw", "noatime"]);
        assert_eq!(mounts[1].super_options, ["rw", "errors=continue"]);
        assert_eq!((mounts[1].fs_type.as_str(), mounts[1].source.as_str()), ("ext3", "/dev/root"));
    }

    #[test]
    fn a_cut_line_is_named() {
        assert_eq!(parse(b"36 35 98:0 / /x rw shared:1\n").unwrap_err(), "36 35 98:0 / /x rw shared:1");
    }

    fn escape(path: &[u8]) -> Vec<u8> {
        let special = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\\' | b'#');
        path.iter()
            .flat_map(|b| if special(*b) { format!("\\{b:03o}").into_bytes() } else { vec![*b] })
            .collect()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(name in proptest::collection::vec(1u8..=255, 1..60)) {
            let mut line = b"1 2 3:4 / /".to_vec();
            line.extend(escape(&name));
            line.extend(b" rw - tmpfs none rw\n");
            let mounts = parse(&line).unwrap();
            let mut expected = b"/".to_vec();
            expected.extend(&name);
            prop_assert_eq!(mounts[0].mount_point.as_os_str(), &OsString::from_vec(expected));
        }
    }
}
