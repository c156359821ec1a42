//! What containerd answered, and to what.

use std::error::Error as _;

use crate::error::Kind;

/// A failed call: what was tried, on what, and containerd's own words. A status is no source: as text it would say
/// its words a second time, and its debug form with them.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The socket does not answer.
    #[error(
        "containerd is away: could not {action} {object}; is it running, and is this its socket? ({})",
        status.message()
    )]
    Away { action: &'static str, object: String, status: Box<tonic::Status> },
    /// It answered with an error.
    #[error("containerd could not {action} {object}: {}", status.message())]
    Call { action: &'static str, object: String, status: Box<tonic::Status> },
    /// No answer within the call's deadline.
    #[error("containerd did not {action} {object} within {limit:?}")]
    Deadline { action: &'static str, object: String, limit: std::time::Duration },
    /// An answer beyond what the caller takes.
    #[error("containerd's answer to {action} {object} is larger than {limit} bytes")]
    TooLarge { action: &'static str, object: String, limit: usize },
    /// An answer that makes no sense.
    #[error("containerd's answer to {action} {object} is malformed: {why}")]
    Malformed { action: &'static str, object: String, why: String },
}

impl ContainerdError {
    /// Tells a connection that failed from an answer that says so: tonic keeps the connection's error as a source,
    /// and a status that came over the wire has none.
    pub(super) fn from_status(action: &'static str, object: String, status: tonic::Status) -> Self {
        let away = status.source().is_some();
        let status = Box::new(status);
        if away { Self::Away { action, object, status } } else { Self::Call { action, object, status } }
    }

    /// The connection ended where more was to come.
    pub(super) fn cut_off(action: &'static str, object: String) -> Self {
        let status = Box::new(tonic::Status::unavailable("the stream ended"));
        Self::Away { action, object, status }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Away { .. } => Kind::Unavailable,
            Self::Deadline { .. } => Kind::DeadlineExceeded,
            Self::TooLarge { .. } => Kind::ResourceExhausted,
            Self::Malformed { .. } => Kind::Internal,
            Self::Call { status, .. } => match status.code() {
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

    /// Whether the object is there: what a setup that is repeated takes for done.
    pub fn is_there_already(&self) -> bool {
        self.kind() == Kind::AlreadyExists
    }

    /// Whether the connection is lost, as opposed to a refusal: subscribe or look again once it is back.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: tonic::Code) -> ContainerdError {
        ContainerdError::from_status("look at", "x".into(), tonic::Status::new(code, "said so"))
    }

    #[test]
    fn an_answer_keeps_its_meaning() {
        for (code, kind) in [
            (tonic::Code::NotFound, Kind::NotFound),
            (tonic::Code::AlreadyExists, Kind::AlreadyExists),
            (tonic::Code::FailedPrecondition, Kind::FailedPrecondition),
            (tonic::Code::Unimplemented, Kind::Unimplemented),
            (tonic::Code::Unknown, Kind::Internal),
        ] {
            assert_eq!(answered(code).kind(), kind);
        }
        assert_eq!(answered(tonic::Code::NotFound).to_string(), "containerd could not look at x: said so");
    }

    #[test]
    fn its_words_are_told_once() {
        let text = crate::error::chain(&answered(tonic::Code::Unknown));
        assert_eq!(text.matches("said so").count(), 1, "{text}");
    }

    #[test]
    fn unavailable_as_an_answer_is_not_an_absence() {
        let locked = answered(tonic::Code::Unavailable);
        assert_eq!(locked.kind(), Kind::Unavailable);
        assert!(!locked.is_away());

        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let lost = tonic::Status::from_error(Box::new(broken));
        let lost = ContainerdError::from_status("look at", "x".into(), lost);
        assert_eq!(lost.kind(), Kind::Unavailable);
        assert!(lost.is_away());
    }
}
