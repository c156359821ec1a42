//! One call after the other, as a kubelet makes them for one pod.

use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;

use crate::daemon;
use crate::side::{Pod, Side};
use crate::table::{Table, Unit};

/// Takes a step on both sides, `first` first, and notes the times; what each side's step gave.
pub async fn on_both<'a, T>(
    sides: &'a [Side; 2],
    first: usize,
    name: &str,
    table: &mut Table,
    step: impl AsyncFn(usize, &'a Side) -> Result<T>,
) -> Result<[T; 2]> {
    let mut given = [None, None];
    for n in [first % 2, (first + 1) % 2] {
        let began = Instant::now();
        given[n] = Some(step(n, &sides[n]).await?);
        let took = began.elapsed().as_secs_f64() * 1000.0;
        table.row(name, Unit::Milliseconds).samples[n].push(took);
    }
    Ok(given.map(|given| given.expect("both sides took the step")))
}

/// Every call of a pod's life, then a pod as a whole.
pub async fn one_pod(sides: &[Side; 2], rounds: usize, table: &mut Table) -> Result<()> {
    // The first pod of a daemon pays for what all others find in place.
    let mut warming = Table::default();
    step_by_step(sides, 0, "warm", &mut warming).await?;
    for round in 0..rounds {
        step_by_step(sides, round, &format!("one-{round}"), table).await?;
    }
    for round in 0..rounds {
        let name = &format!("two-{round}");
        let pods = on_both(sides, round, "pod of 2 containers up", table, async |_, side| {
            pod_up(side, name, 2).await
        })
        .await?;
        on_both(sides, round, "pod of 2 containers down", table, async |n, side| {
            pod_down(side, &pods[n].0).await
        })
        .await?;
    }
    Ok(())
}

async fn step_by_step(sides: &[Side; 2], round: usize, name: &str, table: &mut Table) -> Result<()> {
    let t = table;
    let pods = on_both(sides, round, "RunPodSandbox", t, async |_, side| side.run_pod(name).await).await?;
    let made =
        on_both(sides, round, "CreateContainer", t, async |n, side| side.create(&pods[n], "c").await).await?;
    on_both(sides, round, "StartContainer", t, async |n, side| side.start(&made[n]).await).await?;
    on_both(sides, round, "ExecSync", t, async |n, side| side.exec(&made[n]).await).await?;
    on_both(sides, round, "StopContainer", t, async |n, side| side.stop(&made[n]).await).await?;
    on_both(sides, round, "RemoveContainer", t, async |n, side| side.remove(&made[n]).await).await?;
    on_both(sides, round, "StopPodSandbox", t, async |n, side| side.stop_pod(&pods[n]).await).await?;
    on_both(sides, round, "RemovePodSandbox", t, async |n, side| side.remove_pod(&pods[n]).await).await?;
    Ok(())
}

/// A running pod, and its containers.
pub async fn pod_up(side: &Side, name: &str, containers: usize) -> Result<(Pod, Vec<String>)> {
    let pod = side.run_pod(name).await?;
    let mut ids = Vec::new();
    for n in 0..containers {
        let id = side.create(&pod, &format!("c{n}")).await?;
        side.start(&id).await?;
        ids.push(id);
    }
    Ok((pod, ids))
}

pub async fn pod_down(side: &Side, pod: &Pod) -> Result<()> {
    side.stop_pod(pod).await?;
    side.remove_pod(pod).await
}

/// What is asked all the time, and what is held, with many pods up.
pub async fn crowd(sides: &[Side; 2], sizes: &[usize], rounds: usize, table: &mut Table) -> Result<()> {
    let mut pods: [Vec<(Pod, Vec<String>)>; 2] = Default::default();
    for &size in sizes {
        for (side, pods) in sides.iter().zip(&mut pods) {
            let names: Vec<String> = (pods.len()..size).map(|n| format!("crowd-{n}")).collect();
            for some in names.chunks(8) {
                pods.extend(try_join_all(some.iter().map(|name| pod_up(side, name, 1))).await?);
            }
        }
        let with = |call: &str| format!("{call}, {size} pods up");
        // As cheap as they are, more of them cost nothing.
        for round in 0..rounds * 5 {
            let t = &mut *table;
            let last = |n: usize| &pods[n][round % size];
            on_both(sides, round, &with("ListPodSandbox"), t, async |_, side| side.pods().await).await?;
            on_both(sides, round, &with("ListContainers"), t, async |_, side| side.containers().await)
                .await?;
            on_both(sides, round, &with("PodSandboxStatus"), t, async |n, side| {
                side.pod_status(&last(n).0).await
            })
            .await?;
            on_both(sides, round, &with("ContainerStatus"), t, async |n, side| {
                side.container_status(&last(n).1[0]).await
            })
            .await?;
        }
        for round in 0..rounds {
            on_both(sides, round, &with("ListContainerStats"), table, async |_, side| side.stats(size).await)
                .await?;
        }
        daemon::memory(sides, &format!("with {size} pods"), table)?;
    }
    for (side, pods) in sides.iter().zip(&pods) {
        for some in pods.chunks(8) {
            try_join_all(some.iter().map(|(pod, _)| pod_down(side, pod))).await?;
        }
    }
    daemon::memory(sides, "after all pods", table)
}
