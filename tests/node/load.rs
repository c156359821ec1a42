//! Many at once and many after each other: nothing fails that the caller did not ask for, nothing is held for what is
//! gone, and a neighbour's noise is a neighbour's affair. `hack/soak load` has it all; of what is short there, some is
//! here on a smaller scale.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, future};
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Test, Usage, until};

pub fn cases() -> Vec<Case> {
    let mut cases = cases!["load": ; cridge only: pods_as_fast_as_they_go, churn_leaves_nothing];
    if at_length() {
        cases.extend(cases!["load": ; cridge only:
            five_hundred_commands_at_once,
            a_loud_neighbour,
        ]);
    }
    cases
}

/// Callers at a time: what a node that starts anew has of them.
const CALLERS: usize = 16;

fn at_length() -> bool {
    std::env::var_os("CRIDGE_NODE_SOAK").is_some()
}

/// That many in `hack/soak`, and that many in `hack/test`.
fn scaled(soak: usize, test: usize) -> usize {
    if at_length() { soak } else { test }
}

/// A node with addresses for some thousands of pods.
async fn wide_node(t: &Test) -> Arc<Node> {
    let configure = |dir: &Path, _: &mut String| {
        let file = dir.join("cni/net.d/10-bridge.conflist");
        let list = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = list.split_once("\"subnet\": \"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        std::fs::write(&file, format!("{before}\"subnet\": \"10.100.0.0/16\"{after}")).unwrap();
    };
    t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await
}

/// Does it `times` times, as many at once as there are callers.
async fn by_callers<T, Work: Future<Output = T>>(times: usize, work: impl FnMut(usize) -> Work) -> Vec<T> {
    futures::stream::iter((0..times).map(work)).buffer_unordered(CALLERS).collect().await
}

async fn with_two_containers(t: &Test, node: &Arc<Node>) -> Pod {
    let pod = t.pod_on(node).run().await;
    let (one, two) = (pod.container("one"), pod.container("two"));
    future::join(one.start(), two.start()).await;
    pod
}

async fn pods_as_fast_as_they_go(t: Test) {
    let node = wide_node(&t).await;
    let count = scaled(200, 20);
    let began = Instant::now();
    let pods = by_callers(count, |_| with_two_containers(&t, &node)).await;
    let up = began.elapsed();
    let addresses: HashSet<String> = by_callers(count, |n| pods[n].ip()).await.into_iter().collect();
    assert_eq!(addresses.len(), count, "each has an address of its own");
    let listed = t.pods_on(&node).await;
    assert_eq!(listed.iter().filter(|pod| pod.state() == PodSandboxState::SandboxReady).count(), count);
    let containers = node.runtime().list_containers(cri::ListContainersRequest::default()).await.unwrap();
    let containers = containers.into_inner().containers;
    assert_eq!(
        containers.iter().filter(|one| one.state() == ContainerState::ContainerRunning).count(),
        2 * count
    );
    let held = node.usage();
    let began = Instant::now();
    by_callers(count, |n| {
        let pod = &pods[n];
        async move {
            pod.stop().await;
            pod.remove().await;
        }
    })
    .await;
    eprintln!("{count} pods: up in {up:.1?}, down in {:.1?}; {held:?} meanwhile", began.elapsed());
    assert_eq!(t.pods_on(&node).await, []);
}

/// A pod's whole life; every second one is removed as it runs.
async fn life(t: &Test, node: &Arc<Node>, n: usize) {
    let pod = t.pod_on(node).run().await;
    let app = pod.container("app").start().await;
    assert_eq!(app.sh("echo alive").await, "alive");
    if n.is_multiple_of(2) {
        app.stop(0).await;
        app.remove().await;
        pod.stop().await;
    }
    pod.remove().await;
}

async fn churn_leaves_nothing(t: Test) {
    let node = wide_node(&t).await;
    let (first, rest) = (scaled(100, 16), scaled(1900, 32));
    by_callers(first, |n| life(&t, &node, n)).await;
    let before = at_rest(&node).await;
    eprintln!("after {first} pods: {before:?}");
    for round in 1..=4 {
        by_callers(rest / 4, |n| life(&t, &node, n)).await;
        eprintln!("after {}: {:?}", first + round * rest / 4, at_rest(&node).await);
    }
    let least = |a: Usage, b: Usage| Usage {
        resident: a.resident.min(b.resident),
        descriptors: a.descriptors.min(b.descriptors),
        threads: a.threads.min(b.threads),
    };
    let mut after = node.usage();
    // What a burst took goes back by and by: threads of tokio's after 10 s, memory in about as long.
    until("the server holds no more than after the first pods", || {
        after = least(after, node.usage());
        let memory = !at_length() || after.resident * 5 <= before.resident * 6;
        let flat = memory && after.descriptors <= before.descriptors && after.threads <= before.threads;
        future::ready(flat.then_some(()))
    })
    .await;
}

/// What the server holds when it has nothing to do: the least of some seconds, for what a burst took is given back
/// within them.
async fn at_rest(node: &Node) -> Usage {
    let mut least = node.usage();
    let patience = if at_length() { Duration::from_secs(15) } else { Duration::from_secs(1) };
    let end = Instant::now() + patience;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = node.usage();
        least.resident = least.resident.min(now.resident);
        least.descriptors = least.descriptors.min(now.descriptors);
        least.threads = least.threads.min(now.threads);
    }
    least
}

async fn five_hundred_commands_at_once(t: Test) {
    let node = wide_node(&t).await;
    let apps: Vec<Container> =
        by_callers(10, |_| async { t.pod_on(&node).run().await.container("app").start().await }).await;
    let began = Instant::now();
    let commands = (0..500usize).map(|n| {
        let app = &apps[n % apps.len()];
        async move {
            let script = format!("echo out {n}; echo err {n} >&2; exit {}", n % 250);
            (n, app.try_exec(&["sh", "-c", &script], 0).await)
        }
    });
    for (n, output) in future::join_all(commands).await {
        let output = output.unwrap_or_else(|status| panic!("command {n}: {status:?}"));
        let heard = (output.stdout, output.stderr, output.code);
        assert_eq!(heard, (format!("out {n}\n"), format!("err {n}\n"), (n % 250) as i32));
    }
    eprintln!("500 commands: {:.1?}", began.elapsed());
}

/// Lines of its own clock, in seconds and microseconds, twice a second.
const CLOCK: &str = "while :; do set -- $(adjtimex | tail -n 3); echo $2 $4; sleep 0.5; done";
const QUIET: usize = 50;
/// How long lines are collected for a figure.
const LISTEN: Duration = Duration::from_secs(20);
/// What a log may grow to before it is rotated.
const ROTATE: u64 = 256 << 20;

async fn a_loud_neighbour(t: Test) {
    let node = wide_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    let quiet = by_callers(QUIET, |n| {
        let clock = pod.container(&format!("quiet-{n}")).shell(CLOCK);
        async move { clock.start().await }
    })
    .await;
    let line = "x".repeat(1000);
    // What the noise costs by itself is not the log's doing.
    let scripts = [
        ("alone", "exec sleep 3600".to_owned()),
        ("beside as much work", format!("yes {line} | cat >/dev/null")),
        ("beside the loud one", format!("exec yes {line}")),
    ];
    let mut medians = Vec::new();
    for (n, (what, script)) in scripts.iter().enumerate() {
        let neighbour = pod.container(&format!("neighbour-{n}")).shell(script).start().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let began = SystemTime::now();
        let bytes = drain(&neighbour, LISTEN).await;
        neighbour.stop(0).await;
        neighbour.remove().await;
        let mut late: Vec<Duration> = quiet.iter().flat_map(|app| latencies(app, began)).collect();
        assert!(late.len() > QUIET, "{what}: {} lines", late.len());
        late.sort();
        let (median, most) = (late[late.len() / 2], late[late.len() * 99 / 100]);
        let rate = bytes as f64 / LISTEN.as_secs_f64() / 1e6;
        eprintln!(
            "{what} ({rate:.0} MB/s of log): median {median:.2?}, 99 of 100 within {most:.2?}, {} lines",
            late.len()
        );
        medians.push(median);
    }
    let ratio = |n: usize| medians[2].as_secs_f64() / medians[n].as_secs_f64();
    eprintln!("beside the loud one {:.1} of alone, {:.1} of beside as much work", ratio(0), ratio(1));
}

/// Rotates a log as often as it takes to keep it small; how many bytes were written to it.
async fn drain(loud: &Container, time: Duration) -> u64 {
    let (mut bytes, end) = (0, Instant::now() + time);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let length = std::fs::metadata(loud.log_file()).unwrap().len();
        let over = Instant::now() > end;
        if over || length > ROTATE {
            let rotated = loud.log_file().with_extension("old");
            std::fs::rename(loud.log_file(), &rotated).unwrap();
            let request = cri::ReopenContainerLogRequest { container_id: loud.id.clone() };
            loud.pod.node.runtime().reopen_container_log(request).await.unwrap();
            bytes += std::fs::metadata(&rotated).unwrap().len();
            std::fs::remove_file(rotated).unwrap();
        }
        if over {
            return bytes;
        }
    }
}

/// How long each line since then took to its log. The container's clock goes on, and no line of it is missing.
fn latencies(app: &Container, since: SystemTime) -> Vec<Duration> {
    let mut before = Duration::ZERO;
    let lines = app.log().into_iter().map(|line| {
        let (seconds, micros) = line.text.split_once(' ').expect("a clock");
        let told =
            Duration::from_secs(seconds.parse().unwrap()) + Duration::from_micros(micros.parse().unwrap());
        assert!(told > before, "{told:?} after {before:?}");
        before = told;
        let logged = humantime::parse_rfc3339(&line.time).unwrap();
        (told, logged.duration_since(UNIX_EPOCH).unwrap())
    });
    let since = since.duration_since(UNIX_EPOCH).unwrap();
    lines.filter(|(told, _)| *told > since).map(|(told, logged)| logged.saturating_sub(told)).collect()
}
