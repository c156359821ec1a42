//! Checks of single request fields. Every error names the field, by its path in the request.

use std::collections::BTreeMap;
use std::path::{Component, Path};

/// A field that cannot be accepted, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {why}")]
pub struct FieldError {
    pub field: String,
    pub why: String,
}

type Checked<T = ()> = Result<T, FieldError>;

/// Longest name taken: Kubernetes' own bound is 253, and a name goes into labels, arguments and log lines.
const MAX_NAME: usize = 512;
/// Longest image reference taken; registries allow repository names of 255 bytes.
const MAX_REFERENCE: usize = 1024;
/// The longest path that a system call takes (PATH_MAX).
const MAX_PATH: usize = 4096;
/// containerd's bound on one label, key and value together.
const MAX_LABEL: usize = 4096;
/// All labels or annotations of one object together: Kubernetes allows 256 KiB of annotations.
const MAX_LABELS: usize = 512 * 1024;

/// An error about `field`.
pub fn error(field: impl Into<String>, why: impl Into<String>) -> FieldError {
    FieldError { field: field.into(), why: why.into() }
}

/// The message itself, which must be there.
pub fn required<'a, T>(field: &str, value: Option<&'a T>) -> Checked<&'a T> {
    value.ok_or_else(|| error(field, "is required"))
}

/// A name: not empty, bounded, and free of what would change the meaning of a path, an argument list or a log line.
pub fn name(field: &str, value: &str) -> Checked {
    if value.is_empty() {
        return Err(error(field, "is required"));
    }
    optional_name(field, value)
}

/// A name that may be empty.
pub fn optional_name(field: &str, value: &str) -> Checked {
    if value.len() > MAX_NAME {
        return Err(error(field, format!("has {} bytes; at most {MAX_NAME} are allowed", value.len())));
    }
    match value.chars().find(|c| c.is_control() || matches!(c, '/' | ';')) {
        Some(bad) => Err(error(field, format!("contains {bad:?}"))),
        None if value == "." || value == ".." => Err(error(field, format!("is {value:?}"))),
        None => Ok(()),
    }
}

/// An image's reference or id, which must be given; whether it is well-formed is for who looks for it.
pub fn name_of_image(field: &str, value: &str) -> Checked {
    if value.is_empty() {
        return Err(error(field, "is required"));
    }
    line(field, value, MAX_REFERENCE)
}

/// A text on one line, at most `max` bytes.
pub fn line(field: &str, value: &str, max: usize) -> Checked {
    if value.len() > max {
        return Err(error(field, format!("has {} bytes; at most {max} are allowed", value.len())));
    }
    match value.chars().find(|c| matches!(c, '\0' | '\n' | '\r')) {
        Some(bad) => Err(error(field, format!("contains {bad:?}"))),
        None => Ok(()),
    }
}

/// A path without `..`, NUL or excess.
pub fn path(field: &str, value: &str) -> Checked {
    line(field, value, MAX_PATH)?;
    if Path::new(value).components().any(|part| part == Component::ParentDir) {
        return Err(error(field, format!("{value:?} contains \"..\"")));
    }
    Ok(())
}

/// An absolute path without `..`.
pub fn absolute_path(field: &str, value: &str) -> Checked {
    path(field, value)?;
    if value.starts_with('/') {
        Ok(())
    } else {
        Err(error(field, format!("{value:?} is not an absolute path")))
    }
}

/// An absolute path that must be given.
pub fn required_path(field: &str, value: &str) -> Checked {
    if value.is_empty() { Err(error(field, "is required")) } else { absolute_path(field, value) }
}

/// A path below some folder: relative, without `..`.
pub fn relative_path(field: &str, value: &str) -> Checked {
    path(field, value)?;
    if value.starts_with('/') {
        Err(error(field, format!("{value:?} is not a relative path")))
    } else {
        Ok(())
    }
}

/// A known value of an enumeration.
pub fn enumeration<T: TryFrom<i32>>(field: &str, value: i32) -> Checked<T> {
    T::try_from(value).map_err(|_| error(field, format!("{value} is not a value of this enumeration")))
}

/// Labels or annotations, none larger than containerd takes.
pub fn labels<'a>(field: &str, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Checked {
    let mut total = 0;
    for (key, value) in labels {
        total += key.len() + value.len();
        if key.is_empty() {
            return Err(error(field, "contains an empty key"));
        }
        if key.len() + value.len() > MAX_LABEL {
            let key: String = key.chars().take(80).collect();
            return Err(error(
                format!("{field}[{key:?}]"),
                format!("key and value exceed {MAX_LABEL} bytes"),
            ));
        }
    }
    bounded_total(field, total)
}

/// Annotations: bounded together only, as they go into no label.
pub fn annotations<'a>(
    field: &str,
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Checked {
    bounded_total(field, annotations.into_iter().map(|(key, value)| key.len() + value.len()).sum())
}

fn bounded_total(field: &str, bytes: usize) -> Checked {
    if bytes > MAX_LABELS {
        return Err(error(field, format!("has {bytes} bytes; at most {MAX_LABELS} are allowed")));
    }
    Ok(())
}

/// The CRI's map as an ordered one.
pub fn ordered(map: &std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_by_field() {
        for value in ["", "..", "a/b", "a;K8S_POD_NAME=b", "a\0b", "a\nb", &"x".repeat(1 << 20)] {
            let error = name("config.metadata.name", value).unwrap_err();
            assert!(error.to_string().starts_with("config.metadata.name: "), "{error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
        assert_eq!(name("n", "web-0.example_x"), Ok(()));
    }

    #[test]
    fn paths_stay_where_they_belong() {
        assert!(absolute_path("p", "/var/log/../etc").is_err());
        assert!(absolute_path("p", "var/log").is_err());
        assert!(absolute_path("p", "/var/log/pods").is_ok());
        assert!(relative_path("p", "/etc/passwd").is_err());
        assert!(relative_path("p", "../x").is_err());
        assert!(relative_path("p", "web/0.log").is_ok());
    }

    #[test]
    fn a_label_containerd_would_refuse_is_refused_first() {
        let long = ("k".to_owned(), "v".repeat(4096));
        let error = labels("config.labels", [(&long.0, &long.1)]).unwrap_err();
        assert_eq!(error.field, "config.labels[\"k\"]");
    }
}
