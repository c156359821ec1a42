//! `cridge config migrate`.

use std::process::ExitCode;

use serde::Serialize;

use super::args::MigrateArgs;
use crate::migrate::{Existing, Report, migrate, write};

/// The report for machines, and what came of it.
#[derive(Serialize)]
struct Json<'a> {
    refused: bool,
    #[serde(flatten)]
    report: &'a Report,
    config: Option<&'a str>,
}

pub async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let migration = migrate(&args.from, args.release).await?;
    let (report, config) = (&migration.report, migration.config.as_deref());
    if args.json {
        let json = Json { refused: report.is_refused(), report, config };
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        eprint!("{report}");
    }
    let Some(config) = config else { return Ok(ExitCode::FAILURE) };
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    match &args.output {
        Some(path) => write(path, config, existing)?,
        None if args.json => {}
        None => print!("{config}"),
    }
    if let (Some(path), Some(text)) = (&args.unit_dropin, &migration.drop_in) {
        write(path, text, existing)?;
    }
    Ok(ExitCode::SUCCESS)
}
