//! Reading single fields of CRI configs: absent messages read as empty ones, and texts are checked for what neither
//! JSON nor the kernel can carry.

use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use super::SpecError;
use crate::proto::cri;

/// Where a container's or a pod's security context is within its request.
pub(super) const SECURITY: &str = "config.linux.security_context";

/// A container's security context.
pub(super) fn security(config: &cri::ContainerConfig) -> &cri::LinuxContainerSecurityContext {
    static ABSENT: LazyLock<cri::LinuxContainerSecurityContext> = LazyLock::new(Default::default);
    config.linux.as_ref().and_then(|linux| linux.security_context.as_ref()).unwrap_or(&ABSENT)
}

/// A pod's security context.
pub(super) fn sandbox_security(config: &cri::PodSandboxConfig) -> &cri::LinuxSandboxSecurityContext {
    static ABSENT: LazyLock<cri::LinuxSandboxSecurityContext> = LazyLock::new(Default::default);
    config.linux.as_ref().and_then(|linux| linux.security_context.as_ref()).unwrap_or(&ABSENT)
}

/// A pod's namespace options.
pub(super) fn sandbox_namespaces(config: &cri::PodSandboxConfig) -> &cri::NamespaceOption {
    static ABSENT: LazyLock<cri::NamespaceOption> = LazyLock::new(Default::default);
    sandbox_security(config).namespace_options.as_ref().unwrap_or(&ABSENT)
}

/// A text that ends up in a system call: without NUL bytes, at which the kernel would cut it off.
pub(super) fn text<'a>(field: &str, value: &'a str) -> Result<&'a str, SpecError> {
    if value.contains('\0') {
        return Err(SpecError::invalid(field, "holds a NUL byte"));
    }
    Ok(value)
}

/// An absolute path inside the container, without `..` and in its shortest form.
pub(super) fn container_path(field: &str, value: &str) -> Result<PathBuf, SpecError> {
    let path = Path::new(text(field, value)?);
    if !path.is_absolute() {
        return Err(SpecError::invalid(field, format!("{value:?} is not an absolute path")));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(SpecError::invalid(field, format!("{value:?} holds `..`")));
    }
    Ok(path.components().collect())
}

/// A path of the host as the spec, being JSON, can carry it.
pub(super) fn host_path(field: &str, path: &Path) -> Result<PathBuf, SpecError> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(path.into()),
        _ => Err(SpecError::invalid(
            field,
            format!("{path:?} on the host is not UTF-8, so a spec cannot name it"),
        )),
    }
}

/// A user's or group's number, within what runc takes.
pub(super) fn id(field: &str, value: i64) -> Result<u32, SpecError> {
    match u32::try_from(value) {
        Ok(id) if id <= MAX_ID => Ok(id),
        _ => Err(SpecError::invalid(field, format!("{value} is not between 0 and {MAX_ID}"))),
    }
}

/// The largest user or group number that runc runs a process with.
pub(super) const MAX_ID: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_paths_are_absolute_and_plain() {
        for (path, cleaned) in
            [("/", "/"), ("/a", "/a"), ("/a//b/", "/a/b"), ("/a/./b", "/a/b"), ("/..a", "/..a")]
        {
            assert_eq!(container_path("f", path), Ok(PathBuf::from(cleaned)), "{path}");
        }
        for path in ["", "a", "./a", "/a/../b", "/..", "/a\0"] {
            let error = container_path("config.mounts[2].container_path", path).unwrap_err();
            assert!(error.to_string().starts_with("config.mounts[2].container_path: "), "{error}");
        }
    }

    #[test]
    fn ids_are_those_of_runc() {
        assert_eq!(id("f", 0), Ok(0));
        assert_eq!(id("f", 2_147_483_647), Ok(2_147_483_647));
        for value in [-1, 2_147_483_648, i64::MIN, i64::MAX] {
            assert!(id("f", value).is_err(), "{value}");
        }
    }
}
