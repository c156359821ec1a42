//! CDI devices: vendors' files are read anew for every container that asks for one, so that none is stale.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ContainerError;
use crate::config::RuntimeConfig;
use crate::error::chain;
use crate::linux::device;
use crate::proto::cri;
use crate::spec::{self, CdiDocument, CdiEdits, CdiName, SpecError};

/// A vendor's file is read up to this size: that of a node with many GPUs has some 100 KB.
const MAX_FILE: u64 = 4 << 20;

/// What the devices that a config names ask of its spec: of each file what it asks for any device, then what it asks for
/// that one. Blocking.
///
/// # Errors
/// A device that is in no file, or in two of one folder, or whose node is not there.
pub(super) fn edits(
    config: &cri::ContainerConfig,
    runtime: &RuntimeConfig,
) -> Result<Vec<CdiEdits>, ContainerError> {
    let wanted = spec::cdi_wanted(config).map_err(ContainerError::Spec)?;
    let Some((field, _)) = wanted.first() else { return Ok(Vec::new()) };
    if !runtime.enable_cdi {
        let why = "runtime.enable_cdi is off on this node".to_owned();
        return Err(ContainerError::Spec(SpecError::Unsupported { field: field.clone(), why }));
    }
    let files = Files::read(&runtime.cdi_spec_dirs);
    let mut edits = Vec::new();
    let mut used: Vec<&Path> = Vec::new();
    for (field, name) in &wanted {
        let refused = |why| ContainerError::Spec(SpecError::Unsupported { field: field.clone(), why });
        let file = files.find(name).map_err(|why| refused(format!("CDI device {name} {why}")))?;
        let of_file = Some(&file.document.edits).filter(|_| !used.contains(&file.path.as_path()));
        used.push(&file.path);
        for part in of_file.into_iter().chain(file.document.devices.get(&name.device)) {
            let look = |path: &Path| device::one(path).map_err(|error| chain(&error));
            let complete = part.complete(look).map_err(|why| {
                refused(format!("CDI device {name} of {} cannot be had: {why}", file.path.display()))
            })?;
            edits.push(complete);
        }
    }
    Ok(edits)
}

/// A sound file.
struct File {
    path: PathBuf,
    /// Which folder it is in; a later one's counts more.
    folder: usize,
    document: CdiDocument,
}

/// All files of the folders.
struct Files<'a> {
    folders: &'a [PathBuf],
    sound: Vec<File>,
    /// Why a file, or a whole folder, cannot be used.
    unsound: BTreeMap<PathBuf, String>,
}

impl<'a> Files<'a> {
    fn read(folders: &'a [PathBuf]) -> Self {
        let mut files = Self { folders, sound: Vec::new(), unsound: BTreeMap::new() };
        for (n, folder) in folders.iter().enumerate() {
            match names(folder) {
                Ok(paths) => paths.into_iter().for_each(|path| files.take(n, path)),
                Err(error) => drop(files.unsound.insert(folder.clone(), error.to_string())),
            }
        }
        files
    }

    fn take(&mut self, folder: usize, path: PathBuf) {
        match document(&path) {
            Ok(document) => self.sound.push(File { path, folder, document }),
            Err(why) => {
                tracing::warn!(file = %path.display(), "no CDI specification: {why}");
                self.unsound.insert(path, why);
            }
        }
    }

    /// The file that has the device: of several, that of the last folder.
    fn find(&self, name: &CdiName) -> Result<&File, String> {
        let has = |file: &&File| {
            file.document.kind == name.kind && file.document.devices.contains_key(&name.device)
        };
        let found: Vec<_> = self.sound.iter().filter(has).collect();
        let Some(last) = found.iter().map(|file| file.folder).max() else { return Err(self.nowhere()) };
        let mut best = found.into_iter().filter(|file| file.folder == last);
        match (best.next(), best.next()) {
            (Some(file), None) => Ok(file),
            (Some(one), Some(other)) => {
                Err(format!("is in both {} and {}", one.path.display(), other.path.display()))
            }
            (None, _) => Err(self.nowhere()),
        }
    }

    fn nowhere(&self) -> String {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        let mut text = format!("is in no specification of {}", folders.join(" or "));
        for (path, why) in &self.unsound {
            text.push_str(&format!("; {} cannot be used: {why}", path.display()));
        }
        text
    }
}

/// Files by name that may be specifications; a folder that is missing has none.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let wanted = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json" || kind == "yaml");
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| wanted(path) && !path.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

fn document(path: &Path) -> Result<CdiDocument, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("has {size} bytes, more than any specification"));
    }
    CdiDocument::parse(&fs::read_to_string(path).map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> cri::ContainerConfig {
        let cdi_devices = names.iter().map(|name| cri::CdiDevice { name: (*name).to_owned() }).collect();
        cri::ContainerConfig { cdi_devices, ..Default::default() }
    }

    fn file(value: &str, device: &str) -> String {
        format!(
            r#"{{"cdiVersion": "1.0.0", "kind": "v/c", "containerEdits": {{"env": ["FILE={value}"]}},
                "devices": [{{"name": "{device}", "containerEdits": {{"env": ["DEVICE={value}"]}}}}]}}"#
        )
    }

    #[test]
    fn the_last_folder_counts_and_two_of_one_are_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "missing"].map(|name| dir.path().join(name));
        fs::create_dir(&folders[0]).unwrap();
        fs::create_dir(&folders[1]).unwrap();
        let runtime = RuntimeConfig { cdi_spec_dirs: folders.to_vec(), ..Default::default() };
        let found = |names: &[&str]| edits(&config(names), &runtime).map_err(|error| chain(&error));
        let write =
            |folder: usize, name: &str, text: &str| fs::write(folders[folder].join(name), text).unwrap();

        let error = found(&["v/c=x"]).unwrap_err();
        assert!(error.contains("v/c=x is in no specification of") && error.contains("/missing"), "{error}");
        write(0, "1.json", &file("first", "x"));
        write(0, "ignored.txt", &file("ignored", "x"));
        write(0, "bad.yaml", "{");
        let first = found(&["v/c=x"]).unwrap();
        assert_eq!(first.len(), 2);
        // A bad file is no other's trouble, and is told where something is missed.
        let error = found(&["v/c=y"]).unwrap_err();
        assert!(error.contains("v/c=y") && error.contains("bad.yaml cannot be used"), "{error}");

        write(0, "2.yaml", &file("second", "x"));
        let error = found(&["v/c=x"]).unwrap_err();
        assert!(error.contains("1.json") && error.contains("2.yaml"), "{error}");
        write(1, "3.json", &file("third", "x"));
        let third = found(&["v/c=x"]).unwrap();
        assert!(third != first && third.len() == 2);
        // What a file asks for any of its devices, it asks once.
        write(
            1,
            "3.json",
            &file("third", "x").replace("}]}", r#"}, {"name": "y", "containerEdits": {"env": ["Y=1"]}}]}"#),
        );
        assert_eq!(found(&["v/c=x", "v/c=y"]).unwrap().len(), 3);

        let off = RuntimeConfig { enable_cdi: false, ..runtime.clone() };
        let error = chain(&edits(&config(&["v/c=x"]), &off).unwrap_err());
        assert!(error.contains("config.CDI_devices[0].name: runtime.enable_cdi"), "{error}");
        assert_eq!(edits(&config(&[]), &off).unwrap(), []);
    }

    #[test]
    fn a_node_that_is_not_there_is_told_with_its_device_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"cdiVersion": "1.0.0", "kind": "v/c", "devices": [{"name": "x", "containerEdits":
            {"deviceNodes": [{"path": "/dev/no-such-device"}]}}]}"#;
        fs::write(dir.path().join("1.json"), text).unwrap();
        let runtime = RuntimeConfig { cdi_spec_dirs: vec![dir.path().into()], ..Default::default() };
        let error = chain(&edits(&config(&["v/c=x"]), &runtime).unwrap_err());
        for word in ["config.CDI_devices[0].name", "v/c=x", "1.json", "/dev/no-such-device"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
