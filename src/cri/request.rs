//! Single fields of requests: what they must be, whatever the call.

use std::time::Duration;

use crate::field::{self, FieldError};

/// Longest id taken: a whole one has 64 digits; longer texts are mistakes not worth repeating in an error.
const MAX_ID: usize = 128;

/// An id, which must be given; whether it exists is not this check's matter.
pub(super) fn id<'a>(name: &str, value: &'a str) -> Result<&'a str, FieldError> {
    if value.is_empty() {
        return Err(field::error(name, "is required"));
    }
    field::line(name, value, MAX_ID)?;
    Ok(value)
}

/// A command to run.
pub(super) fn checked_command(cmd: &[String]) -> Result<(), FieldError> {
    if cmd.is_empty() {
        return Err(field::error("cmd", "is required"));
    }
    match cmd.iter().position(|word| word.contains('\0')) {
        Some(n) => Err(field::error(format!("cmd[{n}]"), "contains '\\0'")),
        None => Ok(()),
    }
}

/// Seconds of a request.
pub(super) fn seconds(name: &str, value: i64) -> Result<Duration, FieldError> {
    let seconds = u64::try_from(value).map_err(|_| field::error(name, format!("{value} is negative")))?;
    Ok(Duration::from_secs(seconds))
}
