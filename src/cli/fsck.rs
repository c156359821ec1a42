//! `cridge fsck`.

use std::process::ExitCode;

use super::args::FsckArgs;
use crate::error::chain;
use crate::fsck::{Repair, Report, fsck};

/// What `fsck` exits with where it could not look: 1 says that something was found.
const FAILED: u8 = 2;

pub async fn run(args: FsckArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    match look(args).await {
        Ok(report) => {
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{report}");
            }
            Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            eprintln!("cridge: {error}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

async fn look(args: FsckArgs) -> Result<Report, String> {
    let config = args.config.load().map_err(|error| chain(&error))?.config;
    let repair = if args.repair { Repair::Yes } else { Repair::No };
    fsck(config, repair).await.map_err(|error| chain(&error))
}
