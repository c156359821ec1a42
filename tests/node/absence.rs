//! What containers write and read while no cridge runs. Where its service manager has a store of file descriptors,
//! nothing is lost, whatever ends meanwhile.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerState;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Test, until};
use crate::sessions::client;

pub fn cases() -> Vec<Case> {
    if std::env::var_os("CRIDGE_NODE_SOAK").is_some() {
        return cases!["absence": ; cridge only: figures_of_what_pipes_hold];
    }
    cases!["absence": ; cridge only:
        the_last_words_before_a_start_are_logged,
        the_last_words_outlive_containerd_as_well,
        without_a_store_the_last_words_are_lost,
        a_flood_over_ends_in_peace_is_logged_once,
        a_flood_over_deaths_repeats_a_buffer_at_most,
        a_standard_input_outlives_ends_and_deaths,
        what_is_over_is_not_kept,
    ]
}

async fn node_with_store(t: &Test) -> Arc<Node> {
    t.own_node(NodeOptions { fd_store: true, ..Default::default() }).await
}

/// Its last words are a line, and one without an end.
const LAST_WORDS: &str =
    "echo begun; until [ -e /data/go-$0 ]; do sleep 0.02; done; echo ended; printf 'at last'; exit 7";

/// A container with the last words, of that name.
async fn ending(t: &Test, node: &Arc<Node>, name: &str) -> Container {
    let pod = t.pod_on(node).run().await;
    let app = pod.container(name).command(&["sh", "-c", LAST_WORDS, name]).mount(t.folder(), "/data");
    let app = app.start().await;
    app.logs("begun").await;
    app
}

/// Has it end while nobody looks.
async fn let_end(t: &Test, app: &Container) {
    let name = &app.config.metadata.as_ref().unwrap().name;
    std::fs::write(t.folder().join(format!("go-{name}")), "").unwrap();
    until("the container has ended", || async { (!runs(app)).then_some(()) }).await;
    assert_eq!(app.log_text(), "begun");
}

/// Whether one of the container's processes is there: neither daemon may be, to be asked.
fn runs(app: &Container) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|text| text.contains(&app.id))
    })
}

async fn the_last_words_before_a_start_are_logged(t: Test) {
    let node = node_with_store(&t).await;
    for (name, signal) in [("peace", Signal::TERM), ("death", Signal::KILL)] {
        let app = ending(&t, &node, name).await;
        node.end(signal).await;
        let_end(&t, &app).await;
        node.start().await;
        let ended = app.exited().await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"), "{ended:?}");
        assert_eq!(app.log_text(), "begun\nended\nat last");
        assert_eq!(app.log().last().unwrap().tag, "P");
    }
}

async fn the_last_words_outlive_containerd_as_well(t: Test) {
    let node = node_with_store(&t).await;
    let app = ending(&t, &node, "both").await;
    node.end_containerd(Signal::KILL).await;
    node.end(Signal::KILL).await;
    let_end(&t, &app).await;
    // Starting, it ends the shim, and with it all that could be asked.
    node.start_containerd();
    node.start().await;
    let ended = app.exited().await;
    let told = (ended.exit_code, ended.reason.as_str());
    assert!(told == (7, "Error") || told == (255, "Unknown"), "{ended:?}");
    assert_eq!(app.log_text(), "begun\nended\nat last");
    until("nothing is kept of it", || async { node.manager().holds().is_empty().then_some(()) }).await;
}

/// The shim is the last to hold the FIFO when its container has ended, and takes what is in it along.
async fn without_a_store_the_last_words_are_lost(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let app = ending(&t, &node, "app").await;
    node.end(Signal::TERM).await;
    let_end(&t, &app).await;
    node.start().await;
    assert_eq!(app.exited().await.exit_code, 7);
    assert_eq!(app.log_text(), "begun");
}

/// Writes a number a line, as fast as it may, until it is told to end; how many is its last.
const FLOOD: &str = "i=0; while [ ! -e /data/stop ]; do for n in 0 1 2 3 4 5 6 7 8 9; do i=$((i+1)); echo $i; done; done; echo end $i";

/// A flood that cridge leaves and comes back to five times; the numbers in its log, and how many were written.
async fn flooded(t: &Test, signal: Signal) -> (Vec<u64>, u64) {
    let node = node_with_store(t).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(FLOOD).mount(t.folder(), "/data").start().await;
    let size = || std::fs::metadata(app.log_file()).map_or(0, |log| log.len());
    for _ in 0..5 {
        let before = size();
        until("the log grows", || async { (size() > before).then_some(()) }).await;
        node.end(signal).await;
        node.start().await;
    }
    std::fs::write(t.folder().join("stop"), "").unwrap();
    assert_eq!(app.exited().await.exit_code, 0);
    let log = std::fs::read_to_string(app.log_file()).unwrap();
    let (_, last) = log.trim_end().rsplit_once(" stdout F end ").expect("its last words");
    // A line that a death has torn is none.
    let numbers = log.lines().filter_map(|line| line.split_once(" stdout F ")?.1.parse().ok()).collect();
    (numbers, last.parse().unwrap())
}

async fn a_flood_over_ends_in_peace_is_logged_once(t: Test) {
    let (numbers, last) = flooded(&t, Signal::TERM).await;
    let wrong = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert!(numbers.iter().copied().eq(1..=last), "{} of {last}, {wrong:?}", numbers.len());
}

async fn a_flood_over_deaths_repeats_a_buffer_at_most(t: Test) {
    let (numbers, last) = flooded(&t, Signal::KILL).await;
    let mut next = 1;
    let mut repeated = 0;
    for number in numbers {
        assert!(number <= next, "{next} is missing before {number}");
        if number == next {
            next += 1;
        } else {
            repeated += number.to_string().len() + 1;
        }
    }
    assert_eq!(next - 1, last);
    // What a pipe holds by default, for each death.
    assert!(repeated <= 5 * (64 << 10), "{repeated} bytes twice");
}

/// A client that is attached to the container, and has talked with it.
async fn attached(node: &Node, app: &Container) -> Child {
    let request =
        cri::AttachRequest { container_id: app.id.clone(), stdin: true, stdout: true, ..Default::default() };
    let url = node.runtime().attach(request).await.unwrap().into_inner().url;
    let mut client = client(node, "exec", "spdy").args(["-i", &url]).spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"typed\n").await.unwrap();
    let mut heard = [0; 6];
    client.stdout.as_mut().unwrap().read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"typed\n");
    client
}

async fn a_standard_input_outlives_ends_and_deaths(t: Test) {
    let node = node_with_store(&t).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell("cat; echo end of input").with(|config| {
        config.stdin = true;
        config.stdin_once = true;
    });
    let app = app.start().await;
    for signal in [Signal::TERM, Signal::KILL] {
        node.end(signal).await;
        node.start().await;
        assert_eq!(app.state().await, ContainerState::ContainerRunning);
        assert_eq!(app.log_text(), "");
    }
    let mut client = attached(&node, &app).await;
    // Nobody else keeps it open, once the client says that this is all.
    drop(client.stdin.take());
    assert_eq!(app.exited().await.exit_code, 0);
    assert_eq!(app.log_text(), "typed\nend of input");
    assert!(client.wait().await.unwrap().success());
}

async fn what_is_over_is_not_kept(t: Test) {
    let node = node_with_store(&t).await;
    let held = || node.manager().holds();
    let holds = async |what: &str, names: &[String]| {
        until(what.to_owned(), || async { (held() == names).then_some(()) }).await;
    };
    let names = |app: &Container, streams: &[&str]| -> Vec<String> {
        streams.iter().map(|stream| format!("{}-{stream}", &app.id[..16])).collect()
    };
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").with(|config| config.stdin = true).start().await;
    let mut kept = names(&app, &["stderr", "stdin", "stdout"]);
    holds("all streams are kept", &kept).await;
    let terminal = pod.container("terminal").with(|config| config.tty = true).create().await;
    kept.extend(names(&terminal, &["stdout"]));
    kept.sort_unstable();
    holds("a terminal's one stream is kept", &kept).await;

    // Of a container that nobody knows, as after a death amid a removal.
    let (nobodys, _other_end) = std::io::pipe().unwrap();
    node.end(Signal::KILL).await;
    node.manager().hold("0123456789abcdef-stdout", nobodys.into());
    node.start().await;
    node.in_step().await;
    holds("what is nobody's is let go", &kept).await;

    app.stop(60).await;
    holds("what has ended is let go", &names(&terminal, &["stdout"])).await;
    terminal.remove().await;
    holds("what is removed is let go", &[]).await;
}

/// Writes lines of 1 KiB once there is a file, and how many it has written.
const CHATTY: &str = "line=$(printf '%01023d' 0); i=0; until [ -e /data/go ]; do sleep 0.02; done; \
    while :; do echo $line; i=$((i+1)); echo $i > /data/count; done";

/// The KiB that a container has written when it first waits, with cridge gone in this way.
async fn room(t: &Test, signal: Signal) -> u64 {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(CHATTY).mount(t.folder(), "/data").start().await;
    node.end(signal).await;
    let files = ["go", "count"].map(|name| t.folder().join(name));
    std::fs::write(&files[0], "").unwrap();
    let count =
        || std::fs::read_to_string(&files[1]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut counted = [0; 2];
    while counted[1] == 0 || counted[0] != counted[1] {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        counted = [counted[1], count()];
    }
    node.start().await;
    until("all of it is logged", || async { (app.log().len() as u64 > counted[1]).then_some(()) }).await;
    // It would write on for ever.
    pod.remove().await;
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
    counted[1]
}

async fn figures_of_what_pipes_hold(t: Test) {
    let (peace, death) = (room(&t, Signal::TERM).await, room(&t, Signal::KILL).await);
    for (how, room) in [("ended in peace", peace), ("was killed", death)] {
        let seconds =
            [10, 100, 1000].map(|rate| format!("{:.1} s at {rate} KiB/s", room as f64 / f64::from(rate)));
        eprintln!("before cridge that {how} is missed, {room} KiB fit: {}", seconds.join(", "));
    }
    assert!(peace > 4 * death, "{peace} and {death} KiB");
}
