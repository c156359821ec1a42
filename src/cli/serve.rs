//! `cridge serve`: the configuration, the log, the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::ConfigArgs;
use crate::linux::fdstore::Inherited;
use crate::linux::process;
use crate::server::{self, Order, Source};
use crate::{config, log};

/// Serves until a signal ends it.
pub async fn run(args: ConfigArgs, inherited: Inherited) -> anyhow::Result<ExitCode> {
    process::keep_to_itself()?;
    let loaded = args.clone().load()?;
    let level = log::start(&loaded.config.log)?;
    for mistake in &loaded.unknown {
        tracing::warn!("{mistake}");
    }
    let source = source(args);
    server::run(Order { config: loaded.config, source, level, inherited }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Where a changed configuration is found. A file that was there at the start, and no more, is missed, not done without.
fn source(mut args: ConfigArgs) -> Source {
    let file = args.config.clone().unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATH));
    if file.exists() {
        args.config = Some(file.clone());
    }
    Source { file, read: Box::new(move || args.clone().load()) }
}
