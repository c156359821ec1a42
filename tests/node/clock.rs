//! The wall clock is set, back and ahead: what follows one after the other is told in that order, and no wait takes longer
//! or shorter for it.

use std::fs;

use rustix::process::Signal;

use crate::cases;
use crate::events::Ear;
use crate::harness::{Case, Container, Node, NodeOptions, Test, until};
use crate::restart::COUNT;

pub fn cases() -> Vec<Case> {
    cases!["clock": ; cridge only: a_clock_that_is_set_changes_no_order]
}

const HOUR: i64 = 3600;

/// By how many seconds the node's cridge is wrong from now on.
fn set(node: &Node, seconds: i64) {
    let file = node.points().folder.join("clock");
    fs::write(file.with_extension("new"), seconds.to_string()).unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

async fn in_order(container: &Container) {
    let status = container.status().await;
    let times = [status.created_at, status.started_at, status.finished_at];
    let set: Vec<_> = times.into_iter().filter(|at| *at > 0).collect();
    assert!(set.is_sorted(), "{status:?}");
    let log = container.log();
    assert!(log.is_sorted_by(|one, next| one.time <= next.time), "{log:?}");
}

async fn a_clock_that_is_set_changes_no_order(t: Test) {
    let node = t.own_node(NodeOptions { points: true, ..Default::default() }).await;
    let ear = Ear::at(&node).await;
    set(&node, HOUR);
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(COUNT).create().await;
    for wrong in [0, -HOUR, 2 * HOUR, 0] {
        set(&node, wrong);
        if app.status().await.started_at == 0 {
            app.start().await;
        }
        let lines = app.log().len();
        until("its log goes on", || async { (app.log().len() > lines + 5).then_some(()) }).await;
        let short = app.try_exec(&["sleep", "3600"], 1).await.unwrap_err();
        assert_eq!(short.code(), tonic::Code::DeadlineExceeded, "{short:?}");
        assert_eq!(app.try_exec(&["echo", "inside"], 60).await.unwrap().stdout, "inside\n");
        in_order(&app).await;
    }
    set(&node, -HOUR);
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
    in_order(&app).await;
    let late = pod.container("late").create().await;
    let told = [app.status().await, late.status().await];
    node.end(Signal::KILL).await;
    set(&node, -2 * HOUR);
    node.start().await;
    assert_eq!([app.status().await, late.status().await], told);
    let events = ear.of(&pod);
    assert!(events.len() >= 5, "{events:?}");
    assert!(events.windows(2).all(|pair| pair[0].created_at < pair[1].created_at), "{events:?}");
    assert_eq!(t.pod_on(&node).run().await.container("app").shell("echo works").output().await, "works");
}
