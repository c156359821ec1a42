//! The folders of pods and containers.

use std::io;
use std::path::Path;

use super::super::FsckError;
use super::super::seen::Folder;
use crate::config::Config;
use crate::id::is_id;

/// Folders that have one for each pod or container, below root and state.
const IN_ROOT: [&str; 2] = ["sandboxes", "containers"];
pub(super) const IN_STATE: [&str; 4] = ["sandboxes", "containers", "image-volumes", "views"];

pub(super) fn folders(config: &Config) -> Result<Vec<Folder>, FsckError> {
    let in_root = IN_ROOT.iter().map(|place| config.root.join(place));
    let in_state = IN_STATE.iter().map(|place| config.state.join(place));
    let mut found = Vec::new();
    for place in in_root.chain(in_state) {
        found.extend(named_in(&place)?);
    }
    Ok(found)
}

/// What has an id for a name, and is a folder itself.
fn named_in(place: &Path) -> Result<Vec<Folder>, FsckError> {
    let failed = |source| FsckError::File { action: "list", path: place.to_owned(), source };
    let entries = match std::fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some(id) = entry.file_name().to_str().filter(|name| is_id(name)).map(str::to_owned) else {
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            found.push(Folder { restoring: path.join("restore").exists(), path, id });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_folders_that_are_called_as_an_id_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            Config { root: dir.path().join("root"), state: dir.path().join("state"), ..Config::default() };
        assert_eq!(folders(&config).unwrap(), []);
        let ids = ["a", "b", "c"].map(|letter| letter.repeat(64));
        fs::create_dir_all(config.root.join("sandboxes").join(&ids[0])).unwrap();
        fs::create_dir_all(config.root.join("containers").join(&ids[1]).join("restore")).unwrap();
        fs::create_dir_all(config.state.join("views").join(&ids[2])).unwrap();
        fs::create_dir_all(config.root.join("containers/no-id")).unwrap();
        fs::create_dir_all(config.root.join("elsewhere").join(&ids[0])).unwrap();
        fs::write(config.root.join("containers").join(&ids[2]), "a file").unwrap();
        std::os::unix::fs::symlink(dir.path(), config.root.join("sandboxes").join(&ids[1])).unwrap();
        let seen = folders(&config).unwrap();
        let seen: Vec<_> = seen.iter().map(|folder| (folder.id.as_str(), folder.restoring)).collect();
        assert_eq!(seen, [(ids[0].as_str(), false), (&ids[1], true), (&ids[2], false)]);
    }
}
