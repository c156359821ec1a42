//! Exec and PortForward by Kubernetes' own client library (tests/go/streaming), over SPDY and over WebSocket: nothing is
//! lost, nothing hangs, and nothing stays behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use futures::future::join_all;
use k8s_cri::v1 as cri;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Test, on_cridge, until};

pub fn cases() -> Vec<Case> {
    cases!["sessions":
        streams_and_the_exit_code_are_the_commands,
        all_of_much_output_before_an_exit_arrives,
        a_terminal_has_the_clients_size,
        a_shell_is_talked_with,
        a_tree_of_ten_thousand_files_is_copied_out_and_in,
        large_inputs_come_back_whole_to_readers_that_stall,
        killed_clients_leave_nothing,
        a_killed_container_ends_its_sessions;
    cridge only:
        many_connections_share_a_port_forward,
        a_bad_connection_ends_alone,
        two_hundred_commands_talk_at_once,
        all_of_it_goes_over_tls_as_well,
        restarts_end_sessions_and_nothing_stays,
    ]
}

/// The ways of connecting: the built-in plugin knows neither how a WebSocket's input ends, nor the tunnel.
pub fn transports() -> &'static [&'static str] {
    if on_cridge() { &["spdy", "websocket"] } else { &["spdy"] }
}

/// The client, for one of its commands. It ends with whoever holds it.
pub fn client(node: &Node, command: &str, transport: &str) -> Command {
    let mut client = Command::new(node.tool("streaming"));
    client.args([command, "-transport", transport]).kill_on_drop(true);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    client
}

/// What Exec is asked for.
pub fn wanted(container: &Container, command: &[&str]) -> cri::ExecRequest {
    let cmd = command.iter().map(|word| (*word).to_owned()).collect();
    cri::ExecRequest { container_id: container.id.clone(), cmd, stdout: true, ..Default::default() }
}

pub async fn url(node: &Node, request: cri::ExecRequest) -> String {
    node.runtime().exec(request).await.unwrap().into_inner().url
}

/// A client that says what it is told to `cat`, which says it back.
pub async fn talking(node: &Node, transport: &str, app: &Container) -> Child {
    let request = cri::ExecRequest { stdin: true, ..wanted(app, &["cat"]) };
    let mut client = client(node, "exec", transport);
    let mut client = client.args(["-i", &url(node, request).await]).spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"there\n").await.unwrap();
    let mut heard = [0; 6];
    client.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"there\n");
    client
}

/// Runs a client with an input, to its end.
pub async fn told(mut client: Command, input: Vec<u8>) -> Output {
    let mut client = client.spawn().expect("hack/lab has built the client");
    let mut stdin = client.stdin.take().unwrap();
    let telling = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = client.wait_with_output().await.unwrap();
    telling.await.unwrap().unwrap();
    output
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The FIFOs of a container and its commands.
pub fn fifos(node: &Node, app: &Container) -> BTreeSet<PathBuf> {
    let all = fifos_below(&node.dir);
    all.into_iter().filter(|path| path.to_string_lossy().contains(&app.id)).collect()
}

fn fifos_below(folder: &Path) -> BTreeSet<PathBuf> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            // Containers' own file systems are none of ours.
            Ok(kind) if kind.is_dir() && entry.file_name() != "rootfs" => {
                found.extend(fifos_below(&entry.path()))
            }
            Ok(kind) if kind.is_fifo() => _ = found.insert(entry.path()),
            _ => {}
        }
    }
    found
}

/// Waits until no command is there any more, and no FIFO but these.
pub async fn nothing_is_left(node: &Node, app: &Container, before: &BTreeSet<PathBuf>) {
    until("all commands have ended", || async {
        app.sh("pidof cat || echo none").await.contains("none").then_some(())
    })
    .await;
    until("all FIFOs are gone", || async { (fifos(node, app) == *before).then_some(()) }).await;
}

async fn streams_and_the_exit_code_are_the_commands(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    for transport in transports() {
        let script = "cat; echo err >&2; printf 'no line'; exit 137";
        let request = cri::ExecRequest { stdin: true, stderr: true, ..wanted(&app, &["sh", "-c", script]) };
        let mut client = client(t.node(), "exec", transport);
        client.args(["-i", "-stderr", &url(t.node(), request).await]);
        let output = told(client, b"said\n".to_vec()).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "said\nno line", "{transport}");
        assert_eq!((errors(&output).as_str(), output.status.code()), ("err\n", Some(137)), "{transport}");
    }
}

async fn all_of_much_output_before_an_exit_arrives(t: Test) {
    // More than 50 MB.
    const LINES: u32 = 6_500_000;
    let app = t.pod().run().await.container("app").start().await;
    for transport in transports() {
        let request = wanted(&app, &["seq", &LINES.to_string()]);
        let mut client = client(t.node(), "exec", transport);
        client.arg(url(t.node(), request).await);
        let output = told(client, Vec::new()).await;
        assert!(output.status.success(), "{transport}: {}", errors(&output));
        let mut lines = output.stdout.split(|byte| *byte == b'\n');
        for n in 1..=LINES {
            let line = lines.next().unwrap_or_default();
            assert!(
                line == n.to_string().as_bytes(),
                "{transport}: line {n} of {} bytes",
                output.stdout.len()
            );
        }
    }
}

async fn a_terminal_has_the_clients_size(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    for transport in transports() {
        let script =
            r#"until [ "$(stty size 2>/dev/null)" = "50 132" ]; do sleep 0.05; done; tty -s && echo resized"#;
        let request = cri::ExecRequest { tty: true, ..wanted(&app, &["sh", "-c", script]) };
        let mut client = client(t.node(), "exec", transport);
        client.args(["-t", "-size", "80x24", "-size", "132x50", &url(t.node(), request).await]);
        let output = told(client, Vec::new()).await;
        assert_eq!(output.stdout, b"resized\r\n", "{transport}: {}", errors(&output));
    }
}

async fn a_shell_is_talked_with(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    for transport in transports() {
        let request = cri::ExecRequest { stdin: true, tty: true, ..wanted(&app, &["sh"]) };
        let mut client = client(t.node(), "exec", transport);
        client.args(["-i", "-t", "-size", "132x50", &url(t.node(), request).await]);
        let mut client = client.spawn().unwrap();
        let (mut stdin, mut stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let (mut heard, app) = (String::new(), &app);
        let mut says = async |typed: &str, answer| {
            stdin.write_all(typed.as_bytes()).await.unwrap();
            while !heard.contains(answer) {
                let mut bytes = [0; 1024];
                let count = stdout.read(&mut bytes).await.unwrap();
                assert!(count > 0, "{transport}: {heard:?}");
                heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        let runs = async |cat: bool| {
            until("a key has its effect", || async {
                (app.sh("pidof cat || echo none").await.contains("none") != cat).then_some(())
            })
            .await;
        };
        let resized = "until [ \"$(stty size)\" = '50 132' ]; do sleep 0.05; done; echo re''sized\n";
        says(resized, "resized\r\n").await;
        says("cat\n", "").await;
        runs(true).await;
        says("\x03", "").await;
        runs(false).await;
        says("echo inter''rupted\n", "interrupted\r\n").await;
        says("exit 7\n", "").await;
        assert_eq!(client.wait().await.unwrap().code(), Some(7), "{transport}: {heard:?}");
    }
}

/// As `kubectl cp` does it.
async fn a_tree_of_ten_thousand_files_is_copied_out_and_in(t: Test) {
    let pod = t.pod().run().await;
    let (from, to) = (pod.container("from").start().await, pod.container("to").start().await);
    let make = "mkdir /tree; for d in $(seq 100); do mkdir /tree/$d; \
        for f in $(seq 100); do echo $d $f >/tree/$d/$f; done; done; ln -s 1/1 /tree/link";
    from.sh(make).await;
    let sum =
        "cd /tree && find . | sort | md5sum && find . -type f | sort | xargs cat | md5sum && readlink link";
    let expected = from.sh(sum).await;
    for transport in transports() {
        let out = wanted(&from, &["tar", "cf", "-", "-C", "/", "tree"]);
        let mut packing = client(t.node(), "exec", transport);
        packing.arg(url(t.node(), out).await);
        let packed = told(packing, Vec::new()).await;
        assert!(packed.status.success(), "{transport}: {}", errors(&packed));
        let request =
            cri::ExecRequest { stdin: true, stderr: true, ..wanted(&to, &["tar", "xmf", "-", "-C", "/"]) };
        let mut unpacking = client(t.node(), "exec", transport);
        unpacking.args(["-i", "-stderr", &url(t.node(), request).await]);
        let unpacked = told(unpacking, packed.stdout).await;
        assert!(unpacked.status.success(), "{transport}: {}", errors(&unpacked));
        assert_eq!(to.sh(sum).await, expected, "{transport}");
        to.sh("rm -rf /tree").await;
    }
}

/// Has so many commands at once say back what their clients say.
pub async fn crowd(node: &Node, transport: &str, app: &Container, count: usize, options: &[&str]) {
    let mut urls = String::new();
    for _ in 0..count {
        let request = cri::ExecRequest { stdin: true, ..wanted(app, &["cat"]) };
        urls.push_str(&url(node, request).await);
        urls.push('\n');
    }
    let mut client = client(node, "crowd", transport);
    client.args(options);
    let output = told(client, urls.into_bytes()).await;
    let went = format!("{count} of {count} sessions went well\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), went, "{transport}: {}", errors(&output));
}

async fn two_hundred_commands_talk_at_once(t: Test) {
    // In four pods: the one shim of containerd 1.6 stops answering when 200 commands of its end at once.
    let mut apps = Vec::new();
    for _ in 0..4 {
        let app = t.pod().run().await.container("app").start().await;
        apps.push((fifos(t.node(), &app), app));
    }
    let crowds = apps.iter().zip(["spdy", "websocket", "spdy", "websocket"]);
    join_all(crowds.map(|((_, app), transport)| crowd(t.node(), transport, app, 50, &[]))).await;
    for (before, app) in &apps {
        nothing_is_left(t.node(), app, before).await;
    }
}

async fn large_inputs_come_back_whole_to_readers_that_stall(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    for transport in transports() {
        crowd(t.node(), transport, &app, 2, &["-bytes", "32000000", "-stall", "300ms"]).await;
    }
}

async fn all_of_it_goes_over_tls_as_well(t: Test) {
    let configure = |_: &Path, config: &mut String| {
        config.push_str("\n[streaming]\ntls_certificate = \"self-signed\"\n");
    };
    let node = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell("cat; exec nc -l -p 8080 -e cat").with(|config| {
        config.stdin = true;
        config.stdin_once = true;
    });
    let app = app.start().await;
    let run = async |transport, url: String| {
        assert!(url.starts_with("https://"), "{url}");
        let mut client = client(&node, "exec", transport);
        client.args(["-insecure", "-i", &url]);
        let output = told(client, b"said".to_vec()).await;
        (String::from_utf8_lossy(&output.stdout).into_owned(), errors(&output))
    };
    for transport in transports() {
        let command = cri::ExecRequest { stdin: true, ..wanted(&app, &["cat"]) };
        assert_eq!(run(transport, url(&node, command).await).await, ("said".into(), String::new()));
    }
    let request =
        cri::AttachRequest { container_id: app.id.clone(), stdin: true, stdout: true, ..Default::default() };
    let attached = node.runtime().attach(request).await.unwrap().into_inner().url;
    let mut client = client(&node, "exec", "websocket");
    let mut client = client.args(["-insecure", "-i", &attached]).spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"typed\n").await.unwrap();
    let mut heard = [0; 6];
    client.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"typed\n");
    // Its input's end is the container's, whose port is open after that.
    drop(client.stdin.take());
    let (_forwarding, port) = forwarding(&node, &pod, "websocket").await;
    until("the port is served", || async { echoed(port, b"said".to_vec()).await.ok() }).await;
    assert!(client.wait().await.unwrap().success());
}

/// A client that forwards a port of its own to the pod's 8080.
pub async fn forwarding(node: &Node, pod: &Pod, transport: &str) -> (Child, u16) {
    let (client, ports) = forwarding_all(node, pod, transport, &[8080]).await;
    (client, ports[0])
}

/// One that forwards ports of its own to these of the pod's.
async fn forwarding_all(node: &Node, pod: &Pod, transport: &str, inside: &[i32]) -> (Child, Vec<u16>) {
    let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: inside.to_vec() };
    let url = node.runtime().port_forward(request).await.unwrap().into_inner().url;
    let mut client = client(node, "forward", transport);
    client.args(["-insecure", &url]).args(inside.iter().map(i32::to_string));
    let mut client = client.spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut ports = Vec::new();
    for _ in inside {
        let line = lines.next_line().await.unwrap().expect("it runs until it is ended");
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        ports.push(port.unwrap().parse().unwrap());
    }
    // It tells of each connection, and ends with whoever would hear it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (client, ports)
}

async fn many_connections_share_a_port_forward(t: Test) {
    let pod = t.pod().run().await;
    // As many connections as it has l's may wait to be accepted; others would be reset.
    let listening = format!("-{}", "l".repeat(64));
    let _echo = pod.container("echo").command(&["nc", &listening, "-p", "8080", "-e", "cat"]).start().await;
    for transport in transports() {
        let (mut client, port) = forwarding(t.node(), &pod, transport).await;
        until("the port is served", || async { echoed(port, b"?".to_vec()).await.ok() }).await;
        let mut connections = JoinSet::new();
        for n in 0..40u8 {
            let said = (0..256_000u32).map(|at| (at >> 8) as u8 ^ at as u8 ^ n).collect();
            connections.spawn(echoed(port, said));
        }
        while let Some(connection) = connections.join_next().await {
            let whole = connection.unwrap();
            assert_eq!(whole, Ok(()), "{transport}");
        }
        assert!(client.try_wait().unwrap().is_none(), "{transport}: it goes on");
    }
}

/// kubernetes#74551.
async fn a_bad_connection_ends_alone(t: Test) {
    let pod = t.pod().run().await;
    let _echo = pod.container("echo").command(&["nc", "-llllllll", "-p", "8080", "-e", "cat"]).start().await;
    for transport in transports() {
        let (mut client, ports) = forwarding_all(t.node(), &pod, transport, &[8080, 9]).await;
        until("the port is served", || async { echoed(ports[0], b"?".to_vec()).await.ok() }).await;
        let mut bystander = TcpStream::connect(("127.0.0.1", ports[0])).await.unwrap();
        for _ in 0..3 {
            // Nobody listens on the one.
            echoed(ports[1], b"?".to_vec()).await.unwrap_err();
            // One that is reset by its client while much is on its way.
            let mut broken = TcpStream::connect(("127.0.0.1", ports[0])).await.unwrap();
            broken.write_all(&[7; 1 << 16]).await.unwrap();
            broken.set_zero_linger().unwrap();
            drop(broken);
            bystander.write_all(b"still here").await.unwrap();
            let mut heard = [0; 10];
            bystander.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"still here", "{transport}");
            echoed(ports[0], b"?".to_vec()).await.unwrap();
        }
        assert!(client.try_wait().unwrap().is_none(), "{transport}: it goes on");
    }
}

/// Says all of it, and that this was all; the same must come back.
async fn echoed(port: u16, said: Vec<u8>) -> Result<(), String> {
    let (mut read, mut write) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let mut heard = Vec::new();
    let saying = async {
        write.write_all(&said).await?;
        write.shutdown().await
    };
    let (all_said, all_heard) = tokio::join!(saying, read.read_to_end(&mut heard));
    let came = format!("{} of {} bytes came back; {all_said:?}, {all_heard:?}", heard.len(), said.len());
    if all_said.is_ok() && all_heard.is_ok() && heard == said { Ok(()) } else { Err(came) }
}

async fn killed_clients_leave_nothing(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let before = fifos(t.node(), &app);
    for transport in transports() {
        // One before it has said a word.
        let request = cri::ExecRequest { stdin: true, ..wanted(&app, &["cat"]) };
        let mut silent = client(t.node(), "exec", transport);
        let mut silent = silent.args(["-i", &url(t.node(), request).await]).spawn().unwrap();
        // One that waits, and one that does not listen while much is said.
        let mut waiting = talking(t.node(), transport, &app).await;
        let mut deaf = talking(t.node(), transport, &app).await;
        let mut stdin = deaf.stdin.take().unwrap();
        let flood = tokio::spawn(async move { while stdin.write_all(&[7; 1 << 16]).await.is_ok() {} });
        silent.kill().await.unwrap();
        waiting.kill().await.unwrap();
        deaf.kill().await.unwrap();
        flood.await.unwrap();
    }
    nothing_is_left(t.node(), &app, &before).await;
}

async fn a_killed_container_ends_its_sessions(t: Test) {
    for transport in transports() {
        let app = t.pod().run().await.container("app").start().await;
        let client = talking(t.node(), transport, &app).await;
        app.stop(0).await;
        let output = client.wait_with_output().await.unwrap();
        assert!(!output.status.success(), "{transport}");
    }
}

async fn restarts_end_sessions_and_nothing_stays(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let app = t.pod_on(&node).run().await.container("app").start().await;
    let before = fifos(&node, &app);
    for signal in [Signal::TERM, Signal::KILL] {
        // A client of SPDY that is told nothing takes that for success: only a goodbye can tell it otherwise.
        let told = signal == Signal::TERM;
        let mut clients = Vec::new();
        for transport in transports() {
            clients.push(talking(&node, transport, &app).await);
        }
        node.end(signal).await;
        for client in clients {
            let output = client.wait_with_output().await.unwrap();
            assert_eq!(errors(&output).contains("cridge is being stopped"), told, "{}", errors(&output));
        }
        node.start().await;
        nothing_is_left(&node, &app, &before).await;
    }
}
