//! Why nothing can be shown.

use std::time::Duration;

use crate::error::Kind;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    #[error("no CRI runtime answers on {endpoint}; is it running, and is --endpoint right?")]
    Connect { endpoint: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// Its status is no source: as text that would say everything twice.
    #[error("the runtime does not {action}: {}", status.message())]
    Call { action: &'static str, status: Box<tonic::Status> },
    #[error("the runtime did not {action} within {limit:?}")]
    Deadline { action: &'static str, limit: Duration },
    #[error("cannot write to standard output")]
    Show(#[source] std::io::Error),
}

impl ShowError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Connect { .. } => Kind::Unavailable,
            Self::Deadline { .. } => Kind::DeadlineExceeded,
            Self::Call { status, .. } if status.code() == tonic::Code::Unavailable => Kind::Unavailable,
            Self::Call { .. } | Self::Show(_) => Kind::Internal,
        }
    }
}
