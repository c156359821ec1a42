//! What can be wrong with a configuration file, each mistake with its line.

use std::fmt;
use std::path::PathBuf;

use crate::error::Kind;

/// One mistake of the file: where it is, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// Full path of the key, `network.bin_dirs[1]`; empty for a mistake of syntax.
    pub key: String,
    /// What it must be instead.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// It was read, and is wrong: all mistakes, a line each, in the order of the file.
    #[error("the configuration is wrong:\n{}", lines(path, mistakes))]
    Invalid { path: PathBuf, mistakes: Vec<Mistake> },
}

impl ConfigError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { .. } => Kind::Internal,
            Self::Invalid { .. } => Kind::InvalidArgument,
        }
    }
}

fn lines(path: &std::path::Path, mistakes: &[Mistake]) -> String {
    let lines: Vec<_> = mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())).collect();
    lines.join("\n")
}
