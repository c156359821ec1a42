//! libcni's cache: what was attached, and how, so that DEL is told the same even with the configuration gone.
//!
//! The format is libcni's (`cniCacheV1`, `<cache_dir>/results/<network>-<container>-<interface>`), so that pods can
//! be taken over from, and given back to, the built-in plugin. Written before ADD too, then without a result: a
//! network that has no file was never asked to attach.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::NetworkError;
use super::conflist::NetworkList;
use crate::linux::file;

const KIND: &str = "cniCacheV1";

/// One network of one container; fields in libcni's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    kind: String,
    pub container_id: String,
    #[serde(with = "base64_bytes")]
    pub config: Vec<u8>,
    pub if_name: String,
    pub network_name: String,
    #[serde(rename = "netns", default, skip_serializing_if = "String::is_empty")]
    pub netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
}

impl Entry {
    pub fn new(network_name: &str, container_id: &str, if_name: &str, config: &[u8]) -> Self {
        Self {
            kind: KIND.into(),
            container_id: container_id.into(),
            config: config.into(),
            if_name: if_name.into(),
            network_name: network_name.into(),
            netns: String::new(),
            cni_args: None,
            capability_args: None,
            result: None,
        }
    }

    fn path(&self, cache_dir: &Path) -> PathBuf {
        results(cache_dir).join(format!("{}-{}-{}", self.network_name, self.container_id, self.if_name))
    }

    /// Writes the file whole or not at all.
    pub fn store(&self, cache_dir: &Path) -> Result<(), NetworkError> {
        let path = self.path(cache_dir);
        let folder = results(cache_dir);
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let sibling = folder.join(format!("{}{}", draft_prefix(&self.container_id), self.if_name));
            let bytes = serde_json::to_vec(self)?;
            file::replace(&path, &sibling, 0o600, |file| file.write_all(&bytes))
        };
        write().map_err(|source| NetworkError::Cache { action: "write", path: path.clone(), source })
    }

    /// Forgets the attachment; one that is gone is fine.
    pub fn remove(&self, cache_dir: &Path) -> Result<(), NetworkError> {
        remove_file(&self.path(cache_dir))
    }
}

/// Removes a file of the cache; one that is gone is fine.
pub(super) fn remove_file(path: &Path) -> Result<(), NetworkError> {
    file::remove(path).map_err(|source| NetworkError::Cache {
        action: "remove",
        path: path.to_owned(),
        source,
    })
}

/// What the cache tells of one container.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// In order of interface.
    pub attachments: Vec<(Entry, NetworkList)>,
    /// Files that are the container's by name and tell nothing: the loaded configuration must speak for them.
    pub unreadable: Vec<PathBuf>,
    /// Files that were being written when their daemon was killed: what they were to replace speaks.
    pub drafts: Vec<PathBuf>,
}

/// What the names of a container's files begin with until they are written whole. No network's name begins so (CNI
/// spec, "Configuration format").
fn draft_prefix(container_id: &str) -> String {
    format!(".{container_id}-")
}

/// Every file of the cache, in order of name.
pub(super) fn files(cache_dir: &Path) -> Result<Vec<PathBuf>, NetworkError> {
    let folder = results(cache_dir);
    let files = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => {
            other.map_err(|source| NetworkError::Cache { action: "list", path: folder.clone(), source })?
        }
    };
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    Ok(paths)
}

/// What a file of the cache tells, or why it tells nothing.
pub(super) fn read(path: &Path) -> Result<(Entry, NetworkList), String> {
    fs::read(path).map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes))
}

/// Every attachment of a container.
pub(super) fn of_container(cache_dir: &Path, container_id: &str) -> Result<Cached, NetworkError> {
    let (infix, prefix) = (format!("-{container_id}-"), draft_prefix(container_id));
    let mut cached = Cached::default();
    for path in files(cache_dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&prefix) {
            cached.drafts.push(path);
            continue;
        }
        if !name.contains(&infix) {
            continue;
        }
        match read(&path) {
            Ok((entry, list)) if entry.container_id == container_id => cached.attachments.push((entry, list)),
            // Another container's, whose network has this one's id in its name.
            Ok(_) => {}
            Err(reason) => {
                tracing::warn!(file = %path.display(), "CNI cache file left aside: {reason}");
                cached.unreadable.push(path);
            }
        }
    }
    cached.attachments.sort_by(|(a, _), (b, _)| a.if_name.cmp(&b.if_name));
    Ok(cached)
}

pub(super) fn parse(bytes: &[u8]) -> Result<(Entry, NetworkList), String> {
    let entry: Entry = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if entry.kind != KIND {
        return Err(format!("kind is {:?}, not {KIND:?}", entry.kind));
    }
    // Both are parts of a file name that will be removed.
    let is_name = |text: &str| !text.is_empty() && !text.contains('/');
    if !is_name(&entry.network_name) || !is_name(&entry.if_name) {
        return Err("network or interface without a name".into());
    }
    let list = match NetworkList::parse(&entry.config) {
        Ok(list) if !list.plugins.is_empty() => list,
        _ => NetworkList::parse_single(&entry.config)
            .map_err(|reason| format!("its configuration: {reason}"))?,
    };
    Ok((entry, list))
}

fn results(cache_dir: &Path) -> PathBuf {
    cache_dir.join("results")
}

/// Go writes `[]byte` as base64.
mod base64_bytes {
    use super::*;

    pub fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Written by libcni 1.3.0 for the network below and a plugin that gives one address.
    const GOLDEN: &str = include_str!("golden/libcni-1.3.0.json");
    const ID: &str = "0123456789012345678901234567890123456789012345678901234567890123";
    const LIST: &[u8] = br#"{"name":"net","plugins":[{"type":"t"}]}"#;

    #[test]
    fn libcnis_own_file_is_read_and_written_byte_for_byte() {
        let (entry, list) = parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!((entry.container_id.as_str(), entry.netns.as_str()), (ID, "/proc/self/ns/net"));
        assert_eq!(list.plugins[0].kind, "first");
        assert_eq!(entry.cni_args.as_ref().unwrap()[0], ("K8S_POD_NAME".into(), "web".into()));
        assert_eq!(entry.result.as_ref().unwrap()["ips"][0]["address"], "10.9.0.5/24");
        assert_eq!(serde_json::to_string(&entry).unwrap(), GOLDEN);
    }

    #[test]
    fn a_file_of_before_netns_was_kept_is_read() {
        let text = GOLDEN.replace(r#""netns":"/proc/self/ns/net","#, "");
        assert_eq!(serde_json::to_string(&parse(text.as_bytes()).unwrap().0).unwrap(), text);
    }

    #[test]
    fn entries_of_one_container_are_found_in_order_and_bad_files_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(of_container(dir.path(), "abc").unwrap().attachments.is_empty());
        for (network, id, interface) in
            [("b", "abc", "eth1"), ("a-abc-x", "abc", "eth0"), ("a", "other", "eth0")]
        {
            Entry::new(network, id, interface, LIST).store(dir.path()).unwrap();
        }
        Entry::new("n", "abc", "eth2", b"{}").store(dir.path()).unwrap();
        fs::write(dir.path().join("results/n-abc-eth3"), "{").unwrap();
        fs::write(dir.path().join("results/n-abc-eth4"), GOLDEN).unwrap();
        let cached = of_container(dir.path(), "abc").unwrap();
        let names: Vec<&str> = cached.attachments.iter().map(|(e, _)| e.network_name.as_str()).collect();
        assert_eq!(names, ["a-abc-x", "b"]);
        let unreadable: Vec<_> =
            cached.unreadable.iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(unreadable, ["n-abc-eth2", "n-abc-eth3"]);
        for _ in 0..2 {
            cached.attachments[0].0.remove(dir.path()).unwrap();
        }
        assert_eq!(of_container(dir.path(), "abc").unwrap().attachments.len(), 1);
    }

    #[test]
    fn storing_again_replaces_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut entry = Entry::new("net", "abc", "eth0", LIST);
        entry.store(dir.path()).unwrap();
        entry.result = json!({"cniVersion": "1.0.0"}).as_object().cloned();
        entry.store(dir.path()).unwrap();
        assert_eq!(of_container(dir.path(), "abc").unwrap().attachments[0].0, entry);
        assert_eq!(fs::read_dir(dir.path().join("results")).unwrap().count(), 1);
    }

    #[test]
    fn a_draft_is_its_containers_and_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let whole = Entry::new("net", "abc", "eth0", LIST);
        whole.store(dir.path()).unwrap();
        let draft = dir.path().join("results/.abc-eth0");
        fs::rename(whole.path(dir.path()), &draft).unwrap();
        fs::write(dir.path().join("results/.abcd-eth0"), "{").unwrap();
        let cached = of_container(dir.path(), "abc").unwrap();
        assert_eq!((cached.attachments.len(), cached.unreadable.len(), cached.drafts), (0, 0, vec![draft]));
    }

    #[test]
    fn a_file_that_would_lead_elsewhere_is_refused() {
        for bad in [r#""networkName":"../x""#, r#""networkName":"""#] {
            let text = GOLDEN.replace(r#""networkName":"net""#, bad);
            parse(text.as_bytes()).unwrap_err();
        }
        parse(GOLDEN.replace("cniCacheV1", "cniCacheV2").as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
