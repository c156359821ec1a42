//! `cridge serve`: the configuration, the log, the daemon.

use std::process::ExitCode;

use super::args::ConfigArgs;
use crate::linux::fdstore::Inherited;
use crate::linux::process;
use crate::{log, server};

/// Serves until a signal ends it.
pub async fn run(args: ConfigArgs, inherited: Inherited) -> anyhow::Result<ExitCode> {
    process::keep_to_itself()?;
    let loaded = args.load()?;
    log::start(&loaded.config.log)?;
    for mistake in &loaded.unknown {
        tracing::warn!("{mistake}");
    }
    server::run(loaded.config, inherited).await?;
    Ok(ExitCode::SUCCESS)
}
