//! What containerd answered, and to what.

use crate::error::Kind;

/// A failed call: what was tried, on what, and containerd's own words.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The socket does not answer.
    #[error("containerd is away ({action} {object})")]
    Away { action: &'static str, object: String, source: Box<tonic::Status> },
    /// It answered with an error.
    #[error("containerd could not {action} {object}: {}", source.message())]
    Call { action: &'static str, object: String, source: Box<tonic::Status> },
    /// No answer within the call's deadline.
    #[error("containerd did not {action} {object} within {limit:?}")]
    Deadline { action: &'static str, object: String, limit: std::time::Duration },
    /// An answer that makes no sense.
    #[error("containerd's answer to {action} {object} is malformed: {why}")]
    Malformed { action: &'static str, object: String, why: String },
}

impl ContainerdError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Away { .. } => Kind::Unavailable,
            Self::Deadline { .. } => Kind::DeadlineExceeded,
            Self::Malformed { .. } => Kind::Internal,
            Self::Call { source, .. } => match source.code() {
                tonic::Code::NotFound => Kind::NotFound,
                tonic::Code::AlreadyExists => Kind::AlreadyExists,
                tonic::Code::InvalidArgument => Kind::InvalidArgument,
                tonic::Code::FailedPrecondition => Kind::FailedPrecondition,
                tonic::Code::Unavailable => Kind::Unavailable,
                tonic::Code::DeadlineExceeded => Kind::DeadlineExceeded,
                tonic::Code::Cancelled => Kind::Cancelled,
                tonic::Code::ResourceExhausted => Kind::ResourceExhausted,
                tonic::Code::Unimplemented => Kind::Unimplemented,
                _ => Kind::Internal,
            },
        }
    }

    /// Whether the object is not there: what a teardown takes for done.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Kind::NotFound
    }
}
