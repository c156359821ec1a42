//! The node's cgroups: which version, which controllers, and events read from their files.
//!
//! An OCI `cgroupsPath` is read as runc reads it, or the files of another cgroup would be looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{LinuxError, MountInfo, mount};

const ROOT: &str = "/sys/fs/cgroup";

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
        CgroupMode::Unified => unified_folder(cgroups_path).map(|f| f.join("memory.events")),
        CgroupMode::Legacy => hierarchies()
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == "memory"))
            .and_then(|h| h.folder(cgroups_path))
            .map(|f| f.join("memory.oom_control")),
    };
    let missing = || LinuxError::on("find the memory cgroup", Path::new(cgroups_path))(not_found());
    let file = file.ok_or_else(missing)?;
    let events = fs::read_to_string(&file).map_err(LinuxError::on("read", &file))?;
    // Kernels before 4.13 do not count on v1.
    count_of(&events, "oom_kill").ok_or_else(|| {
        LinuxError::on("understand", &file)(io::Error::new(io::ErrorKind::InvalidData, "no line oom_kill"))
    })
}

/// The folders of a v1 or v2 cgroup that an OCI `cgroupsPath` names, on this node: one for each v1 hierarchy, one
/// on v2. Whether they exist is not asked; a path that names no cgroup has none.
pub fn folders(cgroups_path: &str) -> Vec<PathBuf> {
    match mode() {
        CgroupMode::Unified => unified_folder(cgroups_path).into_iter().collect(),
        CgroupMode::Legacy => hierarchies().iter().filter_map(|h| h.folder(cgroups_path)).collect(),
    }
}

/// The value of `key` in a file of `key value` lines.
fn count_of(file: &str, key: &str) -> Option<u64> {
    file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

/// One mounted v1 hierarchy, and where this process and PID 1 are in it, as seen below its mount point.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    controllers: Vec<String>,
    own: PathBuf,
    init: PathBuf,
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
    fn folder(&self, cgroups_path: &str) -> Option<PathBuf> {
        let place = match CgroupsPath::parse(cgroups_path)? {
            CgroupsPath::Absolute(path) => path,
            CgroupsPath::Relative(path) => self.own.join(path),
            CgroupsPath::Systemd { slices, unit } => self.init.join(slices).join(unit),
        };
        Some(self.mount_point.join(place))
    }
}

fn unified_folder(cgroups_path: &str) -> Option<PathBuf> {
    let place = match CgroupsPath::parse(cgroups_path)? {
        CgroupsPath::Absolute(path) => path,
        CgroupsPath::Relative(path) => {
            place_in(&fs::read_to_string("/proc/self/cgroup").ok()?, "").strip_prefix("/").ok()?.join(path)
        }
        CgroupsPath::Systemd { slices, unit } => slices.join(unit),
    };
    Some(Path::new(ROOT).join(place))
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
