//! The names that are there and the images behind them: containerd's image records, in memory.
//!
//! Fed with one record at a time. An image is there as long as it has a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Image;
use super::record::Pin;
use crate::id::{Digest, ImageId};
use crate::registry::Reference;

/// What a record names.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The image, without its names.
    pub image: Arc<Image>,
    pub pin: Pin,
}

/// Names and images.
#[derive(Debug, Default)]
pub struct Index {
    names: BTreeMap<String, Entry>,
    images: BTreeMap<ImageId, Arc<Image>>,
}

impl Index {
    /// Enters a record, in place of the one of that name.
    pub fn put(&mut self, name: &str, entry: Entry) {
        let id = entry.image.id.clone();
        let before = self.names.insert(name.to_owned(), entry);
        if let Some(before) = before.filter(|before| before.image.id != id) {
            self.compose(&before.image.id);
        }
        self.compose(&id);
    }

    /// Drops a name; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(entry) = self.names.remove(name) else { return false };
        self.compose(&entry.image.id);
        true
    }

    /// All names, as in containerd.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The names of one image.
    pub fn names_of(&self, id: &ImageId) -> Vec<String> {
        let same = self.names.iter().filter(|(_, entry)| entry.image.id == *id);
        same.map(|(name, _)| name.clone()).collect()
    }

    /// An entry whose name points at this manifest or index.
    pub fn by_target(&self, target: &Digest) -> Option<Arc<Image>> {
        self.names
            .values()
            .find(|entry| entry.image.target.digest == *target)
            .map(|entry| entry.image.clone())
    }

    pub fn all(&self) -> Vec<Arc<Image>> {
        self.images.values().cloned().collect()
    }

    /// By id, name, reference, or a prefix of the id that no other image has.
    pub fn find(&self, text: &str) -> Option<Arc<Image>> {
        if let Some(image) = self.images.get(text) {
            return Some(image.clone());
        }
        let of_name =
            |name: &str| self.names.get(name).and_then(|entry| self.images.get(&entry.image.id)).cloned();
        let named = of_name(text).or_else(|| of_name(&text.parse::<Reference>().ok()?.to_string()));
        named.or_else(|| self.by_prefix(text))
    }

    fn by_prefix(&self, text: &str) -> Option<Arc<Image>> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let from = ImageId::new(format!("sha256:{hex}"));
        let mut matching =
            self.images.range(from.clone()..).take_while(|(id, _)| id.as_str().starts_with(from.as_str()));
        match (matching.next(), matching.next()) {
            (Some((_, image)), None) => Some(image.clone()),
            _ => None,
        }
    }

    /// Makes the image anew of all its names.
    fn compose(&mut self, id: &ImageId) {
        let entries = || self.names.iter().filter(|(_, entry)| entry.image.id == *id);
        let Some((_, first)) = entries().next() else {
            self.images.remove(id);
            return;
        };
        let mut image =
            Image { pinned: entries().any(|(_, entry)| entry.pin == Pin::Pinned), ..(*first.image).clone() };
        for reference in entries().filter_map(|(name, _)| name.parse::<Reference>().ok()) {
            let list =
                if reference.digest.is_some() { &mut image.repo_digests } else { &mut image.repo_tags };
            list.push(reference.to_string());
        }
        for list in [&mut image.repo_tags, &mut image.repo_digests] {
            list.sort();
            list.dedup();
        }
        self.images.insert(id.clone(), Arc::new(image));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::containerd::Descriptor;
    use crate::id::SnapshotKey;

    fn entry(content: &str) -> Entry {
        let digest = Digest::of(content.as_bytes());
        let target = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: 1,
            annotations: BTreeMap::new(),
        };
        let image = Image {
            id: ImageId::from(&digest),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            target,
            chain_id: SnapshotKey::new(""),
            size: 1,
            config: Default::default(),
            pinned: false,
            checkpoint: false,
        };
        Entry { image: Arc::new(image), pin: Pin::Collectable }
    }

    fn filled() -> (Index, ImageId) {
        let mut index = Index::default();
        let one = entry("one");
        let id = one.image.id.clone();
        let by_digest = format!("docker.io/library/nginx@{}", one.image.target.digest);
        for name in ["docker.io/library/nginx:1", &by_digest, id.as_str()] {
            index.put(name, one.clone());
        }
        index.put("docker.io/library/other:latest", entry("two"));
        (index, id)
    }

    #[test]
    fn an_image_is_found_by_all_its_names_and_prefixes() {
        let (index, id) = filled();
        let hex = &id.as_str()[7..];
        let digest = format!("nginx@{id}");
        for text in [
            "nginx:1",
            "docker.io/library/nginx:1",
            id.as_str(),
            hex,
            &hex[..12],
            &id.as_str()[..20],
            &digest,
        ] {
            assert_eq!(index.find(text).expect(text).id, id, "{text}");
        }
        for text in ["", "sha256:", "nginx", "nginx:2", "zz", "s"] {
            assert!(index.find(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let (index, id) = filled();
        let image = index.find(id.as_str()).expect("there");
        assert_eq!(image.repo_tags, ["docker.io/library/nginx:1"]);
        assert_eq!(image.repo_digests, [format!("docker.io/library/nginx@{id}")]);
    }

    #[test]
    fn a_prefix_of_two_images_finds_none() {
        let mut index = Index::default();
        for n in 0..40 {
            index.put(&format!("n{n}"), entry(&n.to_string()));
        }
        let shared = (0..16).map(|digit| format!("{digit:x}")).find(|prefix| {
            index.all().iter().filter(|image| image.id.as_str()[7..].starts_with(prefix)).count() > 1
        });
        assert!(index.find(&shared.expect("40 digests share a first digit")).is_none());
    }

    #[test]
    fn a_name_that_moves_leaves_its_old_image() {
        let (mut index, id) = filled();
        index.put("docker.io/library/nginx:1", entry("three"));
        assert!(index.find(id.as_str()).expect("has other names").repo_tags.is_empty());
        for name in index.names_of(&id) {
            index.remove(&name);
        }
        assert!(index.find(id.as_str()).is_none());
        assert!(!index.remove("never there"));
        assert_eq!(index.all().len(), 2);
    }
}
