//! Why there is nothing to translate, or nothing came of it.

use std::path::PathBuf;

use crate::config::Mistake;
use crate::error::Kind;

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(
        "cannot read {}; where containerd runs without a configuration, --from /dev/null carries its defaults over",
        path.display()
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}, which is imported: containerd would not start", path.display())]
    Import { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {max} bytes, which no configuration of containerd's is", path.display())]
    TooLarge { path: PathBuf, max: u64 },
    /// Told without the line's text, which may hold a password.
    #[error("{}:{line}: {why}", path.display())]
    Syntax { path: PathBuf, line: usize, why: String },
    #[error("{}: its version is {found}, and 1 to {newest} are known", path.display())]
    Version { path: PathBuf, found: String, newest: u32 },
    #[error("{}: imports must be a list of paths", path.display())]
    Imports { path: PathBuf },
    #[error("{}: {pattern:?} among its imports is no pattern that containerd takes", path.display())]
    Pattern { path: PathBuf, pattern: String },
    #[error("{} imports more than {max} files", path.display())]
    TooMany { path: PathBuf, max: usize },
    /// containerd would refuse such a file too.
    #[error("what its keys say together is no configuration: {}", told(mistakes))]
    Contradiction { mistakes: Vec<Mistake> },
    #[error("{} is there already; --force replaces it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

impl MigrateError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { .. } | Self::Write { .. } => Kind::Internal,
            Self::Exists { .. } => Kind::AlreadyExists,
            Self::Import { .. }
            | Self::TooLarge { .. }
            | Self::Syntax { .. }
            | Self::Version { .. }
            | Self::Imports { .. }
            | Self::Pattern { .. }
            | Self::TooMany { .. }
            | Self::Contradiction { .. } => Kind::InvalidArgument,
        }
    }
}

fn told(mistakes: &[Mistake]) -> String {
    let told: Vec<_> = mistakes.iter().map(|mistake| format!("{} {}", mistake.key, mistake.text)).collect();
    told.join(", ")
}
