//! The built-in CRI plugin and cridge side by side: each step is taken on both before the next one, first by the one
//! and then by the other in turn, so that whatever else the machine does is shared. Started by `hack/bench`.

mod away;
mod daemon;
mod load;
mod pulls;
mod side;
mod steps;
mod streams;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use side::Side;
use table::Table;

/// Which of two sides something is about, and their order in every pair.
const NAMES: [&str; 2] = ["built-in", "cridge"];

#[derive(Parser)]
struct Args {
    /// Folder of the containerd that serves the built-in CRI plugin (hack/lab containerd-up).
    #[arg(long)]
    builtin: PathBuf,
    /// Folder of the containerd below cridge, and of cridge.
    #[arg(long)]
    cridge: PathBuf,
    /// Kubernetes' client of exec and port-forward (hack/lab streaming).
    #[arg(long)]
    client: PathBuf,
    /// Times that each operation is measured on each side.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Only to see that all of it works: few rounds, few pods.
    #[arg(long)]
    quick: bool,
    /// Only this part; targets of others are missed.
    #[arg(long)]
    only: Option<Part>,
    /// Where the numbers go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail if a target is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// One call after the other.
    Pods,
    /// Many callers at once.
    Load,
    Pulls,
    /// What is asked with many pods up.
    Crowd,
    /// Exec and port-forward.
    Streams,
    /// Daemons started anew below running pods.
    Away,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut sides = [Side::builtin(&args.builtin).await?, Side::cridge(&args.cridge).await?];
    for side in &sides {
        side.pull(side::BUSYBOX).await?;
    }
    let mut table = Table::default();
    daemon::memory(&sides, "before any pod", &mut table)?;
    let rounds = if args.quick { args.rounds.min(3) } else { args.rounds };
    let wants = |part| args.only.is_none_or(|only| only == part);
    if wants(Part::Pods) {
        steps::one_pod(&sides, rounds, &mut table).await.context("pods one by one")?;
    }
    if wants(Part::Load) {
        load::many_callers(&sides, if args.quick { 1 } else { 4 }, &mut table)
            .await
            .context("many callers")?;
    }
    if wants(Part::Pulls) {
        let images: &[_] = if args.quick { &[pulls::SMALL] } else { &[pulls::SMALL, pulls::LARGE] };
        for image in images {
            pulls::again_and_again(&sides, image, rounds, &mut table).await.context("pulls")?;
        }
    }
    if wants(Part::Crowd) {
        let sizes: &[usize] = if args.quick { &[20] } else { &[20, 100] };
        steps::crowd(&sides, sizes, rounds, &mut table).await.context("many pods")?;
    }
    if wants(Part::Streams) {
        let rounds = if args.quick { 1 } else { rounds.min(10) };
        streams::sessions(&args.client, &sides, rounds, &mut table).await.context("streams")?;
    }
    if wants(Part::Away) {
        away::daemons_started_anew(&mut sides, if args.quick { 1 } else { rounds.min(10) }, &mut table)
            .await
            .context("daemons started anew")?;
    }
    for side in &sides {
        ensure!(side.pods().await?.is_empty(), "{} still has pods", side.name);
    }

    print!("{table}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&table.to_json())?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missed = table.missed_targets();
    Ok(if args.check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
