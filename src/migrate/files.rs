//! The files: config.toml and what it imports, in the order in which containerd reads them.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File as Handle;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use super::error::MigrateError;
use super::glob::glob;

/// Bytes of a file that are read.
const FILE_MAX: u64 = 4 << 20;
/// Files that are read.
const FILES_MAX: usize = 1000;
/// The newest version of a configuration.
const NEWEST: u32 = 4;

/// One file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub path: PathBuf,
    /// 1 where it says none.
    pub version: u32,
    pub table: Table,
}

/// Reads a file, then what it imports, then what these import; each once.
///
/// # Errors
/// Of the first file that cannot be read or is no TOML.
pub(super) fn load(path: &Path) -> Result<Vec<File>, MigrateError> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    let mut pending = VecDeque::from([path.to_owned()]);
    while let Some(next) = pending.pop_front() {
        if !seen.insert(next.clone()) {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(MigrateError::TooMany { path: path.to_owned(), max: FILES_MAX });
        }
        let text = match read(&next) {
            Err(MigrateError::Read { path, source }) if !files.is_empty() => {
                return Err(MigrateError::Import { path, source });
            }
            text => text?,
        };
        let file = parse(&next, &text)?;
        pending.extend(imports(&file)?);
        files.push(file);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, MigrateError> {
    let failed = |source| MigrateError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = Handle::open(path).map_err(failed)?;
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(read).is_ok_and(|read| read > FILE_MAX) {
        return Err(MigrateError::TooLarge { path: path.to_owned(), max: FILE_MAX });
    }
    Ok(text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<File, MigrateError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        MigrateError::Syntax { path: path.to_owned(), line, why: error.message().replace('\n', ", ") }
    })?;
    let version = match table.get("version") {
        None | Some(Value::Integer(0)) => Some(1),
        Some(version) => version.as_integer().and_then(|version| u32::try_from(version).ok()),
    };
    match version.filter(|version| (1..=NEWEST).contains(version)) {
        Some(version) => Ok(File { path: path.to_owned(), version, table }),
        None => {
            let found = table.get("version").map(Value::to_string).unwrap_or_default();
            Err(MigrateError::Version { path: path.to_owned(), found, newest: NEWEST })
        }
    }
}

/// The files that it imports: relative paths are those of its folder, patterns those of Go.
fn imports(file: &File) -> Result<Vec<PathBuf>, MigrateError> {
    let wrong = || MigrateError::Imports { path: file.path.clone() };
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    let Some(list) = file.table.get("imports") else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in list.as_array().ok_or_else(wrong)? {
        let entry = entry.as_str().ok_or_else(wrong)?;
        let path = cleaned(&folder.join(entry));
        if !entry.contains('*') {
            paths.push(path);
        } else if let Some(found) = glob(&path) {
            paths.extend(found);
        } else {
            return Err(MigrateError::Pattern { path: file.path.clone(), pattern: entry.to_owned() });
        }
    }
    Ok(paths)
}

/// Without `.` and `..`, by the letter, as Go's `filepath.Clean` does: a file is known again by its path.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if cleaned.file_name().is_some() => drop(cleaned.pop()),
            part => cleaned.push(part),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kind_of(text: &str) -> String {
        parse(Path::new("/c.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn imports_are_read_breadth_first_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("config.toml", "imports = ['conf.d/*.toml', './x/../last.toml']");
        write("conf.d/2.toml", "version = 3");
        write("conf.d/1.toml", "version = 2\nimports = ['../config.toml', '../deep.toml']");
        write("last.toml", "");
        write("deep.toml", "");
        let files = load(&dir.path().join("config.toml")).unwrap();
        let seen: Vec<_> = files
            .iter()
            .map(|file| (file.path.strip_prefix(dir.path()).unwrap().to_str().unwrap(), file.version))
            .collect();
        let expected = [
            ("config.toml", 1),
            ("conf.d/1.toml", 2),
            ("conf.d/2.toml", 3),
            ("last.toml", 1),
            ("deep.toml", 1),
        ];
        assert_eq!(seen, expected);
        write("last.toml", "imports = ['nothing.toml']");
        let error = load(&dir.path().join("config.toml")).unwrap_err();
        assert!(
            matches!(&error, MigrateError::Import { path, .. } if path.ends_with("nothing.toml")),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_configuration_is_told_in_a_sentence() {
        let broken = kind_of("version = 2\n\npassword = \"secret");
        assert!(broken.starts_with("/c.toml:3: ") && !broken.contains("secret"), "{broken}");
        assert_eq!(kind_of("version = 5"), "/c.toml: its version is 5, and 1 to 4 are known");
        assert_eq!(kind_of("version = \"2\""), "/c.toml: its version is \"2\", and 1 to 4 are known");
        let file = |text| parse(Path::new("/c.toml"), text).unwrap();
        let error = imports(&file("imports = 'x'")).unwrap_err();
        assert_eq!(error.to_string(), "/c.toml: imports must be a list of paths");
        let error = imports(&file("imports = ['[*']")).unwrap_err();
        assert!(matches!(error, MigrateError::Pattern { .. }), "{error}");
    }
}
