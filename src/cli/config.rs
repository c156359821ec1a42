//! `cridge config`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::ConfigCommand;
use crate::config::{self, Config, ConfigError, Loaded};
use crate::containerd::RuntimeSelection;
use crate::network::load_template;

pub async fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Default { markdown: false } => print!("{}", config::DEFAULT),
        ConfigCommand::Default { markdown: true } => print!("{}", config::markdown()),
        ConfigCommand::Check { file } => return check(file),
        ConfigCommand::Migrate(args) => return super::migrate::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let file = file.unwrap_or_else(|| Path::new(config::DEFAULT_PATH).to_owned());
    let (mistakes, others, unknown): (_, Vec<_>, _) = match Loaded::load(&file) {
        Ok(loaded) => {
            let others = shim_options(&loaded.config).into_iter().chain(template(&loaded.config));
            (Vec::new(), others.collect(), loaded.unknown)
        }
        Err(ConfigError::Invalid { mistakes, .. }) => (mistakes, Vec::new(), Vec::new()),
        Err(error) => return Err(error.into()),
    };
    for mistake in &mistakes {
        println!("{}:{mistake}", file.display());
    }
    for mistake in &others {
        println!("{}: {mistake}", file.display());
    }
    for key in &unknown {
        println!("{}:{key} (warning)", file.display());
    }
    if mistakes.is_empty() && others.is_empty() {
        println!("{}: no mistakes", file.display());
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// What is wrong with the handlers' options, which are the shims' and not ours to define.
fn shim_options(config: &Config) -> Vec<String> {
    let refused = config.runtime.handlers.iter().filter_map(|(name, handler)| {
        let why = RuntimeSelection::from_handler(handler).err()?;
        Some(format!("runtime.handlers.{name}.options: {why}"))
    });
    refused.collect()
}

/// What is wrong with the template of a network list.
fn template(config: &Config) -> Option<String> {
    let path = config.network.conf_template.as_deref()?;
    load_template(path).err().map(|error| error.to_string())
}
