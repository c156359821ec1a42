//! Why a node is not switched, or not switched back.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Errors, Kind};

#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be changed: {why}", path.display())]
    Edit { path: PathBuf, why: String },
    #[error("{} is no record of a switch: {why}; put the files back by hand, as docs/switching.md says", path.display())]
    Record { path: PathBuf, why: String },
    #[error("this node was switched already ({}): `cridge node rollback` takes it back", path.display())]
    Switched { path: PathBuf },
    #[error("this node was not switched by `cridge node switch`: there is no {}", path.display())]
    NotSwitched { path: PathBuf },
    #[error("something is in the way, see `cridge check`:\n{findings}")]
    InTheWay { findings: String },
    #[error("cannot ask containerd what it is")]
    Containerd(#[source] crate::containerd::ContainerdError),
    #[error("{unit} is needed to restart it, see docs/install.md ({why})")]
    NoUnit { unit: &'static str, why: String },
    #[error("no kubelet is seen here: nothing would ask cridge; --no-kubelet switches without one")]
    NoKubelet,
    #[error(
        "the kubelet asks {socket} since {flag} says so where it is started, and not in {}: change it there first",
        flags.display()
    )]
    Elsewhere { socket: String, flag: String, flags: PathBuf },
    #[error("cannot start {program}")]
    Start { program: String, source: std::io::Error },
    #[error("`{command}` failed: {told}")]
    Command { command: String, told: String },
    #[error("`{command}` did not end within {patience:?}")]
    Late { command: String, patience: Duration },
    #[error("somebody else has switched this node for {patience:?} ({} is locked)", path.display())]
    Busy { path: PathBuf, patience: Duration },
    #[error(transparent)]
    Lock(#[from] crate::linux::LinuxError),
    #[error("it was taken back, since {why}")]
    TakenBack { why: String },
    #[error("it could not be taken back whole: {errors}; `cridge node rollback --apply` tries again")]
    Partly { errors: Errors },
    #[error("not confirmed: {why}")]
    NotConfirmed { why: String },
}

impl SwitchError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Start { .. }
            | Self::Command { .. }
            | Self::Partly { .. } => Kind::Internal,
            Self::Edit { .. }
            | Self::Record { .. }
            | Self::InTheWay { .. }
            | Self::NoUnit { .. }
            | Self::NoKubelet
            | Self::Elsewhere { .. }
            | Self::TakenBack { .. }
            | Self::NotConfirmed { .. } => Kind::FailedPrecondition,
            Self::Switched { .. } => Kind::AlreadyExists,
            Self::NotSwitched { .. } => Kind::NotFound,
            Self::Containerd(error) => error.kind(),
            Self::Lock(error) => error.kind(),
            Self::Late { .. } | Self::Busy { .. } => Kind::DeadlineExceeded,
        }
    }
}
