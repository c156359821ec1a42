//! `cridge check`.

use std::process::ExitCode;

use super::args::CheckArgs;
use crate::check::check;

pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let report = check(&args.config.load()?.config).await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
