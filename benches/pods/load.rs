//! Many callers at once: pods per second, and what they cost.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::daemon::spent;
use crate::side::Side;
use crate::steps::{pod_down, pod_up};
use crate::table::{Table, Unit};

const CALLERS: usize = 16;
const PODS: usize = 48;

/// All pods up and then down, on one side after the other.
pub async fn many_callers(sides: &[Side; 2], rounds: usize, table: &mut Table) -> Result<()> {
    for round in 0..rounds {
        for n in [round % 2, (round + 1) % 2] {
            let side = &sides[n];
            let mut note = |what: &str, seconds: f64| {
                let each = seconds * 1000.0 / PODS as f64;
                table.row(what, Unit::Milliseconds).samples[n].push(each);
            };
            let before = spent(side)?;
            let began = Instant::now();
            let pods: Vec<_> = stream::iter(0..PODS)
                .map(async |pod| pod_up(side, &format!("load-{round}-{pod}"), 1).await)
                .buffer_unordered(CALLERS)
                .try_collect()
                .await?;
            note("per pod up, 16 callers", began.elapsed().as_secs_f64());
            let began = Instant::now();
            stream::iter(&pods)
                .map(Ok)
                .try_for_each_concurrent(CALLERS, async |(pod, _)| pod_down(side, pod).await)
                .await?;
            note("per pod down, 16 callers", began.elapsed().as_secs_f64());
            let after = spent(side)?;
            note("CPU of the daemons, pod up + down", (after.own - before.own).as_secs_f64());
            let all = after.with_children - before.with_children;
            note("… and of the CNI plugins", all.as_secs_f64());
        }
    }
    Ok(())
}
