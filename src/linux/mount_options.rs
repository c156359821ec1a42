//! fstab-style mount options, split into what the kernel wants as flags and what the filesystem wants as text.

use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags};

/// Options of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    pub bind: bool,
    pub recursive: bool,
    pub flags: MountFlags,
    pub propagation: MountPropagationFlags,
    /// Comma-separated, for the filesystem.
    pub data: String,
}

impl MountOptions {
    /// A later option beats an earlier one, as in mount(8).
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self {
            bind: false,
            recursive: false,
            flags: MountFlags::empty(),
            propagation: MountPropagationFlags::empty(),
            data: String::new(),
        };
        for option in options {
            parsed.take(option);
        }
        parsed
    }

    fn take(&mut self, option: &str) {
        if let Some((flag, set)) = flag(option) {
            self.flags.set(flag, set);
        } else if let Some(propagation) = propagation(option) {
            self.propagation = propagation;
        } else if option == "bind" || option == "rbind" {
            self.bind = true;
            self.recursive = option == "rbind";
        } else if option != "defaults" {
            if !self.data.is_empty() {
                self.data.push(',');
            }
            self.data.push_str(option);
        }
    }

    /// The same options with the layers of `lowerdir` relative to the folder they have in common, and that folder;
    /// `None` where there is nothing to shorten.
    pub fn relative(&self) -> Option<(PathBuf, Self)> {
        let (start, lower) = self.data.split(',').find_map(|o| Some((o, o.strip_prefix("lowerdir=")?)))?;
        let layers: Vec<&str> = lower.split(':').collect();
        // An escaped colon, or a relative layer, is not what a snapshotter writes.
        if lower.contains('\\') || layers.iter().any(|l| !l.starts_with('/')) {
            return None;
        }
        let common = common_folder(&layers)?;
        let short: Vec<&str> = layers.iter().map(|l| &l[common.len()..]).collect();
        let data = self.data.replacen(start, &format!("lowerdir={}", short.join(":")), 1);
        Some((PathBuf::from(common), Self { data, ..self.clone() }))
    }
}

/// The longest `/…/` that all paths begin with, short of any of them as a whole.
fn common_folder<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let first = *paths.first()?;
    let ends = first.match_indices('/').map(|(at, _)| at + 1).rev();
    ends.map(|end| &first[..end]).find(|f| paths.iter().all(|p| p.starts_with(f) && p.len() > f.len()))
}

/// A flag, and whether the option sets or clears it.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        "nosymfollow" => (MountFlags::NOSYMFOLLOW, true),
        "symfollow" => (MountFlags::NOSYMFOLLOW, false),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (name, deep) = match option.strip_prefix('r') {
        Some(name) => (name, MountPropagationFlags::REC),
        None => (option, MountPropagationFlags::empty()),
    };
    Some(
        deep | match name {
            "private" => MountPropagationFlags::PRIVATE,
            "slave" => MountPropagationFlags::DOWNSTREAM,
            "shared" => MountPropagationFlags::SHARED,
            "unbindable" => MountPropagationFlags::UNBINDABLE,
            _ => return None,
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_propagation_and_data_part() {
        let options = parse(&["rbind", "ro", "nosuid", "rslave", "size=1k", "mode=755", "suid", "defaults"]);
        assert!(options.bind && options.recursive);
        assert_eq!(options.flags, MountFlags::RDONLY);
        assert_eq!(options.propagation, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
        assert_eq!(options.data, "size=1k,mode=755");
        assert_eq!(parse(&[]).data, "");
    }

    #[test]
    fn layers_are_shortened_to_the_folder_they_share() {
        let options = parse(&["index=off", "workdir=/s/9/work", "lowerdir=/s/10/fs:/s/1/fs:/s/2/fs", "ro"]);
        let (folder, short) = options.relative().unwrap();
        assert_eq!(folder, PathBuf::from("/s/"));
        assert_eq!(short.data, "index=off,workdir=/s/9/work,lowerdir=10/fs:1/fs:2/fs");
        assert_eq!(short.flags, MountFlags::RDONLY);
        assert_eq!(parse(&["lowerdir=/a/x:/b/y"]).relative().unwrap().1.data, "lowerdir=a/x:b/y");
        assert_eq!(parse(&["lowerdir=a:/b"]).relative(), None);
        assert_eq!(parse(&["size=1k"]).relative(), None);
    }

    proptest! {
        #[test]
        fn shortening_never_loses_a_layer(layers in proptest::collection::vec("/[a-c/]{0,6}", 1..8)) {
            let options = parse(&[&format!("lowerdir={}", layers.join(":"))]);
            if let Some((folder, short)) = options.relative() {
                let folder = folder.to_str().unwrap();
                let lower = short.data.strip_prefix("lowerdir=").unwrap();
                let back: Vec<String> = lower.split(':').map(|l| format!("{folder}{l}")).collect();
                prop_assert_eq!(back, layers);
            }
        }

        #[test]
        fn no_option_panics(options in proptest::collection::vec(any::<String>(), 0..8)) {
            let _ = MountOptions::parse(&options).relative();
        }
    }
}
