//! The node's cgroups: which version, which controllers, and events read from their files.
//!
//! An OCI `cgroupsPath` is read as runc reads it, or the files of another cgroup would be looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{LinuxError, MountInfo, mount};

pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// `statfs` type of cgroup v2 (include/uapi/linux/magic.h).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// How this node mounts cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// v1 controllers, perhaps with an empty v2 tree beside.
    Legacy,
    /// v2 only.
    Unified,
}

/// What this node mounts at /sys/fs/cgroup.
pub fn mode() -> CgroupMode {
    match rustix::fs::statfs(ROOT) {
        Ok(fs) if fs.f_type == CGROUP2_SUPER_MAGIC => CgroupMode::Unified,
        _ => CgroupMode::Legacy,
    }
}

/// v1 controllers mounted or v2 controllers available at the root, by name.
pub fn controllers() -> Vec<String> {
    match mode() {
        CgroupMode::Unified => {
            let listed = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
            listed.split_whitespace().map(String::from).collect()
        }
        CgroupMode::Legacy => hierarchies().into_iter().flat_map(|h| h.controllers).collect(),
    }
}

/// How often the kernel's OOM killer ended a process of the cgroup that an OCI `cgroupsPath` names
/// (`slice:prefix:name` for systemd).
///
/// # Errors
/// `NotFound` when the cgroup is gone, or memory is not accounted for on this node.
pub fn oom_kills(cgroups_path: &str) -> Result<u64, LinuxError> {
    let file = match mode() {
        CgroupMode::Unified => "memory.events",
        CgroupMode::Legacy => "memory.oom_control",
    };
    let missing = || LinuxError::on("find the memory cgroup", Path::new(cgroups_path))(not_found());
    let folders = Trees::mounted().of(cgroups_path);
    oom_kills_in(&folders.as_ref().and_then(|f| f.of("memory")).ok_or_else(missing)?.join(file))
}

fn oom_kills_in(file: &Path) -> Result<u64, LinuxError> {
    let events = fs::read_to_string(file).map_err(LinuxError::on("read", file))?;
    // Kernels before 4.13 do not count on v1.
    count_of(&events, "oom_kill").ok_or_else(|| {
        LinuxError::on("understand", file)(io::Error::new(io::ErrorKind::InvalidData, "no line oom_kill"))
    })
}

/// How often it did so anywhere in the cgroup above that one, on v2.
///
/// # Errors
/// `NotFound` on v1, where a cgroup counts for itself alone, and as for [`oom_kills`].
pub fn oom_kills_above(cgroups_path: &str) -> Result<u64, LinuxError> {
    let missing = || LinuxError::on("find the cgroup above", Path::new(cgroups_path))(not_found());
    // Asked first: every start comes here, and v1's trees are a walk through all mounts.
    if mode() == CgroupMode::Legacy {
        return Err(missing());
    }
    match Trees::mounted().of(cgroups_path) {
        Some(CgroupFolders::Unified(folder)) => {
            oom_kills_in(&folder.parent().ok_or_else(missing)?.join("memory.events"))
        }
        _ => Err(missing()),
    }
}

/// The folders of a v1 or v2 cgroup that an OCI `cgroupsPath` names, on this node: one for each v1 hierarchy, one
/// on v2. Whether they exist is not asked; a path that names no cgroup has none.
pub fn folders(cgroups_path: &str) -> Vec<PathBuf> {
    match Trees::mounted().of(cgroups_path) {
        Some(CgroupFolders::Unified(folder)) => vec![folder],
        Some(CgroupFolders::Legacy(folders)) => folders.into_iter().map(|(_, folder)| folder).collect(),
        None => Vec::new(),
    }
}

/// The processes in the cgroup that an OCI `cgroupsPath` names, but for those below it; none where it is gone.
pub fn members(cgroups_path: &str) -> Vec<u32> {
    folders(cgroups_path)
        .iter()
        .map(|folder| members_of(folder))
        .find(|pids| !pids.is_empty())
        .unwrap_or_default()
}

/// Those of one cgroup, by its folder.
pub fn members_of(folder: &Path) -> Vec<u32> {
    let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Freezes the processes of the cgroup that an OCI `cgroupsPath` names.
///
/// # Errors
/// `NotFound` when the cgroup is gone, besides those of writing.
pub fn freeze(cgroups_path: &str) -> Result<(), LinuxError> {
    let (file, word) = match mode() {
        CgroupMode::Unified => ("cgroup.freeze", "1"),
        CgroupMode::Legacy => ("freezer.state", "FROZEN"),
    };
    let missing = || LinuxError::on("find the freezer of", Path::new(cgroups_path))(not_found());
    let folders = Trees::mounted().of(cgroups_path);
    let file = folders.as_ref().and_then(|f| f.of("freezer")).ok_or_else(missing)?.join(file);
    fs::write(&file, word).map_err(LinuxError::on("write", &file))
}

/// The folders of one cgroup, whether they exist or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupFolders {
    /// One for each v1 hierarchy, with its controllers.
    Legacy(Vec<(Vec<String>, PathBuf)>),
    Unified(PathBuf),
}

impl CgroupFolders {
    /// Where a controller keeps its files; `None` when it is not mounted.
    pub fn of(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::Unified(folder) => Some(folder),
            Self::Legacy(folders) => {
                let has =
                    |(controllers, _): &&(Vec<String>, PathBuf)| controllers.iter().any(|c| c == controller);
                folders.iter().find(has).map(|(_, folder)| folder.as_path())
            }
        }
    }
}

/// The node's cgroup trees, looked at once for many cgroups.
#[derive(Clone, Debug)]
pub struct Trees(Mounted);

#[derive(Clone, Debug)]
enum Mounted {
    Legacy(Vec<Hierarchy>),
    /// With the place of this process.
    Unified {
        own: PathBuf,
    },
}

impl Trees {
    /// Those of this node, as mounted now.
    pub fn mounted() -> Self {
        Self(match mode() {
            CgroupMode::Legacy => Mounted::Legacy(hierarchies()),
            CgroupMode::Unified => {
                let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
                Mounted::Unified { own: clean(&place_in(&own, "").to_string_lossy()) }
            }
        })
    }

    /// Those of the cgroup that an OCI `cgroupsPath` names; `None` where it names none.
    pub fn of(&self, cgroups_path: &str) -> Option<CgroupFolders> {
        Some(self.folders(&CgroupsPath::parse(cgroups_path)?))
    }

    /// Those of a pod, by the CRI's `cgroup_parent`; `None` where it names none.
    pub fn of_parent(&self, parent: &str) -> Option<CgroupFolders> {
        let path = clean(parent);
        let last = path.file_name()?.to_str()?;
        // Of a slice's path only its name counts (runc, libcontainer/cgroups/systemd).
        let path = if last.ends_with(".slice") { expand_slice(last)? } else { path };
        Some(self.folders(&CgroupsPath::Absolute(path)))
    }

    fn folders(&self, path: &CgroupsPath) -> CgroupFolders {
        match &self.0 {
            Mounted::Unified { own } => CgroupFolders::Unified(Path::new(ROOT).join(match path {
                CgroupsPath::Absolute(path) => path.clone(),
                CgroupsPath::Relative(path) => own.join(path),
                CgroupsPath::Systemd { slices, unit } => slices.join(unit),
            })),
            Mounted::Legacy(hierarchies) => {
                let folder = |h: &Hierarchy| (h.controllers.clone(), h.folder_of(path));
                CgroupFolders::Legacy(hierarchies.iter().map(folder).collect())
            }
        }
    }
}

/// How often a cgroup whose processes were killed is looked at again, and how long in between: they end at once, but
/// for those in uninterruptible sleep.
const EMPTYING: (u32, Duration) = (100, Duration::from_millis(20));

/// Kills what is left in the cgroup that an OCI `cgroupsPath` names, and removes it with all below it: a runtime that
/// was itself killed on the way leaves both. One that is gone is fine; one whose own name does not contain `id` is
/// somebody else's, and left alone. Blocks.
///
/// # Errors
/// When a process outlives SIGKILL by two seconds.
pub fn clear(cgroups_path: &str, id: &str) -> Result<(), LinuxError> {
    let mut folders = folders(cgroups_path);
    // runc makes one in the v2 tree of a hybrid node as well.
    if mode() == CgroupMode::Legacy
        && let Some(CgroupsPath::Absolute(path)) = CgroupsPath::parse(cgroups_path)
    {
        folders.push(Path::new(ROOT).join("unified").join(path));
    }
    let own = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().contains(id));
    for folder in folders.into_iter().filter(own).filter(|folder| folder.is_dir()) {
        clear_folder(&folder).map_err(LinuxError::on("clear the cgroup", &folder))?;
    }
    Ok(())
}

fn clear_folder(folder: &Path) -> io::Result<()> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for child in below.filter(|path| path.is_dir() && !path.is_symlink()) {
        clear_folder(&child)?;
    }
    for _ in 0..EMPTYING.0 {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
        for pid in members_of(folder).into_iter().filter_map(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            // One that has just ended is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(EMPTYING.1);
    }
    fs::remove_dir(folder)
}

/// The value of `key` in a file of `key value` lines.
fn count_of(file: &str, key: &str) -> Option<u64> {
    file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

/// One mounted v1 hierarchy, and where this process and PID 1 are in it, as seen below its mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    controllers: Vec<String>,
    own: PathBuf,
    init: PathBuf,
}

/// Where v1 hierarchies are mounted.
pub(super) fn mount_points() -> Vec<PathBuf> {
    hierarchies().into_iter().map(|hierarchy| hierarchy.mount_point).collect()
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    hierarchies_of(&mount::mounts().unwrap_or_default(), &read("/proc/self/cgroup"), &read("/proc/1/cgroup"))
}

fn hierarchies_of(mounts: &[MountInfo], own: &str, init: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(|m| m.fs_type == "cgroup") {
        // The same hierarchy may be mounted again in somebody's container: only the first mount counts.
        let controllers: Vec<String> =
            mount.super_options.iter().filter(|o| is_controller(own, o)).cloned().collect();
        let Some(first) = controllers.first() else { continue };
        if found.iter().any(|h| h.controllers.contains(first)) {
            continue;
        }
        let below_mount = |file| below(&mount.root, &place_in(file, first));
        found.push(Hierarchy {
            mount_point: mount.mount_point.clone(),
            own: below_mount(own),
            init: below_mount(init),
            controllers,
        });
    }
    found
}

impl Hierarchy {
    fn folder_of(&self, path: &CgroupsPath) -> PathBuf {
        let place = match path {
            CgroupsPath::Absolute(path) => path.clone(),
            CgroupsPath::Relative(path) => self.own.join(path),
            CgroupsPath::Systemd { slices, unit } => self.init.join(slices).join(unit),
        };
        self.mount_point.join(place)
    }
}

/// An OCI `cgroupsPath` (runtime spec, config-linux.md, "Cgroups Path"), without leading slashes and `..`.
#[derive(Debug, PartialEq, Eq)]
enum CgroupsPath {
    /// Below the mount point.
    Absolute(PathBuf),
    /// Below the runtime's own cgroup.
    Relative(PathBuf),
    /// A unit, and the nested folders of its slice.
    Systemd { slices: PathBuf, unit: String },
}

impl CgroupsPath {
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [slice, prefix, name] if !text.contains('/') => {
                let slice = if slice.is_empty() { "system.slice" } else { slice };
                Some(Self::Systemd { slices: expand_slice(slice)?, unit: unit_name(prefix, name) })
            }
            _ if text.starts_with('/') => Some(Self::Absolute(clean(text))),
            _ if text.is_empty() => None,
            _ => Some(Self::Relative(clean(text))),
        }
    }
}

/// `a-b.slice` lies in `a.slice/a-b.slice` (systemd.slice(5)); `-.slice` is the root.
fn expand_slice(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    if name.split('-').any(str::is_empty) {
        return None;
    }
    let dashes = name.match_indices('-').map(|(at, _)| at);
    Some(dashes.chain([name.len()]).map(|end| format!("{}.slice", &name[..end])).collect())
}

fn unit_name(prefix: &str, name: &str) -> String {
    match prefix {
        _ if name.ends_with(".slice") => name.to_owned(),
        "" => format!("{name}.scope"),
        _ => format!("{prefix}-{name}.scope"),
    }
}

/// Without `.` and empty parts; `..` cannot climb out.
fn clean(path: &str) -> PathBuf {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.into_iter().collect()
}

/// Whether an option of a v1 mount is a controller: /proc/PID/cgroup lists it (`4:cpu,cpuacct:/path`).
fn is_controller(proc_cgroup: &str, option: &str) -> bool {
    let mut lists = proc_cgroup.lines().filter_map(|line| line.split(':').nth(1));
    lists.any(|list| list.split(',').any(|c| c == option))
}

/// The path in /proc/PID/cgroup of a v1 controller, or with an empty name of the v2 tree; `/` when not listed.
fn place_in(proc_cgroup: &str, controller: &str) -> PathBuf {
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (list, path) = rest.split_once(':')?;
        list.split(',').any(|c| c == controller).then(|| PathBuf::from(path))
    };
    proc_cgroup.lines().find_map(line).unwrap_or_else(|| "/".into())
}

/// A cgroup's path as seen below a mount whose root is `root`: within a container, both may begin alike. PID 1's own
/// scope is not a place to put others.
fn below(root: &Path, place: &Path) -> PathBuf {
    let inner = place.strip_prefix(root).or_else(|_| place.strip_prefix("/")).unwrap_or(place);
    match inner.file_name() {
        Some(name) if name == "init.scope" => inner.parent().unwrap_or(Path::new("")).to_owned(),
        _ => inner.to_owned(),
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
