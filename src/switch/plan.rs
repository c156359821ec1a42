//! What is to be done to a node, found out before anything is done.

use std::fmt;
use std::path::{Path, PathBuf};

use super::edit::{self, File};
use super::error::SwitchError;
use super::record::{Change, Record, read};
use crate::check::kubelet::{ARGUMENTS, CONFIG, Kubelet};

/// kubeadm's settings of this node for the next upgrade, of which the kubelet's configuration is made.
const INSTANCE: &str = "var/lib/kubelet/instance-config.yaml";

/// What the plan is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    pub root: PathBuf,
    /// containerd's configuration.
    pub containerd: PathBuf,
    /// The major number of its release.
    pub major: u32,
    /// cridge's socket.
    pub cridge: PathBuf,
    pub kubelet: Option<Kubelet>,
}

/// # Errors
/// When a file cannot be read or is not understood, or the kubelet has its endpoint from elsewhere.
pub fn switch(facts: &Facts) -> Result<Record, SwitchError> {
    let mut changes =
        vec![change(&facts.containerd, File::Containerd, |text| edit::without_plugin(text, facts.major))?];
    let endpoint = edit::endpoint(&facts.cridge);
    if let Some(kubelet) = &facts.kubelet {
        changes.extend(kubelet_files(facts, kubelet, &endpoint)?);
    }
    changes.retain(|change| change.was.as_deref() != Some(&change.is));
    let before = facts.kubelet.as_ref().map_or(String::new(), |kubelet| edit::endpoint(&kubelet.socket));
    Ok(Record { cridge: endpoint, before, kubelet: facts.kubelet.is_some(), changes })
}

/// The flag counts more than the file, so the file gets a line only where no flag is.
fn kubelet_files(facts: &Facts, kubelet: &Kubelet, endpoint: &str) -> Result<Vec<Change>, SwitchError> {
    let flags = facts.root.join(ARGUMENTS);
    let pointed = read(&flags)?.and_then(|text| edit::pointed_flags(&text, endpoint));
    if kubelet.by_flag && pointed.is_none() {
        return Err(SwitchError::Elsewhere {
            socket: kubelet.socket.display().to_string(),
            flag: kubelet.source.clone(),
            flags,
        });
    }
    let mut changes = Vec::new();
    if let Some(pointed) = pointed {
        changes.push(change(&flags, File::Flags, |_| Ok(pointed))?);
    }
    let config = kubelet.config.clone().unwrap_or_else(|| facts.root.join(CONFIG));
    for path in [config, facts.root.join(INSTANCE)] {
        let is_needed = match read(&path)? {
            Some(text) => !kubelet.by_flag || text.contains("containerRuntimeEndpoint"),
            None => false,
        };
        if is_needed {
            let pointed =
                |text: Option<&str>| edit::pointed_configuration(text.unwrap_or_default(), endpoint);
            changes.push(change(&path, File::Configuration, pointed)?);
        }
    }
    Ok(changes)
}

fn change(
    path: &Path,
    file: File,
    edit: impl FnOnce(Option<&str>) -> Result<String, String>,
) -> Result<Change, SwitchError> {
    let was = read(path)?;
    let is = edit(was.as_deref()).map_err(|why| SwitchError::Edit { path: path.to_owned(), why })?;
    Ok(Change { path: path.to_owned(), file, was, is })
}

/// The lines that differ, file by file, and what is restarted.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { path, was, is, .. } in &self.changes {
            let was = was.as_deref().unwrap_or_default();
            writeln!(f, "{}", path.display())?;
            for line in was.lines().filter(|line| !is.lines().any(|new| new == *line)) {
                writeln!(f, "  - {line}")?;
            }
            for line in is.lines().filter(|line| !was.lines().any(|old| old == *line)) {
                writeln!(f, "  + {line}")?;
            }
        }
        let kubelet = if self.kubelet { ", kubelet.service" } else { "" };
        writeln!(f, "restarted: containerd.service, cridge.service{kubelet}")
    }
}
