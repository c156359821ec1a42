//! The daemon's own log, on its standard error: text for people, logfmt or JSON for machines.
//!
//! What an operation logs is told with whose pod it was about: its span's fields are on each line. What is logged can
//! be changed while the daemon runs; how it looks cannot.

mod logfmt;

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Decides what is logged. Cheap to clone.
#[derive(Clone)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

/// Directives that are none. The configuration has checked them, so this is the filter's own opinion.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {level:?} cannot be used")]
pub struct LevelError {
    level: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl LevelError {
    /// What it means to the caller.
    pub fn kind(&self) -> crate::error::Kind {
        crate::error::Kind::InvalidArgument
    }

    fn of<E: std::error::Error + Send + Sync + 'static>(level: &str) -> impl FnOnce(E) -> Self {
        move |source| Self { level: level.to_owned(), source: Box::new(source) }
    }
}

/// Begins to log.
///
/// # Errors
/// The level cannot be used.
pub fn start(config: &LogConfig) -> Result<Level, LevelError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    tracing_subscriber::registry().with(filter).with(lines(config.format)).init();
    Ok(Level(handle))
}

impl Level {
    /// From now on, this is logged.
    ///
    /// # Errors
    /// It cannot be used; nothing has changed.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        self.0.reload(filter(level)?).map_err(LevelError::of(level))
    }
}

fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    EnvFilter::try_new(level).map_err(LevelError::of(level))
}

/// How lines look.
fn lines<S>(format: LogFormat) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let log = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => log.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).boxed(),
        LogFormat::Auto if terminal => log.with_ansi(std::env::var_os("NO_COLOR").is_none()).boxed(),
        LogFormat::Auto | LogFormat::Logfmt => {
            log.event_format(logfmt::Lines).fmt_fields(logfmt::Fields).boxed()
        }
    }
}
