//! The command line: what can be asked of the binary, each command handed to the part that does it.
//!
//! Knows nothing of how anything is done; what it prints is what a command returned.

mod args;
mod check;
mod config;
mod fsck;
mod manual;
mod migrate;
mod node;
mod play;
mod serve;
mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::linux::fdstore::Inherited;
use crate::show::What;
pub use args::Cli;
use args::Command;

/// Runs the command that the arguments ask for. `inherited` is for the daemon.
///
/// # Errors
/// Whatever ended the command; printed by `main`.
pub async fn run(inherited: Inherited) -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Check(args) => check::run(args).await,
        Command::Completion { shell } => manual::completion(shell),
        Command::Config(command) => config::run(command).await,
        Command::Fsck(args) => fsck::run(args).await,
        Command::Man { folder } => manual::pages(&folder),
        Command::Node(command) => node::run(command).await,
        Command::Serve(args) => serve::run(args, inherited).await,
        Command::Play(args) => Ok(play::run(args).await),
        Command::Pods(args) => show::run(What::Pods, args).await,
        Command::Pulls(args) => show::run(What::Pulls, args).await,
        Command::Images(args) => show::run(What::Images, args).await,
        Command::Top(args) => show::run(What::Top, args).await,
    }
}
