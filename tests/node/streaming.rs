//! Exec, Attach and PortForward, by the field's own client: crictl, and Kubernetes' client library in it.

use std::process::{Output, Stdio};

use k8s_cri::v1 as cri;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tonic::Code;

use crate::cases;
use crate::crictl::command;
use crate::harness::{Case, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["streaming":
        outputs_and_exit_code_reach_the_client,
        all_output_of_a_command_that_ends_at_once_arrives,
        a_command_hears_all_that_it_is_told,
        a_client_that_vanishes_leaves_no_command_behind,
        a_container_that_is_killed_ends_the_session,
        whoever_is_attached_talks_with_the_container;
    cridge only:
        one_bad_connection_does_not_end_a_port_forward,
        what_cannot_be_streamed_is_refused,
    ]
}

/// Runs crictl with an input, to its end.
async fn told(t: &Test, args: &[&str], input: Vec<u8>) -> Output {
    let mut crictl = command(t, args);
    crictl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut crictl = crictl.spawn().expect("crictl can be run");
    let mut stdin = crictl.stdin.take().unwrap();
    let telling = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = crictl.wait_with_output().await.unwrap();
    telling.await.unwrap().unwrap();
    output
}

async fn outputs_and_exit_code_reach_the_client(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let output =
        told(&t, &["exec", &app.id, "sh", "-c", "echo out; echo err >&2; exit 42"], Vec::new()).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"out\n");
    assert!(errors.contains("err\n"), "{errors}");
    assert!(errors.contains("command terminated with exit code 42"), "{errors}");
    let missing = told(&t, &["exec", &app.id, "no-such-command"], Vec::new()).await;
    let errors = String::from_utf8_lossy(&missing.stderr);
    assert!(!missing.status.success() && errors.contains("no-such-command"), "{errors}");
}

async fn all_output_of_a_command_that_ends_at_once_arrives(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let output = told(&t, &["exec", &app.id, "head", "-c", "20000000", "/dev/zero"], Vec::new()).await;
    assert!(output.status.success());
    assert_eq!(output.stdout.len(), 20_000_000);
}

async fn a_command_hears_all_that_it_is_told(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let said: Vec<u8> = (0..8_000_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let output = told(&t, &["exec", "-i", &app.id, "cat"], said.clone()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == said, "{} bytes came back", output.stdout.len());
}

async fn a_client_that_vanishes_leaves_no_command_behind(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let mut crictl = command(&t, &["exec", "-i", &app.id, "cat"]);
    let mut crictl = crictl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    crictl.stdin.as_mut().unwrap().write_all(b"there\n").await.unwrap();
    let mut heard = [0; 6];
    crictl.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    crictl.kill().await.unwrap();
    until("the command ends", || async {
        app.sh("pidof cat || echo none").await.contains("none").then_some(())
    })
    .await;
}

async fn a_container_that_is_killed_ends_the_session(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let mut crictl = command(&t, &["exec", &app.id, "sh", "-c", "echo here; sleep 1000"]);
    let mut crictl = crictl.stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = [0; 5];
    crictl.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    app.stop(0).await;
    assert!(!crictl.wait().await.unwrap().success());
}

async fn whoever_is_attached_talks_with_the_container(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("printf 'prompt> '; cat; echo over").with(|config| {
        config.stdin = true;
        config.stdin_once = true;
    });
    let app = app.start().await;
    let mut crictl = command(&t, &["attach", "-i", &app.id]);
    let mut crictl = crictl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = crictl.stdin.take().unwrap();
    let mut lines = BufReader::new(crictl.stdout.take().unwrap()).lines();
    stdin.write_all(b"typed\n").await.unwrap();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.ends_with("typed"), "{first}");
    // Its input ends with the client's, and the container with its input.
    drop(stdin);
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("over"));
    assert!(crictl.wait().await.unwrap().success());
    assert_eq!(app.exited().await.exit_code, 0);
    assert_eq!(app.log_text(), "prompt> typed\nover");
}

async fn one_bad_connection_does_not_end_a_port_forward(t: Test) {
    let pod = t.pod().run().await;
    let _server =
        pod.container("server").shell("while :; do echo served | nc -l -p 8080; done").start().await;
    let mut crictl = command(&t, &["port-forward", &pod.id, "0:8080", "0:9"]);
    let mut crictl = crictl.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(crictl.stdout.take().unwrap()).lines();
    let mut ports = [0; 2];
    for (port, inside) in ports.iter_mut().zip(["8080", "9"]) {
        *port = loop {
            let line = lines.next_line().await.unwrap().expect("it runs until it is ended");
            let told =
                line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(" -> "));
            if let Some((outside, to)) = told {
                assert_eq!(to, inside);
                break outside.parse().unwrap();
            }
        };
    }
    for _ in 0..3 {
        // Nobody listens on the one.
        assert_eq!(answer(ports[1]).await, "");
        until("the other serves", || async { (answer(ports[0]).await == "served\n").then_some(()) }).await;
    }
    assert!(crictl.try_wait().unwrap().is_none(), "it goes on");
}

async fn what_cannot_be_streamed_is_refused(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let mut runtime = t.node().runtime();
    let good = cri::ExecRequest {
        container_id: app.id.clone(),
        cmd: vec!["true".into()],
        stdout: true,
        ..Default::default()
    };
    let url = runtime.exec(good.clone()).await.unwrap().into_inner().url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    for (request, code) in [
        (cri::ExecRequest { stdout: false, ..good.clone() }, Code::InvalidArgument),
        (cri::ExecRequest { tty: true, stderr: true, ..good.clone() }, Code::InvalidArgument),
        (cri::ExecRequest { cmd: Vec::new(), ..good.clone() }, Code::InvalidArgument),
        (cri::ExecRequest { container_id: "0".repeat(64), ..good.clone() }, Code::NotFound),
    ] {
        assert_eq!(runtime.exec(request).await.unwrap_err().code(), code);
    }
    let port = cri::PortForwardRequest { pod_sandbox_id: app.id.clone(), port: vec![65536] };
    assert_eq!(runtime.port_forward(port).await.unwrap_err().code(), Code::InvalidArgument);
    app.stop(0).await;
    assert_eq!(runtime.exec(good).await.unwrap_err().code(), Code::FailedPrecondition);
}

/// What a connection to a local port says until its end.
async fn answer(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut said = String::new();
    // A reset says nothing either.
    let _ = stream.read_to_string(&mut said).await;
    said
}
