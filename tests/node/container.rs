//! A container's life: created, running, exited; how it is ended, and what is told of its end.

use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerState;
use tonic::Code;

use crate::cases;
use crate::harness::{BUSYBOX, Case, Test, on_cridge};

pub fn cases() -> Vec<Case> {
    cases!["container":
        exit_codes_are_told_as_they_were,
        a_death_by_signal_is_told,
        an_oom_kill_is_told,
        times_are_in_order,
        a_command_that_is_missing_is_a_start_error,
        a_graceful_stop_gets_its_signal_and_its_time,
        who_does_not_heed_the_signal_is_killed,
        a_later_stop_without_patience_wins,
        stops_at_once_end_it_once,
        the_images_stop_signal_is_sent,
        a_stop_of_what_does_not_run_is_fine,
        a_running_container_is_killed_by_its_removal,
        only_a_created_container_starts,
        the_image_of_a_running_container_is_told;
    cridge only:
        a_refused_start_names_the_state,
    ]
}

async fn exit_codes_are_told_as_they_were(t: Test) {
    let pod = t.pod().run().await;
    for (code, reason) in [(0, "Completed"), (1, "Error"), (3, "Error"), (255, "Error")] {
        let app = pod.container(&format!("exit-{code}")).shell(&format!("exit {code}")).start().await;
        let status = app.exited().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
    }
}

async fn a_death_by_signal_is_told(t: Test) {
    let pod = t.pod().shared_pids().run().await;
    for (signal, code) in [("SEGV", 139), ("TERM", 143), ("KILL", 137)] {
        let app = pod.container(&signal.to_lowercase()).shell(&format!("kill -{signal} $$")).start().await;
        let status = app.exited().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "Error"));
    }
}

async fn an_oom_kill_is_told(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("exec tail /dev/zero").resources(|resources| {
        resources.memory_limit_in_bytes = 32 << 20;
    });
    let status = app.start().await.exited().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

async fn times_are_in_order(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("sleep 0.2").create().await;
    let created = app.status().await;
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    app.start().await;
    let ended = app.exited().await;
    assert_eq!(ended.created_at, created.created_at);
    assert!(pod.status().await.created_at <= ended.created_at);
    assert!(ended.created_at < ended.started_at, "{ended:?}");
    assert!(ended.started_at < ended.finished_at, "{ended:?}");
    // An end is told the same ever after.
    assert_eq!(app.status().await, ended);
}

async fn a_command_that_is_missing_is_a_start_error(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").command(&["/no/such/command"]).create().await;
    let refused = app.try_start().await.unwrap_err();
    assert!(refused.message().contains("/no/such/command"), "should name the command: {refused:?}");
    let status = app.status().await;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.message.contains("/no/such/command"), "{status:?}");
    assert!(status.finished_at > 0, "the kubelet's back-off counts from it: {status:?}");
    app.try_start().await.expect_err("it has had its start");
    app.stop(1).await;
}

async fn a_graceful_stop_gets_its_signal_and_its_time(t: Test) {
    let pod = t.pod().run().await;
    let script =
        "trap 'echo got TERM; sleep 1; echo done; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let app = pod.container("app").shell(script).start().await;
    app.logs("ready").await;
    app.stop(60).await;
    let status = app.status().await;
    assert_eq!(status.state(), ContainerState::ContainerExited, "it has ended when StopContainer answers");
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert_eq!(app.log_text(), "ready\ngot TERM\ndone");
}

async fn who_does_not_heed_the_signal_is_killed(t: Test) {
    let pod = t.pod().run().await;
    let app =
        pod.container("app").shell("trap '' TERM; echo ready; while :; do sleep 0.1; done").start().await;
    app.logs("ready").await;
    app.stop(1).await;
    let status = app.status().await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
}

async fn a_later_stop_without_patience_wins(t: Test) {
    let pod = t.pod().run().await;
    let script = "trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.1; done";
    let app = pod.container("app").shell(script).start().await;
    app.logs("ready").await;
    let long = tokio::spawn({
        let app = app.clone();
        async move { app.try_stop(3600).await }
    });
    app.logs("got TERM").await;
    app.stop(0).await;
    assert_eq!(app.status().await.exit_code, 137);
    long.await.unwrap().expect("the long stop has what it waited for");
    assert_eq!(app.log_text(), "ready\ngot TERM", "the signal comes once");
}

async fn stops_at_once_end_it_once(t: Test) {
    let pod = t.pod().run().await;
    let script = "trap 'echo got TERM; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let app = pod.container("app").shell(script).start().await;
    app.logs("ready").await;
    futures::future::join_all((0..5).map(|_| app.stop(60))).await;
    assert_eq!(app.log_text(), "ready\ngot TERM");
    assert_eq!(app.status().await.exit_code, 0);
}

async fn the_images_stop_signal_is_sent(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/configured:1";
    t.node().pull(IMAGE).await;
    let pod = t.pod().run().await;
    let script =
        "trap 'echo got USR1; exit 5' USR1; trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done";
    let app = pod.container("app").image(IMAGE).shell(script).start().await;
    app.logs("ready").await;
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
}

async fn a_stop_of_what_does_not_run_is_fine(t: Test) {
    let pod = t.pod().run().await;
    let created = pod.container("created").create().await;
    created.stop(1).await;
    assert_eq!(created.state().await, ContainerState::ContainerCreated);
    let exited = pod.container("exited").shell("exit 4").start().await;
    let ended = exited.exited().await;
    exited.stop(1).await;
    exited.stop(0).await;
    assert_eq!(exited.status().await, ended);
    exited.remove().await;
    // What is gone is stopped and removed.
    exited.stop(1).await;
    exited.remove().await;
}

async fn a_running_container_is_killed_by_its_removal(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    app.remove().await;
    assert_eq!(app.try_status().await.unwrap_err().code(), Code::NotFound);
    // Its name is free.
    pod.container("app").start().await;
}

async fn only_a_created_container_starts(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    app.try_start().await.expect_err("it runs already");
    assert_eq!(app.state().await, ContainerState::ContainerRunning);
    app.stop(0).await;
    app.try_start().await.expect_err("it has ended");
    let missing = cri::StartContainerRequest { container_id: "0".repeat(64) };
    let refused = t.node().runtime().start_container(missing).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

async fn a_refused_start_names_the_state(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let refused = app.try_start().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("running"), "{refused:?}");
}

async fn the_image_of_a_running_container_is_told(t: Test) {
    let id = t.node().pull(BUSYBOX).await;
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let status = app.status().await;
    let image = t.lab().image("library/busybox:latest");
    assert_eq!(status.image.unwrap().image, "docker.io/library/busybox:latest");
    assert_eq!(status.image_ref, format!("docker.io/library/busybox@{}", image.digest));
    if on_cridge() {
        // By these the kubelet knows which images are in use.
        assert_eq!(status.image_id, id);
        let filter = cri::ContainerFilter { id: app.id.clone(), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let listed = t.node().runtime().list_containers(request).await.unwrap().into_inner().containers;
        assert_eq!(listed[0].image_id, id);
    }
}
