//! Traces, told to a collector or to nobody.

use crate::config::TracesConfig;
use crate::otlp::{Exporter, OtlpError};
use crate::trace;

/// Who is told, and how.
pub struct Traces {
    config: TracesConfig,
    exporter: Option<Exporter>,
}

/// Who is told after a change.
pub enum Next {
    Same,
    Other(Traces),
}

impl Traces {
    /// From now on, whoever the configuration names is told.
    ///
    /// # Errors
    /// It cannot be.
    pub fn start(config: &TracesConfig) -> Result<Self, OtlpError> {
        let traces = Self::of(config)?;
        traces.tell();
        Ok(traces)
    }

    /// Gets ready for a change.
    ///
    /// # Errors
    /// It cannot be.
    pub fn prepare(&self, config: &TracesConfig) -> Result<Next, OtlpError> {
        if *config == self.config { Ok(Next::Same) } else { Self::of(config).map(Next::Other) }
    }

    /// From now on it is the next. What is left for the one before, it gets.
    pub fn switch(&mut self, next: Next) {
        if let Next::Other(next) = next {
            next.tell();
            tokio::spawn(std::mem::replace(self, next).left());
        }
    }

    /// Nobody is told any more, but of what there is.
    pub async fn end(self) {
        trace::tell(None);
        self.left().await;
    }

    fn of(config: &TracesConfig) -> Result<Self, OtlpError> {
        let exporter = config.endpoint.as_deref().map(|endpoint| Exporter::start(endpoint, config));
        Ok(Self { config: config.clone(), exporter: exporter.transpose()? })
    }

    fn tell(&self) {
        trace::tell(self.exporter.as_ref().map(Exporter::sink));
    }

    async fn left(self) {
        if let Some(exporter) = self.exporter {
            exporter.end().await;
        }
    }
}
