//! The words in which every folder says what went wrong.
//!
//! Each folder has its own error enum; all of them answer [`Kind`], which alone decides the gRPC code
//! (one table, in `cri/status.rs`).

use std::fmt;

/// What an error means to the caller, whatever its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The named object exists already.
    AlreadyExists,
    /// The request itself is wrong; repeating it cannot help.
    InvalidArgument,
    /// The request is fine, the object's or node's present state is not.
    FailedPrecondition,
    /// A peer (containerd, a registry) is away; repeating may help.
    Unavailable,
    /// A deadline passed, the caller's or one of ours.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A bound was reached.
    ResourceExhausted,
    /// Not done by this runtime.
    Unimplemented,
    /// Anything else: the fault is on this node.
    Internal,
}

/// Errors of a teardown that went on past its first failure, in the order met.
#[derive(Debug, Default)]
pub struct Errors(Vec<Box<dyn std::error::Error + Send + Sync>>);

impl Errors {
    /// Keeps the error of a failed step and goes on.
    pub fn keep<T, E>(&mut self, result: Result<T, E>) -> Option<T>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        result.map_err(|error| self.0.push(error.into())).ok()
    }

    /// `Ok` when no step failed.
    pub fn into_result(self) -> Result<(), Errors> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Whether every step so far succeeded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&chain(error.as_ref()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// An error and its sources as one line, outermost first. A source that its error has told already (as those of
/// libraries do) is not told again.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let told = inner.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Level>>,
    }

    #[test]
    fn each_level_is_told_once() {
        let level = |text, source: Option<Level>| Level { text, source: source.map(Box::new) };
        let inner = level("no route", None);
        let told = level("transport error: no route", Some(inner));
        assert_eq!(chain(&level("cannot pull", Some(told))), "cannot pull: transport error: no route");
    }

    #[test]
    fn a_teardown_reports_every_failed_step() {
        let mut errors = Errors::default();
        assert_eq!(errors.keep(Ok::<_, std::io::Error>(3)), Some(3));
        errors.keep(Err::<(), _>("first"));
        errors.keep(Err::<(), _>("second"));
        assert_eq!(errors.into_result().unwrap_err().to_string(), "first; second");
    }
}
