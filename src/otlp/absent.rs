//! A build without the feature `traces`: there is never an exporter.

use super::OtlpError;
use crate::config::TracesConfig;
use crate::trace::Sink;

/// None can be made.
#[derive(Debug)]
pub enum Exporter {}

impl Exporter {
    /// # Errors
    /// Always.
    pub fn start(_: &str, _: &TracesConfig) -> Result<Self, OtlpError> {
        Err(OtlpError::NotBuilt)
    }

    pub fn sink(&self) -> Sink {
        match *self {}
    }

    pub async fn end(self) {
        match self {}
    }
}
