//! The folder of network configurations, as it was when last looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::conflist::{NetworkList, PluginConf};

/// A configuration file is read up to this size: real ones have a few KB.
const MAX_FILE: u64 = 1 << 20;

/// Networks in the order of their files, or why there are none. A bad file among those that count spoils all, as in
/// go-cni: half a pod's networks is worse than a clear word.
pub(super) type Loaded = Result<Vec<NetworkList>, String>;

/// The folder and what was found there.
#[derive(Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// 0 for all.
    max_files: usize,
    last: Mutex<Arc<Loaded>>,
}

impl Folder {
    pub fn new(path: PathBuf, max_files: usize) -> Self {
        let loaded = Arc::new(load(&path, max_files));
        tell(&path, &loaded);
        Self { path, max_files, last: Mutex::new(loaded) }
    }

    /// What the last look found.
    pub fn last(&self) -> Arc<Loaded> {
        self.lock().clone()
    }

    /// Looks again.
    pub fn rescan(&self) -> Arc<Loaded> {
        let loaded = Arc::new(load(&self.path, self.max_files));
        let mut last = self.lock();
        if **last != *loaded {
            tell(&self.path, &loaded);
            *last = loaded;
        }
        last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Loaded>> {
        // Whole values are swapped in: a panic elsewhere cannot leave half of one.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(path: &Path, loaded: &Loaded) {
    match loaded {
        Ok(networks) => {
            let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
            tracing::info!(folder = %path.display(), networks = ?names, "CNI networks loaded");
        }
        Err(reason) => tracing::warn!(folder = %path.display(), "no CNI network: {reason}"),
    }
}

fn load(folder: &Path, max_files: usize) -> Loaded {
    let files = files_of(folder, &["conf", "conflist", "json"])?;
    if files.is_empty() {
        return Err(format!(
            "{folder:?} holds no .conflist, .conf or .json file: a network add-on puts one there"
        ));
    }
    let counted = if max_files == 0 { files.len() } else { max_files };
    files
        .iter()
        .take(counted)
        .map(|file| load_file(file).map_err(|reason| format!("{file:?}: {reason}")))
        .collect()
}

fn load_file(file: &Path) -> Result<NetworkList, String> {
    let bytes = read(file)?;
    let mut list = match file.extension() {
        Some(extension) if extension == "conflist" => NetworkList::parse(&bytes)?,
        _ => NetworkList::parse_single(&bytes)?,
    };
    let own_folder = file.with_file_name(&list.name);
    let more = match list.takes_more_plugins && own_folder.is_dir() {
        true => files_of(&own_folder, &["conf"])?,
        false => Vec::new(),
    };
    let plugin = |file: &PathBuf| {
        read(file).and_then(|bytes| PluginConf::parse(&bytes)).map_err(|reason| format!("{file:?}: {reason}"))
    };
    list.append(more.iter().map(plugin).collect::<Result<_, _>>()?)?;
    Ok(list)
}

/// Files with one of the extensions, in order of name. A missing folder has none.
fn files_of(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{folder:?} does not exist"));
        }
        other => other.map_err(|error| format!("cannot list {folder:?}: {error}"))?,
    };
    let wanted = |path: &PathBuf| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| wanted(p) && !p.is_dir()).collect();
    files.sort();
    Ok(files)
}

/// A file of an operator's, or why it cannot be had.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_FILE {
        return Err(format!("has {size} bytes, more than any configuration"));
    }
    fs::read(file).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"t"}}]}}"#)
    }

    fn names(folder: &Path, max: usize) -> Vec<String> {
        load(folder, max).unwrap().into_iter().map(|n| n.name).collect()
    }

    #[test]
    fn the_first_files_by_name_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("20-b.conflist"), list("b")).unwrap();
        fs::write(dir.path().join("10-a.conf"), r#"{"name":"a","type":"t"}"#).unwrap();
        fs::write(dir.path().join("30-c.json"), r#"{"name":"c","type":"t"}"#).unwrap();
        fs::write(dir.path().join("00-not.yaml"), "x").unwrap();
        fs::create_dir(dir.path().join("05-folder.conf")).unwrap();
        assert_eq!(names(dir.path(), 1), ["a"]);
        assert_eq!(names(dir.path(), 2), ["a", "b"]);
        assert_eq!(names(dir.path(), 0), ["a", "b", "c"]);
    }

    #[test]
    fn a_bad_file_is_named_only_when_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10-a.conflist"), list("a")).unwrap();
        fs::write(dir.path().join("20-bad.conflist"), "{").unwrap();
        assert_eq!(names(dir.path(), 1), ["a"]);
        let reason = load(dir.path(), 2).unwrap_err();
        assert!(reason.contains("20-bad.conflist"), "{reason}");
    }

    #[test]
    fn an_empty_and_a_missing_folder_differ() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path(), 1).unwrap_err().contains("no .conflist"));
        assert!(load(&dir.path().join("missing"), 1).unwrap_err().contains("does not exist"));
    }

    #[test]
    fn a_networks_own_folder_adds_plugins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10-a.conflist"), list("a")).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/2.conf"), r#"{"type":"second"}"#).unwrap();
        fs::write(dir.path().join("a/1.conf"), r#"{"type":"first"}"#).unwrap();
        let networks = load(dir.path(), 1).unwrap();
        let kinds: Vec<&str> = networks[0].plugins.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds, ["t", "first", "second"]);
    }
}
