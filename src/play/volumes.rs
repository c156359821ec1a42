//! A pod's volumes on the node's disk and in its memory, from their making to their removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::PlayError;
use super::manifest::{Container, HostAlias, HostPathKind, Pod, Volume, VolumeSource};
use crate::linux::{file, mount};
use crate::proto::cri;

/// Mode of an emptyDir: any user of the pod may write (the kubelet's choice).
const OPEN: u32 = 0o777;
/// With fsGroup, new files belong to the folder's group.
const SET_GROUP_ID: u32 = 0o2000;

/// What a pod has on the node while it runs. [`Volumes::remove`] takes it away; dropped without, it stays.
#[derive(Debug)]
pub struct Volumes {
    /// `<data-dir>/<uid>`.
    folder: PathBuf,
    /// Where each volume is on the node.
    places: Vec<(String, PathBuf)>,
    /// A hosts file of our own, where the pod adds names.
    hosts: Option<PathBuf>,
}

impl Volumes {
    /// Makes all volumes of the pod under `data_dir`.
    ///
    /// # Errors
    /// When one cannot be made, or a host path is not what it must be. What was made until then is removed.
    pub fn make(pod: &Pod, data_dir: &Path) -> Result<Self, PlayError> {
        let mut volumes = Self::of(pod, data_dir);
        let made = make_folder(&volumes.folder, 0o750).and_then(|()| volumes.fill(pod));
        if let Err(error) = made {
            volumes.remove()?;
            return Err(error);
        }
        Ok(volumes)
    }

    /// What there would be of this pod, for its removal.
    pub fn of(pod: &Pod, data_dir: &Path) -> Self {
        Self { folder: data_dir.join(&pod.uid), places: Vec::new(), hosts: None }
    }

    fn fill(&mut self, pod: &Pod) -> Result<(), PlayError> {
        for volume in &pod.volumes {
            let place = self.folder.join("volumes").join(&volume.name);
            let place =
                match &volume.source {
                    VolumeSource::HostPath { path, kind } => {
                        host_path(path, *kind).map_err(|why| wrong(volume, why))?;
                        path.clone()
                    }
                    VolumeSource::EmptyDir => {
                        make_folder(&place, OPEN)?;
                        give_to_group(&place, pod.security.fs_group)?;
                        place
                    }
                    VolumeSource::Memory { size_limit } => {
                        make_folder(&place, OPEN)?;
                        // Noted before it is mounted: an unmount of what is not mounted does no harm.
                        let size = size_limit.map(|limit| format!("size={}", limit.units()));
                        let options: Vec<_> = size.into_iter().chain([format!("mode={OPEN:o}")]).collect();
                        mount::mount("tmpfs", "tmpfs", &place, &options).map_err(|source| {
                            PlayError::Mount { action: "mount memory at", path: place.clone(), source }
                        })?;
                        give_to_group(&place, pod.security.fs_group)?;
                        place
                    }
                };
            self.places.push((volume.name.clone(), place));
        }
        Ok(())
    }

    /// Writes the pod's own /etc/hosts, as the kubelet does for a pod that adds names to it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_hosts(&mut self, aliases: &[HostAlias], hostname: &str, ip: &str) -> Result<(), PlayError> {
        if aliases.is_empty() {
            return Ok(());
        }
        let path = self.folder.join("hosts");
        fs::write(&path, hosts_file(aliases, hostname, ip)).map_err(failed("write", &path))?;
        self.hosts = Some(path);
        Ok(())
    }

    /// What a container mounts.
    ///
    /// # Errors
    /// When a `subPath` leads out of its volume or cannot be made.
    pub fn mounts(&self, container: &Container) -> Result<Vec<cri::Mount>, PlayError> {
        let mut mounts = Vec::new();
        for mount in &container.mounts {
            let place = self.places.iter().find(|(name, _)| *name == mount.volume);
            let (name, root) = place.expect("the manifest was checked for volumes that are not there");
            let host_path = match &mount.sub_path {
                Some(sub_path) => {
                    within(root, sub_path).map_err(|why| PlayError::Volume { volume: name.clone(), why })?
                }
                None => root.clone(),
            };
            mounts.push(cri::Mount {
                container_path: mount.container_path.clone(),
                host_path: host_path.to_string_lossy().into_owned(),
                readonly: mount.read_only,
                propagation: mount.propagation.into(),
                ..Default::default()
            });
        }
        if let Some(hosts) = &self.hosts
            && !mounts.iter().any(|mount| mount.container_path == "/etc/hosts")
        {
            mounts.push(cri::Mount {
                container_path: "/etc/hosts".into(),
                host_path: hosts.to_string_lossy().into_owned(),
                ..Default::default()
            });
        }
        Ok(mounts)
    }

    /// The folder of it all.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Unmounts and deletes what was made; host paths stay. Fails rather than deletes through a mount.
    ///
    /// # Errors
    /// When something cannot be unmounted or deleted.
    pub fn remove(&self) -> Result<(), PlayError> {
        let inner = self.folder.join("volumes");
        for entry in fs::read_dir(&inner).into_iter().flatten().flatten() {
            let path = entry.path();
            mount::unmount_all(&path).map_err(|source| PlayError::Mount {
                action: "unmount",
                path: path.clone(),
                source,
            })?;
        }
        file::remove_tree(&self.folder).map_err(failed("delete", &self.folder))
    }
}

fn wrong(volume: &Volume, why: String) -> PlayError {
    PlayError::Volume { volume: volume.name.clone(), why }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PlayError {
    move |source| PlayError::File { action, path: path.to_owned(), source }
}

/// A folder of exactly this mode, whatever the umask.
fn make_folder(path: &Path, mode: u32) -> Result<(), PlayError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(failed("make", path))
}

fn give_to_group(path: &Path, group: Option<i64>) -> Result<(), PlayError> {
    let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else { return Ok(()) };
    chown(path, None, Some(group))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(OPEN | SET_GROUP_ID)))
        .map_err(failed("give to its group", path))
}

/// Checks what a host path is, and makes it where its type says so.
fn host_path(path: &Path, kind: HostPathKind) -> Result<(), String> {
    use HostPathKind::*;
    let there = fs::metadata(path);
    match (kind, &there) {
        (Unchecked, _) => return Ok(()),
        (DirectoryOrCreate, Err(_)) => return fs::create_dir_all(path).map_err(|error| told(path, &error)),
        (FileOrCreate, Err(_)) => return fs::write(path, "").map_err(|error| told(path, &error)),
        _ => {}
    }
    let found = there.map_err(|error| told(path, &error))?.file_type();
    let (right, expected) = match kind {
        Unchecked => (true, "anything"),
        DirectoryOrCreate | Directory => (found.is_dir(), "a directory"),
        FileOrCreate | File => (found.is_file(), "a file"),
        Socket => (found.is_socket(), "a socket"),
        CharDevice => (found.is_char_device(), "a character device"),
        BlockDevice => (found.is_block_device(), "a block device"),
    };
    if right { Ok(()) } else { Err(format!("{} is not {expected}", path.display())) }
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// A path inside a volume, made if need be. Links are followed, but not out of the volume.
fn within(root: &Path, sub_path: &Path) -> Result<PathBuf, String> {
    let root = fs::canonicalize(root).map_err(|error| told(root, &error))?;
    let mut place = root.clone();
    for part in sub_path.components() {
        let next = place.join(part);
        if fs::symlink_metadata(&next).is_err() {
            fs::create_dir(&next)
                .and_then(|()| fs::set_permissions(&next, Permissions::from_mode(OPEN)))
                .map_err(|error| told(&next, &error))?;
        }
        place = fs::canonicalize(&next).map_err(|error| told(&next, &error))?;
        if !place.starts_with(&root) {
            return Err(format!("subPath {} leads out of the volume", sub_path.display()));
        }
    }
    Ok(place)
}

fn hosts_file(aliases: &[HostAlias], hostname: &str, ip: &str) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if !ip.is_empty() {
        text.push_str(&format!("{ip}\t{hostname}\n"));
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink("a", root.join("in")).unwrap();
        let made = within(&root, Path::new("a/b")).unwrap();
        assert!(made.ends_with("volume/a/b") && made.is_dir());
        assert_eq!(within(&root, Path::new("in/b")).unwrap(), made);
        assert!(within(&root, Path::new("out/x")).unwrap_err().contains("leads out"));
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn host_paths_are_what_they_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let folder = dir.path().join("a/b");
        assert!(host_path(&file, HostPathKind::File).is_err());
        host_path(&file, HostPathKind::FileOrCreate).unwrap();
        host_path(&file, HostPathKind::File).unwrap();
        assert!(host_path(&file, HostPathKind::Directory).unwrap_err().ends_with("is not a directory"));
        host_path(&folder, HostPathKind::DirectoryOrCreate).unwrap();
        host_path(&folder, HostPathKind::Directory).unwrap();
        host_path(Path::new("/dev/null"), HostPathKind::CharDevice).unwrap();
        assert!(host_path(Path::new("/dev/null"), HostPathKind::BlockDevice).is_err());
        host_path(&dir.path().join("none"), HostPathKind::Unchecked).unwrap();
    }

    #[test]
    fn added_names_come_after_the_pods_own() {
        let alias = HostAlias { ip: "10.1.2.3".into(), hostnames: vec!["a".into(), "b.c".into()] };
        let text = hosts_file(&[alias], "pod", "10.0.0.9");
        assert!(text.ends_with("10.0.0.9\tpod\n10.1.2.3\ta\tb.c\n"), "{text}");
    }
}
