//! `cridge config`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::ConfigCommand;
use crate::config::{self, ConfigError, Loaded};

pub fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Default { markdown: false } => print!("{}", config::DEFAULT),
        ConfigCommand::Default { markdown: true } => print!("{}", config::markdown()),
        ConfigCommand::Check { file } => return check(file),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let file = file.unwrap_or_else(|| Path::new(config::DEFAULT_PATH).to_owned());
    let (mistakes, unknown) = match Loaded::load(&file) {
        Ok(loaded) => (Vec::new(), loaded.unknown),
        Err(ConfigError::Invalid { mistakes, .. }) => (mistakes, Vec::new()),
        Err(error) => return Err(error.into()),
    };
    for mistake in &mistakes {
        println!("{}:{mistake}", file.display());
    }
    for key in &unknown {
        println!("{}:{key} (warning)", file.display());
    }
    if mistakes.is_empty() {
        println!("{}: no mistakes", file.display());
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
