//! How long pods are without a runtime when a daemon is started anew below them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::side::Side;
use crate::steps::{pod_down, pod_up};
use crate::table::{Table, Unit};

const PODS: usize = 20;
/// Longer than any of both needs.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_millis(2);

/// From the new daemon's start until the runtime says that it is ready and lists all pods. The built-in plugin is
/// containerd's own: both of its rows are containerd's restarts.
pub async fn daemons_started_anew(sides: &mut [Side; 2], rounds: usize, table: &mut Table) -> Result<()> {
    let mut pods = [Vec::new(), Vec::new()];
    for (side, pods) in sides.iter().zip(&mut pods) {
        for n in 0..PODS {
            pods.push(pod_up(side, &format!("away-{n}"), 1).await?.0);
        }
    }
    for round in 0..rounds {
        for n in [round % 2, (round + 1) % 2] {
            let side = &mut sides[n];
            let last = side.daemons.len() - 1;
            let mut note = |what: String, took| table.row(&what, Unit::Milliseconds).samples[n].push(took);
            let killed = until_ready(side, 0, Signal::KILL).await?;
            note(format!("ready again, containerd killed, {PODS} pods"), killed);
            let upgraded = until_ready(side, last, Signal::TERM).await?;
            note(format!("ready again, runtime upgraded, {PODS} pods"), upgraded);
        }
    }
    for (side, pods) in sides.iter().zip(&pods) {
        for pod in pods {
            pod_down(side, pod).await?;
        }
    }
    Ok(())
}

/// In milliseconds.
async fn until_ready(side: &mut Side, daemon: usize, signal: Signal) -> Result<f64> {
    side.daemons[daemon].start_anew(signal).await?;
    let began = Instant::now();
    loop {
        if side.is_ready().await && side.pods().await.is_ok_and(|pods| pods.len() == PODS) {
            return Ok(began.elapsed().as_secs_f64() * 1000.0);
        }
        ensure!(began.elapsed() < PATIENCE, "{} is not ready", side.name);
        tokio::time::sleep(BETWEEN).await;
    }
}
