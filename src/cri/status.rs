//! From errors to gRPC statuses: the one table.

use tonic::{Code, Status};

use crate::container::ContainerError;
use crate::error::{Kind, chain};
use crate::events::EventsError;
use crate::field::FieldError;
use crate::image::ImageError;
use crate::network::NetworkError;
use crate::pod::PodError;
use crate::sandbox::SandboxError;
use crate::stats::StatsError;
use crate::streaming::StreamingError;

/// Longest text of a status: an h2 peer drops a connection whose headers (the text is one) exceed some 16 KiB.
const MAX_TEXT: usize = 4 << 10;

fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Unavailable => Code::Unavailable,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// Words that kubelets look for at the beginning of an error, in an `Unknown` status only: any other code has the
/// client library put its own words before them (k8s.io/cri-api pkg/errors, cri-client remote_image.go).
const KUBELET_WORDS: [&str; 2] = ["RegistryUnavailable", "SignatureValidationFailed"];

/// The status of an error: its kind's code, and what it and its sources say.
pub(super) fn status(kind: Kind, error: &(dyn std::error::Error + 'static)) -> Status {
    let mut text = chain(error);
    let for_kubelets = KUBELET_WORDS.iter().any(|word| text.starts_with(word));
    let code = if for_kubelets { Code::Unknown } else { code(kind) };
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    Status::new(code, text)
}

macro_rules! into_status {
    ($($error:ty),*) => {
        $(impl From<$error> for Status {
            fn from(error: $error) -> Self {
                status(error.kind(), &error)
            }
        })*
    };
}

into_status!(
    NetworkError,
    SandboxError,
    ContainerError,
    PodError,
    ImageError,
    StatsError,
    StreamingError,
    EventsError
);

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        status(Kind::InvalidArgument, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_kinds_code_and_the_whole_chain() {
        let status = Status::from(SandboxError::NotFound("abc".into()));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "pod sandbox \"abc\" does not exist"));
    }

    #[test]
    fn what_kubelets_look_for_reaches_them() {
        let error = crate::field::error("RegistryUnavailable", "nobody answers");
        assert_eq!(status(Kind::Unavailable, &error).code(), Code::Unknown);
    }

    #[test]
    fn a_text_never_outgrows_a_header() {
        let error = crate::field::error("f", "ä".repeat(1 << 20));
        assert!(Status::from(error).message().len() <= MAX_TEXT + '…'.len_utf8());
    }
}
