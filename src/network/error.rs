//! What can fail while attaching or detaching a pod.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Errors, Kind};
use crate::linux::LinuxError;

/// A CNI failure.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No usable configuration: the text says which folder and why.
    #[error("no CNI network: {reason}")]
    NotReady { reason: String },

    /// The template of a network list cannot be used.
    #[error("network.conf_template {path:?}: {why}")]
    Template { path: PathBuf, why: String },

    /// The network list that a template gave cannot be written.
    #[error("cannot write {path:?}")]
    Generate { path: PathBuf, source: io::Error },

    /// A configuration names a plugin that is in none of the folders.
    #[error(
        "CNI plugin {plugin:?} of network {network:?} is in none of {dirs:?}: install it, or add its folder to network.bin_dirs"
    )]
    PluginMissing { network: String, plugin: String, dirs: Vec<PathBuf> },

    /// A plugin's program does not start.
    #[error("cannot start {call}")]
    Start { call: Call, source: io::Error },

    /// A plugin answered with an error (CNI spec, "Error").
    #[error("{call} failed: {said}")]
    Plugin { call: Call, said: PluginSaid },

    /// A plugin ended well and answered what is no result.
    #[error("{call} gave no valid result: {reason}")]
    BadResult { call: Call, reason: String },

    /// A plugin did not end in time: it and its children were killed.
    #[error("{call} did not end within {after:?} and was killed")]
    Timeout { call: Call, after: Duration },

    /// All plugins were content, but the pod has no address.
    #[error("no plugin gave the pod an address on eth0: {reason}")]
    NoAddress { reason: String },

    /// The pod cannot be named to a plugin.
    #[error("{field} {value:?} cannot be told to CNI plugins: it holds a semicolon or a zero byte")]
    BadArgument { field: &'static str, value: String },

    /// An ADD without a network namespace.
    #[error("pod {pod} has no network namespace to attach")]
    NoNamespace { pod: String },

    /// The file that DEL will need cannot be kept.
    #[error("cannot {action} the CNI cache {path:?}")]
    Cache { action: &'static str, path: PathBuf, source: io::Error },

    /// Another call for the same pod, or an orphan of one, does not let go.
    #[error("plugins of an earlier call for this pod still hold {lock:?}, even after they were killed")]
    Busy { lock: PathBuf },

    /// The pod's lock cannot be taken.
    #[error("cannot keep other CNI calls of this pod out")]
    Lock { source: LinuxError },

    /// Some networks were not detached; the others were.
    #[error("not detached from every network: {0}")]
    Detach(Errors),
}

/// Which plugin was called, for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub command: &'static str,
    pub plugin: String,
    pub network: String,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of CNI plugin {:?} for network {:?}", self.command, self.plugin, self.network)
    }
}

/// A plugin's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSaid {
    /// CNI spec, "Error codes"; 0 where the plugin gave none.
    pub code: u64,
    pub text: String,
}

impl std::fmt::Display for PluginSaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if self.code != 0 {
            write!(f, " (CNI code {})", self.code)?;
        }
        Ok(())
    }
}

/// CNI spec, "Error codes": "try again later".
const TRY_AGAIN: u64 = 11;
/// CNI spec, "STATUS": the plugin cannot serve ADD, or serves it with limits.
const NOT_AVAILABLE: [u64; 2] = [50, 51];

impl NetworkError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotReady { .. } => Kind::Unavailable,
            Self::PluginMissing { .. } | Self::Template { .. } => Kind::FailedPrecondition,
            Self::Plugin { said, .. } if said.code == TRY_AGAIN || NOT_AVAILABLE.contains(&said.code) => {
                Kind::Unavailable
            }
            Self::Timeout { .. } | Self::Busy { .. } => Kind::DeadlineExceeded,
            Self::BadArgument { .. } | Self::NoNamespace { .. } => Kind::InvalidArgument,
            Self::Generate { .. }
            | Self::Start { .. }
            | Self::Plugin { .. }
            | Self::BadResult { .. }
            | Self::NoAddress { .. }
            | Self::Cache { .. }
            | Self::Lock { .. }
            | Self::Detach(_) => Kind::Internal,
        }
    }
}
