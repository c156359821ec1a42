//! Streams at length: what one session may carry, and how many may follow each other. Run by `hack/soak` alone.

use std::ops::Range;
use std::time::Duration;

use k8s_cri::v1 as cri;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Test, until};
use crate::sessions::{
    client, crowd, fifos, forwarding, nothing_is_left, talking, told, transports, url, wanted,
};

pub fn cases() -> Vec<Case> {
    if std::env::var_os("CRIDGE_NODE_SOAK").is_none() {
        return Vec::new();
    }
    cases!["soak": ; cridge only:
        a_gigabyte_through_a_command_takes_no_memory,
        a_gigabyte_through_a_port_takes_no_memory,
        a_thousand_sessions_leave_nothing,
        clients_killed_at_any_moment_leave_nothing,
    ]
}

const GIGABYTE: u64 = 1 << 30;
/// Bytes above an idle daemon's that a stream may take.
const PER_STREAM: u64 = 10 << 20;
/// What is said over and over, with its number in front.
const BLOCK: usize = 64 << 10;
/// How long a reader pauses at most, some ten times on its way.
const STALL: Duration = Duration::from_secs(3);

/// What the server holds at most while something is done.
async fn most_held(node: &Node, work: impl Future<Output = ()>) -> u64 {
    tokio::pin!(work);
    let mut most = 0;
    loop {
        tokio::select! {
            () = &mut work => return most,
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(node.resident()),
        }
    }
}

async fn a_gigabyte_through_a_command_takes_no_memory(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let app = t.pod_on(&node).run().await.container("app").start().await;
    for transport in transports() {
        // Whatever it takes once is taken.
        crowd(&node, transport, &app, 1, &[]).await;
        let idle = node.resident();
        let (size, stall) = (GIGABYTE.to_string(), format!("{}s", STALL.as_secs()));
        let options = ["-bytes", &size, "-stall", &stall];
        let most = most_held(&node, crowd(&node, transport, &app, 1, &options)).await;
        eprintln!("{transport}: {idle} bytes before, {most} at most");
        assert!(most < idle + PER_STREAM, "{transport}: {idle} bytes before, {most} at most");
    }
}

async fn a_gigabyte_through_a_port_takes_no_memory(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let _echo = pod.container("echo").command(&["nc", "-ll", "-p", "8080", "-e", "cat"]).start().await;
    for transport in transports() {
        let (_client, port) = forwarding(&node, &pod, transport).await;
        until("the port is served", || async { (repeated(port, 0..1).await == 1).then_some(()) }).await;
        let idle = node.resident();
        let blocks = GIGABYTE / BLOCK as u64;
        let most = most_held(&node, async { assert_eq!(repeated(port, 0..blocks).await, blocks) }).await;
        eprintln!("{transport}: {idle} bytes before, {most} at most");
        assert!(most < idle + PER_STREAM, "{transport}: {idle} bytes before, {most} at most");
    }
}

fn block(number: u64) -> Vec<u8> {
    let mut block: Vec<u8> = (0..BLOCK).map(|at| (at ^ (at >> 8)) as u8).collect();
    block[..8].copy_from_slice(&number.to_be_bytes());
    block
}

/// Says blocks to who repeats them, and hears them at the same time, with pauses; how many came back as they were said.
async fn repeated(port: u16, blocks: Range<u64>) -> u64 {
    let (mut read, mut write) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let (saying, hearing) = tokio::join!(say(&mut write, blocks.clone()), hear(&mut read, blocks));
    saying.map_or(0, |()| hearing)
}

async fn say(write: &mut (impl AsyncWrite + Unpin), blocks: Range<u64>) -> std::io::Result<()> {
    let mut said = block(0);
    for number in blocks {
        said[..8].copy_from_slice(&number.to_be_bytes());
        write.write_all(&said).await?;
    }
    write.shutdown().await
}

async fn hear(read: &mut (impl AsyncRead + Unpin), blocks: Range<u64>) -> u64 {
    let (mut expected, mut heard) = (block(0), vec![0; BLOCK]);
    let each = (blocks.end / 10).max(2);
    for number in blocks.clone() {
        expected[..8].copy_from_slice(&number.to_be_bytes());
        if read.read_exact(&mut heard).await.is_err() || heard != expected {
            return number;
        }
        if number % each == each - 1 {
            tokio::time::sleep(STALL.mul_f64(rand::random())).await;
        }
    }
    if read.read(&mut heard).await.is_ok_and(|count| count == 0) { blocks.end } else { u64::MAX }
}

async fn a_thousand_sessions_leave_nothing(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let app = t.pod_on(&node).run().await.container("app").start().await;
    let before = fifos(&node, &app);
    let mut held = None;
    for n in 0..1000u32 {
        let transport = transports()[n as usize % transports().len()];
        let code = n % 200;
        let request = cri::ExecRequest {
            stdin: true,
            ..wanted(&app, &["sh", "-c", &format!("cat; printf {n}; exit {code}")])
        };
        let mut client = client(&node, "exec", transport);
        client.args(["-i", &url(&node, request).await]);
        let output = told(client, b"said ".to_vec()).await;
        let heard = (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code());
        assert_eq!(heard, (format!("said {n}"), Some(code as i32)), "{transport}");
        if n == 100 {
            held = Some((node.resident(), node.descriptors()));
        }
    }
    nothing_is_left(&node, &app, &before).await;
    let (memory, descriptors_held) = held.unwrap();
    until("connections are closed", || async { (node.descriptors() <= descriptors_held).then_some(()) })
        .await;
    let grown = node.resident().saturating_sub(memory);
    eprintln!("{grown} bytes more after 900 sessions");
    assert!(grown < PER_STREAM, "{grown} bytes more after 900 sessions");
}

async fn clients_killed_at_any_moment_leave_nothing(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let before = fifos(t.node(), &app);
    for n in 0..200u32 {
        let transport = transports()[n as usize % transports().len()];
        let mut client = speaking(&t, transport, &app).await;
        // From before its connection to well after its first words.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..400))).await;
        client.kill().await.unwrap();
    }
    nothing_is_left(t.node(), &app, &before).await;
    drop(talking(t.node(), "spdy", &app).await);
    nothing_is_left(t.node(), &app, &before).await;
}

/// A client that goes on speaking, of what is repeated to it.
async fn speaking(t: &Test, transport: &str, app: &Container) -> Child {
    let request = cri::ExecRequest { stdin: true, ..wanted(app, &["cat"]) };
    let mut client = client(t.node(), "exec", transport);
    let mut client = client.args(["-i", &url(t.node(), request).await]).spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    tokio::spawn(async move {
        while stdin.write_all(b"some words\n").await.is_ok()
            && lines.next_line().await.is_ok_and(|l| l.is_some())
        {}
    });
    client
}
