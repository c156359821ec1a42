//! SELinux as the node has it: whether it is on, what its policy calls containers, and the labels of files.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::LinuxError;

/// There where the kernel has a policy.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// What container-selinux installs; where it is missing, each policy's own file counts.
const OF_CONTAINERS: &str = "usr/share/containers/selinux/contexts";
const OF_POLICIES: &str = "etc/selinux";
/// The attribute that holds a file's label.
const ATTRIBUTE: &str = "security.selinux";
/// Folders within folders: each is open while those below it are labelled.
const MAX_DEPTH: usize = 256;
/// Folders that are the node's own: relabelled, it would not work any more (opencontainers/selinux has the same list).
const OF_THE_NODE: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Whether the kernel runs with a policy.
pub fn is_enabled() -> bool {
    Path::new(ENFORCE).exists()
}

/// The contexts that the node's policy has for containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Of processes.
    pub process: String,
    /// Of files that they may change.
    pub file: String,
    /// Of the processes that run virtual machines; empty where the policy has none.
    pub kvm_process: String,
}

/// Reads the contexts.
///
/// # Errors
/// There are none, or none for processes and files.
pub fn contexts() -> Result<Contexts, LinuxError> {
    contexts_below(Path::new("/"))
}

fn contexts_below(root: &Path) -> Result<Contexts, LinuxError> {
    let mut path = root.join(OF_CONTAINERS);
    if !path.exists() {
        let policies = root.join(OF_POLICIES);
        let config = policies.join("config");
        let text = fs::read_to_string(&config).map_err(LinuxError::on("read", &config))?;
        path = policies.join(value(&text, "SELINUXTYPE")).join("contexts/lxc_contexts");
    }
    let text = fs::read_to_string(&path).map_err(LinuxError::on("read", &path))?;
    let of = |key| value(&text, key).to_owned();
    let found = Contexts { process: of("process"), file: of("file"), kvm_process: of("kvm_process") };
    if found.process.is_empty() || found.file.is_empty() {
        let why = "it names none for processes and files of containers";
        return Err(LinuxError::on("use the contexts of", &path)(io::Error::other(why)));
    }
    Ok(found)
}

/// The value in a file of `key = "value"` lines; empty where there is none.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let mut pairs = lines.filter_map(|line| line.split_once('='));
    let found = pairs.find(|(name, _)| name.trim() == key);
    found.map_or("", |(_, value)| value.trim().trim_matches('"'))
}

/// Whether a folder is the node's own, and keeps its label.
pub fn is_of_the_node(path: &Path) -> bool {
    OF_THE_NODE.iter().any(|folder| path == Path::new(folder))
}

/// Gives `path`, and all that is below it, a label; no link is followed, whatever others do there meanwhile. What has
/// gone meanwhile, and file systems without labels, are passed over. `path` itself comes last: where it has the label
/// already, the others are only looked at. Blocking.
///
/// # Errors
/// Those of the file system, and folders nested beyond reason.
pub fn relabel(path: &Path, label: &str) -> Result<(), LinuxError> {
    let labelled = has_label(path, label);
    if labelled == Err(Errno::NOTSUP) {
        return Ok(());
    }
    let work = Work { label, known: labelled == Ok(true) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => work.below(&File::from(folder), 0).map_err(LinuxError::on("relabel", path))?,
        // A file.
        Err(Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(LinuxError::on("relabel", path)(error)),
    }
    work.set(path).map_err(LinuxError::on("relabel", path))
}

/// One relabelling.
struct Work<'a> {
    label: &'a str,
    /// Most have the label already.
    known: bool,
}

impl Work<'_> {
    fn below(&self, folder: &File, depth: usize) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(io::Error::other(format!("more than {MAX_DEPTH} folders are within each other")));
        }
        // Whatever its name leads to by now.
        let held = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(folder, name, flags, Mode::empty()) {
                    Ok(inner) => self.below(&File::from(inner), depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.set(&held.join(std::ffi::OsStr::from_bytes(name.to_bytes())))?;
        }
        Ok(())
    }

    fn set(&self, path: &Path) -> io::Result<()> {
        if self.known && has_label(path, self.label) == Ok(true) {
            return Ok(());
        }
        match rustix::fs::lsetxattr(path, ATTRIBUTE, self.label.as_bytes(), XattrFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTSUP) => Ok(()),
            outcome => Ok(outcome?),
        }
    }
}

/// The kernel ends what it tells with a zero byte.
fn has_label(path: &Path, label: &str) -> Result<bool, Errno> {
    let mut found = [0; 4096];
    match rustix::fs::lgetxattr(path, ATTRIBUTE, &mut found) {
        Ok(length) => Ok(found[..length].strip_suffix(b"\0").unwrap_or(&found[..length]) == label.as_bytes()),
        Err(Errno::NODATA | Errno::NOENT | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::require_root;
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn contexts_are_the_policys_own_unless_containers_have_theirs() {
        let root = tempfile::tempdir().unwrap();
        let found = || contexts_below(root.path());
        found().unwrap_err();
        write(
            root.path().join("etc/selinux/config"),
            "# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=mls\n",
        );
        let own = root.path().join("etc/selinux/mls/contexts/lxc_contexts");
        write(own.clone(), "process = \"a:b:c:s0\"\n");
        assert!(found().unwrap_err().to_string().contains("lxc_contexts"));
        write(
            own,
            "; file=\"x\"\nprocess = \"a:b:c:s0\"\n\nfile = \"a:b:f:s0\"\nsandbox_kvm_process = \"q\"\n",
        );
        let contexts =
            Contexts { process: "a:b:c:s0".into(), file: "a:b:f:s0".into(), kvm_process: String::new() };
        assert_eq!(found().unwrap(), contexts);
        let text = "process=\"u:r:p:s0\"\nfile=\"u:r:f:s0\"\nkvm_process=\"u:r:k:s0\"";
        write(root.path().join(OF_CONTAINERS), text);
        assert_eq!(
            (found().unwrap().process, found().unwrap().kvm_process),
            ("u:r:p:s0".into(), "u:r:k:s0".into())
        );
    }

    #[test]
    fn all_below_a_folder_is_labelled_and_no_link_is_followed() {
        require_root();
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = inside.path();
        write(folder.join("a/b/file"), "");
        write(outside.path().join("file"), "");
        symlink(outside.path(), folder.join("a/link")).unwrap();
        relabel(folder, LABEL).unwrap();
        for path in ["", "a", "a/b", "a/b/file", "a/link"] {
            assert_eq!(has_label(&folder.join(path), LABEL), Ok(true), "{path}");
        }
        assert_eq!(has_label(&outside.path().join("file"), LABEL), Ok(false));
        // What is new is found though the folder has the label already; a file is labelled too.
        write(folder.join("a/new"), "");
        relabel(folder, LABEL).unwrap();
        assert_eq!(has_label(&folder.join("a/new"), LABEL), Ok(true));
        relabel(&folder.join("a/new"), "other").unwrap();
        assert_eq!(has_label(&folder.join("a/new"), "other"), Ok(true));
        relabel(&folder.join("missing"), LABEL).unwrap_err();
    }

    #[test]
    fn folders_beyond_reason_and_those_of_the_node_are_told() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..=MAX_DEPTH).map(|_| "d").collect();
        fs::create_dir_all(dir.path().join(deep)).unwrap();
        relabel(dir.path(), LABEL).unwrap_err();
        // A file system without labels.
        relabel(Path::new("/proc/self"), LABEL).unwrap();
        assert!(is_of_the_node(Path::new("/")) && is_of_the_node(Path::new("/etc/")));
        assert!(!is_of_the_node(Path::new("/var/lib/kubelet")));
    }
}
