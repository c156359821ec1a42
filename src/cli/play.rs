//! `cridge play`.

use std::process::ExitCode;

use super::args::PlayArgs;
use crate::error::chain;
use crate::play::{AfterStart, Outcome, Play, play};

pub async fn run(args: PlayArgs) -> ExitCode {
    let order = Play {
        file: args.file,
        endpoint: args.runtime.endpoint,
        after: if args.keep { AfterStart::Leave } else { AfterStart::Follow },
        timeout: args.timeout,
        data_dir: args.data_dir,
        log_dir: args.log_dir,
    };
    match play(order).await {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("cridge: {}", chain(&error));
            ExitCode::from(Outcome::NotRun.exit_code())
        }
    }
}
