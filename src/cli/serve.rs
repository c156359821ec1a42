//! `cridge serve`: the configuration, the log, the daemon.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::args::ConfigArgs;
use crate::config::{LogConfig, LogFormat};
use crate::linux::fdstore::Inherited;
use crate::linux::process;
use crate::server;

/// Serves until a signal ends it.
pub async fn run(args: ConfigArgs, inherited: Inherited) -> anyhow::Result<ExitCode> {
    process::keep_to_itself()?;
    let loaded = args.load()?;
    start_log(&loaded.config.log)?;
    for mistake in &loaded.unknown {
        tracing::warn!("{mistake}");
    }
    server::run(loaded.config, inherited).await?;
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error: coloured for people, plain for files.
fn start_log(config: &LogConfig) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&config.level).with_context(|| format!("log.level: {:?}", config.level))?;
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match config.format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => log.init(),
    }
    Ok(())
}
