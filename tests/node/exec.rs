//! ExecSync: what the kubelet's probes and `crictl exec -s` stand on.

use k8s_cri::v1 as cri;
use tonic::Code;

use crate::cases;
use crate::harness::{Case, Output, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["exec":
        output_and_exit_code_are_returned,
        a_signals_death_is_an_exit_code,
        a_command_has_the_containers_user_and_environment,
        a_timeout_is_deadline_exceeded_and_ends_the_command,
        many_commands_at_once,
        a_command_runs_while_the_container_stops,
        a_container_that_does_not_run_is_refused,
        a_command_that_is_missing_is_an_error,
        an_empty_command_is_refused,
        a_command_in_a_container_with_a_terminal;
    cridge only:
        more_commands_at_once_than_a_shim_keeps_track_of,
        output_is_cut_to_what_the_kubelet_takes,
        a_grandchild_that_holds_the_pipe_does_not_hang_it,
        a_stop_ends_the_commands_too,
        a_caller_that_goes_away_ends_its_command,
        refusals_have_their_codes,
        a_container_that_has_just_ended_is_refused_as_one_that_does_not_run,
    ]
}

async fn output_and_exit_code_are_returned(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let output = app.try_exec(&["sh", "-c", "echo out; echo err >&2; exit 42"], 0).await.unwrap();
    assert_eq!(output, Output { stdout: "out\n".into(), stderr: "err\n".into(), code: 42 });
    let silent = app.try_exec(&["true"], 10).await.unwrap();
    assert_eq!(silent, Output { stdout: String::new(), stderr: String::new(), code: 0 });
    // A command has no input, and does not write to the container's log.
    assert_eq!(app.sh("cat; echo end").await, "end");
    assert_eq!(app.log(), []);
}

async fn a_signals_death_is_an_exit_code(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    assert_eq!(app.try_exec(&["sh", "-c", "kill -KILL $$"], 0).await.unwrap().code, 137);
}

async fn a_command_has_the_containers_user_and_environment(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").security(|s| s.run_as_user = Some(cri::Int64Value { value: 1000 }));
    let app = app.with(|config| {
        config.working_dir = "/var/www".into();
        config.envs = vec![cri::KeyValue { key: "GREETING".into(), value: "hello there".into() }];
    });
    assert_eq!(app.start().await.sh("id -u; pwd; echo $GREETING").await, "1000\n/var/www\nhello there");
}

async fn a_timeout_is_deadline_exceeded_and_ends_the_command(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let refused = app.try_exec(&["sh", "-c", "exec sleep 12345"], 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "probes tell a timeout by it: {refused:?}");
    until("the command is gone", || async {
        (app.sh("pgrep -f 'sleep 1234[5]' || echo none").await == "none").then_some(())
    })
    .await;
}

async fn output_is_cut_to_what_the_kubelet_takes(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let endless = "head -c 20000000 /dev/zero | tr '\\0' x";
    for (script, streams) in [(endless, 1), (&format!("{endless}; {endless} >&2"), 2)] {
        let request = cri::ExecSyncRequest {
            container_id: app.id.clone(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: 0,
        };
        // Its client's limit for all of an answer.
        let mut kubelet = t.node().runtime().max_decoding_message_size(16 << 20);
        let answer = kubelet.exec_sync(request).await.expect("an answer that fits").into_inner();
        assert_eq!(answer.exit_code, 0);
        assert!(answer.stdout.len() > (15 << 20) / streams, "{} bytes", answer.stdout.len());
        assert!(streams == 1 || answer.stderr.len() > 7 << 20, "{} bytes", answer.stderr.len());
    }
}

async fn many_commands_at_once(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let scripts: Vec<_> = (0..12).map(|number| format!("sleep 0.1; echo {number}")).collect();
    let outputs = futures::future::join_all(scripts.iter().map(|script| app.sh(script))).await;
    for (number, output) in outputs.iter().enumerate() {
        assert_eq!(*output, number.to_string());
    }
}

/// 1.6's shim forgets some of their ends.
async fn more_commands_at_once_than_a_shim_keeps_track_of(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let commands = (0..40).map(|number| {
        let (app, script) = (app.clone(), format!("echo {number}; exit {number}"));
        async move { app.try_exec(&["sh", "-c", &script], 0).await }
    });
    for (number, output) in futures::future::join_all(commands).await.into_iter().enumerate() {
        match output {
            Ok(output) => assert_eq!((output.stdout, output.code), (format!("{number}\n"), number as i32)),
            Err(status) => assert!(status.message().contains("does not tell how"), "{status:?}"),
        }
    }
}

async fn a_command_runs_while_the_container_stops(t: Test) {
    let script = "trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.1; done";
    let app = t.pod().run().await.container("app").shell(script).start().await;
    app.logs("ready").await;
    let stop = tokio::spawn({
        let app = app.clone();
        async move { app.try_stop(3600).await }
    });
    app.logs("got TERM").await;
    assert_eq!(app.sh("echo still here").await, "still here");
    app.stop(0).await;
    stop.await.unwrap().unwrap();
    app.try_exec(&["true"], 5).await.expect_err("it has ended");
}

async fn a_container_that_does_not_run_is_refused(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("exit 0").create().await;
    app.try_exec(&["true"], 5).await.expect_err("it has not been started");
    app.start().await;
    app.exited().await;
    app.try_exec(&["true"], 5).await.expect_err("it has ended");
    app.remove().await;
    assert_eq!(app.try_exec(&["true"], 5).await.unwrap_err().code(), Code::NotFound);
}

async fn refusals_have_their_codes(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").create().await;
    let refused = app.try_exec(&["true"], 5).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("created"), "should name the state: {refused:?}");
    app.start().await;
    let refused = app.try_exec(&[], 5).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("cmd"), "should name the field: {refused:?}");
    let refused = app.try_exec(&["true"], -1).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("timeout"), "should name the field: {refused:?}");
}

async fn a_command_that_is_missing_is_an_error(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let refused = app.try_exec(&["/no/such/command"], 5).await.unwrap_err();
    assert!(refused.message().contains("/no/such/command"), "should name the command: {refused:?}");
}

async fn an_empty_command_is_refused(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    app.try_exec(&[], 5).await.expect_err("there is nothing to run");
}

async fn a_command_in_a_container_with_a_terminal(t: Test) {
    let app = t.pod().run().await.container("app").with(|config| config.tty = true).start().await;
    // The container's terminal is not the command's.
    assert_eq!(app.sh("[ -t 1 ] || echo no terminal").await, "no terminal");
}

async fn a_grandchild_that_holds_the_pipe_does_not_hang_it(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    assert_eq!(app.sh("sleep 3600 & echo done").await, "done");
}

async fn a_stop_ends_the_commands_too(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let long = tokio::spawn({
        let app = app.clone();
        async move { app.try_exec(&["sh", "-c", "sleep 3600; echo through"], 0).await }
    });
    until("the command runs", || async {
        (app.sh("pgrep -f 'sleep 360[0]; echo' || echo none").await != "none").then_some(())
    })
    .await;
    app.stop(0).await;
    // A refusal or an exit code, but no waiting and no success.
    if let Ok(output) = long.await.unwrap() {
        assert_ne!(output.code, 0, "{output:?}");
    }
}

async fn a_caller_that_goes_away_ends_its_command(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let long = tokio::spawn({
        let app = app.clone();
        async move { app.try_exec(&["sleep", "12345"], 0).await }
    });
    until("the command runs", || async {
        (app.sh("pgrep -f 'sleep 1234[5]' || echo none").await != "none").then_some(())
    })
    .await;
    long.abort();
    until("the command is gone", || async {
        (app.sh("pgrep -f 'sleep 1234[5]' || echo none").await == "none").then_some(())
    })
    .await;
}

/// The kubelet's probes go on while a container ends; at each moment of that, the answer means the same.
async fn a_container_that_has_just_ended_is_refused_as_one_that_does_not_run(t: Test) {
    let app = t.pod().run().await.container("app").shell("sleep 2").start().await;
    let probes = (0..8).map(|_| async {
        loop {
            match app.try_exec(&["true"], 0).await {
                // Its own end, with the container's.
                Ok(output) if [0, 137].contains(&output.code) => {}
                answer => return answer.expect_err("an odd exit code"),
            }
        }
    });
    for refused in futures::future::join_all(probes).await {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    }
}
