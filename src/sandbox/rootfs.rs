//! A snapshot's mounts as a pod in a user namespace must see them: files of root are its root's.
//!
//! From containerd 2.0 on a snapshotter may do so itself: its mounts carry the mapping, and the shim follows it. For
//! all others each layer is shown once more with mapped ids, for as long as the rootfs is being mounted. An overlay
//! keeps hold of its layers: the views go right after.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::containerd::SnapshotMount;
use crate::error::chain;
use crate::linux::{LinuxError, idmap, mount};
use crate::spec::UserNamespace;

/// A rootfs that can be mounted until [`Rootfs::release`].
pub struct Rootfs {
    mounts: Vec<SnapshotMount>,
    /// The owner's state folder, if anything is mounted there.
    state: Option<PathBuf>,
}

/// What is to be shown with mapped ids, and the mounts that then make the rootfs.
#[derive(Debug, PartialEq)]
struct Plan {
    views: Vec<View>,
    mounts: Vec<SnapshotMount>,
}

#[derive(Debug, PartialEq)]
struct View {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl Rootfs {
    /// Maps the ids of `mounts` by the namespace at `users`; without one they stay as they are. `state` is the state
    /// folder of the sandbox or container.
    ///
    /// # Errors
    /// Mounts that are neither overlays nor binds, and what the kernel refuses.
    pub async fn new(
        mounts: Vec<SnapshotMount>,
        users: Option<PathBuf>,
        state: PathBuf,
    ) -> Result<Self, LinuxError> {
        let Some(users) = users else { return Ok(Self { mounts, state: None }) };
        let broken_off = LinuxError::on("map the layers' ids by", &users);
        let show = move || {
            let plan = plan(mounts, &views(&state))?;
            if plan.views.is_empty() {
                return Ok(Self { mounts: plan.mounts, state: None });
            }
            // What a killed process may have left.
            Self::unmount(&state)?;
            let users = File::open(&users).map_err(LinuxError::on("open the user namespace", &users))?;
            let shown = plan
                .views
                .iter()
                .try_for_each(|view| idmap::show(&view.source, &view.target, &users, view.read_only));
            match shown {
                Ok(()) => Ok(Self { mounts: plan.mounts, state: Some(state) }),
                Err(error) => Self::unmount(&state).and(Err(error)),
            }
        };
        tokio::task::spawn_blocking(show)
            .await
            .unwrap_or_else(|why| Err(broken_off(std::io::Error::other(why))))
    }

    /// The mounts, for whoever mounts them, with the SELinux label that all files there are to have; none if empty.
    pub fn labelled(&self, label: &str) -> Vec<SnapshotMount> {
        let mut mounts = self.mounts.clone();
        if !label.is_empty() {
            mounts.iter_mut().for_each(|mount| mount.options.push(format!("context={label:?}")));
        }
        mounts
    }

    /// Takes the views away: the rootfs is mounted now, or will not be.
    pub fn release(self) {
        let Some(state) = self.state else { return };
        if let Err(error) = Self::unmount(&state) {
            tracing::warn!("views of layers stay mounted in {}: {}", state.display(), chain(&error));
        }
    }

    /// Unmounts all views in a state folder, before that is removed. Nothing there is fine.
    pub fn unmount(state: &Path) -> Result<(), LinuxError> {
        mount::unmount_inside(&views(state))
    }
}

/// Gives the upper folder of a fresh snapshot to the pod's root, where the snapshotter has not: it is the root folder
/// that the pod sees. Only the owner of one folder changes.
pub fn give_to_root(mounts: &[SnapshotMount], users: &UserNamespace) -> Result<(), LinuxError> {
    let upper = mounts
        .iter()
        .filter(|mount| !is_mapped(mount))
        .filter_map(|mount| mount.options.iter().find_map(|option| option.strip_prefix("upperdir=")));
    for upper in upper {
        let (uid, gid) = (users.ids.uids.outside, users.ids.gids.outside);
        std::os::unix::fs::lchown(upper, Some(uid), Some(gid))
            .map_err(LinuxError::on("give to the pod's root", Path::new(upper)))?;
    }
    Ok(())
}

fn views(state: &Path) -> PathBuf {
    state.join("layers")
}

/// Whether whoever mounts this maps its ids.
fn is_mapped(mount: &SnapshotMount) -> bool {
    mount.options.iter().any(|option| option.starts_with("uidmap="))
}

fn plan(mounts: Vec<SnapshotMount>, folder: &Path) -> Result<Plan, LinuxError> {
    let mut views = Vec::new();
    let mut show = |source: &str, read_only| {
        let target = folder.join(views.len().to_string());
        let name = target.display().to_string();
        views.push(View { source: source.into(), target, read_only });
        name
    };
    let mut map = |mut mount: SnapshotMount| {
        match mount.kind.as_str() {
            _ if is_mapped(&mount) => {}
            "overlay" => {
                for option in &mut mount.options {
                    let Some(layers) = option.strip_prefix("lowerdir=") else { continue };
                    let shown: Vec<_> = layers.split(':').map(|layer| show(layer, true)).collect();
                    *option = format!("lowerdir={}", shown.join(":"));
                }
            }
            "bind" => {
                let read_only = mount.options.iter().any(|option| option == "ro");
                mount.source = show(&mount.source, read_only);
            }
            _ => {
                let source = std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    "only overlays and binds can be mapped; use the overlayfs snapshotter",
                );
                let object = format!("the snapshot's {} mount", mount.kind);
                return Err(LinuxError::Call { action: "map the ids of", object, source });
            }
        }
        Ok(mount)
    };
    let mounts = mounts.into_iter().map(&mut map).collect::<Result<_, _>>()?;
    Ok(Plan { views, mounts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> SnapshotMount {
        SnapshotMount {
            kind: kind.into(),
            source: source.into(),
            target: String::new(),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }

    fn view(source: &str, target: &str, read_only: bool) -> View {
        View { source: source.into(), target: target.into(), read_only }
    }

    #[test]
    fn layers_are_shown_with_mapped_ids_and_the_upper_folder_is_not() {
        let overlay = |lower: &str| {
            mount("overlay", "overlay", &["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", lower])
        };
        let planned = plan(vec![overlay("lowerdir=/s/2/fs:/s/1/fs")], Path::new("/v")).unwrap();
        assert_eq!(planned.mounts, [overlay("lowerdir=/v/0:/v/1")]);
        assert_eq!(planned.views, [view("/s/2/fs", "/v/0", true), view("/s/1/fs", "/v/1", true)]);
    }

    #[test]
    fn a_bind_is_shown_as_a_whole() {
        for (option, read_only) in [("rw", false), ("ro", true)] {
            let planned = plan(vec![mount("bind", "/s/1/fs", &["rbind", option])], Path::new("/v")).unwrap();
            assert_eq!(planned.mounts, [mount("bind", "/v/0", &["rbind", option])]);
            assert_eq!(planned.views, [view("/s/1/fs", "/v/0", read_only)]);
        }
    }

    #[test]
    fn a_label_is_one_more_option_of_every_mount() {
        let mounts = vec![mount("overlay", "overlay", &["lowerdir=/a:/b"]), mount("bind", "/c", &[])];
        let rootfs = Rootfs { mounts: mounts.clone(), state: None };
        assert_eq!(rootfs.labelled(""), mounts);
        let labelled = rootfs.labelled("u:r:t:s0:c1,c2");
        let label = "context=\"u:r:t:s0:c1,c2\"";
        assert_eq!(labelled[0], mount("overlay", "overlay", &["lowerdir=/a:/b", label]));
        assert_eq!(labelled[1], mount("bind", "/c", &[label]));
    }

    #[test]
    fn what_a_snapshotter_has_mapped_is_left_to_it() {
        let mapped = mount("overlay", "overlay", &["uidmap=0:1:2", "gidmap=0:1:2", "lowerdir=/a:/b"]);
        let planned = plan(vec![mapped.clone()], Path::new("/v")).unwrap();
        assert_eq!(planned, Plan { views: Vec::new(), mounts: vec![mapped] });
    }

    #[test]
    fn other_mounts_are_refused_by_their_kind() {
        let refused = plan(vec![mount("ext4", "/dev/loop7", &[])], Path::new("/v")).unwrap_err();
        assert!(chain(&refused).contains("the snapshot's ext4 mount: only overlays"), "{}", chain(&refused));
    }
}
