//! Image references as users write them, normalised as docker does (`nginx` is `docker.io/library/nginx:latest`).

use std::fmt;
use std::str::FromStr;

use crate::id::Digest;

/// A checked reference. Exactly one of tag and digest is set: a digest wins over a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an image reference: {why}")]
pub struct InvalidReference {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        unimplemented!("{text}")
    }
}

impl Reference {
    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository by digest: the form of `repo_digests`.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), tag: None, ..self.clone() }
    }
}

impl fmt::Display for Reference {
    /// The normalised form: `registry/repository:tag` or `registry/repository@digest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}
