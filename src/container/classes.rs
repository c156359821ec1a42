//! The classes of block I/O and RDT that annotations name, as this node has them.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxBlockIo;

use super::ContainerError;
use crate::config::RuntimeConfig;
use crate::linux::device::{self, DeviceKind};
use crate::proto::cri;
use crate::spec::{self, BlockIoClasses, Class, ClassKind, SpecError};

/// Where the kernel has RDT's classes, as folders.
const RESCTRL: &str = "/sys/fs/resctrl";
/// Folders of resctrl that are no classes (Documentation/filesystems/resctrl.rst).
const NO_CLASSES: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// What the container's class of block I/O is. Blocking.
///
/// # Errors
/// Without a file of classes, unless that is to be ignored; a class that it does not have, or that makes no sense.
pub(super) fn block_io(
    config: &cri::ContainerConfig,
    pod: &cri::PodSandboxConfig,
    runtime: &RuntimeConfig,
) -> Result<Option<LinuxBlockIo>, ContainerError> {
    let Some(class) = spec::class_of(ClassKind::BlockIo, config, pod) else { return Ok(None) };
    let Some(file) = &runtime.blockio_config_file else {
        return match runtime.ignore_blockio_not_enabled_errors {
            true => Ok(None),
            false => {
                Err(refused(&class, "block I/O classes are off: runtime.blockio_config_file is not set"))
            }
        };
    };
    let at = |why: String| refused(&class, &format!("{}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| at(error.to_string()))?;
    BlockIoClasses::parse(&text).and_then(|classes| classes.to_oci(&class.name, expand)).map(Some).map_err(at)
}

/// The container's RDT class. Classes are made by the node's operator; here they are looked for. Blocking.
///
/// # Errors
/// Without resctrl, unless that is to be ignored; a class that it does not have.
pub(super) fn rdt(
    config: &cri::ContainerConfig,
    pod: &cri::PodSandboxConfig,
    runtime: &RuntimeConfig,
) -> Result<Option<String>, ContainerError> {
    let Some(class) = spec::class_of(ClassKind::Rdt, config, pod) else { return Ok(None) };
    rdt_in(Path::new(RESCTRL), class, runtime.ignore_rdt_not_enabled_errors)
}

fn rdt_in(resctrl: &Path, class: Class, ignore: bool) -> Result<Option<String>, ContainerError> {
    if !resctrl.join("schemata").exists() {
        return match ignore {
            true => Ok(None),
            false => {
                Err(refused(&class, &format!("RDT is off: resctrl is not mounted at {}", resctrl.display())))
            }
        };
    }
    let plain = !class.name.contains(['/', '\0', '\n']) && !class.name.starts_with('.');
    let there = plain && !NO_CLASSES.contains(&class.name.as_str());
    if there && resctrl.join(&class.name).join("schemata").exists() {
        Ok(Some(class.name))
    } else {
        let shown: String = class.name.chars().take(80).collect();
        Err(refused(&class, &format!("there is no RDT class {shown:?} in {}", resctrl.display())))
    }
}

fn refused(class: &Class, why: &str) -> ContainerError {
    ContainerError::Spec(SpecError::Unsupported { field: class.field.clone(), why: why.to_owned() })
}

/// The block devices that a path with wildcards names, links followed; what is none is passed over, with a word.
fn expand(pattern: &str) -> Vec<(i64, i64)> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        paths = paths.into_iter().flat_map(|folder| matching(&folder, part)).collect();
    }
    let numbers = |path: &PathBuf| {
        let node = device::one(path).ok().filter(|node| node.kind == DeviceKind::Block)?;
        Some((node.major, node.minor))
    };
    let found: Vec<_> = paths.iter().filter_map(numbers).collect();
    if found.is_empty() {
        tracing::warn!(pattern, "a class of block I/O names no block device");
    }
    found
}

/// What of a folder fits one part of a path.
fn matching(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[', '\\']) {
        return vec![folder.join(part)];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| spec::glob(part, name)).map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn class(name: &str) -> Class {
        Class { name: name.into(), field: "f".into() }
    }

    #[test]
    fn an_rdt_class_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = chain(&rdt_in(dir.path(), class("gold"), false).unwrap_err());
        assert!(error.contains("f: RDT is off"), "{error}");
        assert_eq!(rdt_in(dir.path(), class("gold"), true).unwrap(), None);
        fs::write(dir.path().join("schemata"), "").unwrap();
        for name in ["gold", "info"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("schemata"), "").unwrap();
        }
        assert_eq!(rdt_in(dir.path(), class("gold"), false).unwrap().as_deref(), Some("gold"));
        for name in ["silver", "info", ".", "..", "gold/..", "a\0b", &"x".repeat(1 << 20)] {
            let error = chain(&rdt_in(dir.path(), class(name), true).unwrap_err());
            assert!(error.contains("no RDT class") && error.len() < 500, "{error}");
        }
    }

    #[test]
    fn wildcards_find_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a1/x")).unwrap();
        fs::create_dir_all(dir.path().join("b2/x")).unwrap();
        assert_eq!(matching(dir.path(), "[ab]?").len(), 2);
        assert_eq!(matching(dir.path(), "a*"), [dir.path().join("a1")]);
        // Neither a folder nor a character device is one of blocks.
        assert!(expand(&format!("{}/*/x", dir.path().display())).is_empty());
        assert!(expand("/dev/nul*").is_empty());
    }
}
