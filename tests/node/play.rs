//! `cridge play` with the examples that come with it: what they show, what they exit with, and that they leave nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use k8s_cri::v1 as cri;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cases;
use crate::harness::{Case, Test, until};

pub fn cases() -> Vec<Case> {
    cases![
        "play": init_containers_come_first,
        a_volume_is_shared,
        a_process_table_is_shared,
        a_failure_is_the_exit_code,
        a_failed_container_starts_again,
        ctrl_c_removes_everything,
        a_host_port_answers,
        time_runs_out,
        what_is_kept_stays,
        an_unknown_field_is_refused_by_its_path,
    ]
}

/// A run of `cridge play`, ended with the test if not before.
struct Playing {
    child: Child,
    folder: PathBuf,
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example's text, labelled so that the test's clean-up finds what a failed run leaves.
fn example(t: &Test, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    if text.contains("  labels:\n") {
        text.replacen("  labels:\n", &format!("  labels:\n    test: {}\n", t.name()), 1)
    } else {
        text.replacen("spec:\n", &format!("  labels: {{test: {}}}\nspec:\n", t.name()), 1)
    }
}

fn play(t: &Test, manifest: &str, flags: &[&str]) -> Playing {
    let folder = t.folder().to_owned();
    std::fs::write(folder.join("pod.yaml"), manifest).unwrap();
    let file = |name: &str| Stdio::from(File::create(folder.join(name)).unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_cridge"))
        .arg("play")
        .arg(folder.join("pod.yaml"))
        .args(flags)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--log-dir")
        .arg(folder.join("logs"))
        .env("CONTAINER_RUNTIME_ENDPOINT", format!("unix://{}", t.node().socket().display()))
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("cridge can be run");
    Playing { child, folder }
}

/// Plays an example to its end; its exit code, the run with what it showed.
async fn play_out(t: &Test, name: &str) -> (i32, Playing) {
    let mut playing = play(t, &example(t, name), &[]);
    let code = playing.ended().await.code().expect("an exit code");
    playing.has_left_nothing(t).await;
    (code, playing)
}

impl Playing {
    /// The containers' logs.
    fn logs(&self) -> Vec<String> {
        lines(&self.folder.join("out"))
    }

    /// What was told of the states.
    fn states(&self) -> String {
        lines(&self.folder.join("err")).join("\n")
    }

    async fn logs_have(&self, text: &str) {
        until(format!("{text:?} is shown"), || async {
            self.logs().iter().any(|line| line.contains(text)).then_some(())
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn has_left_nothing(&self, t: &Test) {
        assert_eq!(pods(t).await, Vec::<String>::new(), "{}", self.states());
        for folder in ["data", "logs"] {
            let left = std::fs::read_dir(self.folder.join(folder)).into_iter().flatten().count();
            assert_eq!(left, 0, "left in {folder}: {}", self.states());
        }
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// The runtime's pods of this test.
async fn pods(t: &Test) -> Vec<String> {
    let label_selector = [("test".to_owned(), t.name().to_owned())].into();
    let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
    let answer = t.node().runtime().list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await;
    answer.unwrap().into_inner().items.into_iter().map(|pod| pod.id).collect()
}

async fn init_containers_come_first(t: Test) {
    let (code, played) = play_out(&t, "init-then-run").await;
    assert_eq!(
        played.logs(),
        ["fetch         | fetching", "prepare       | preparing", "main          | 3 words were prepared"]
    );
    assert_eq!(code, 0);
    assert!(played.states().ends_with("init-then-run - removed"), "{}", played.states());
}

async fn a_volume_is_shared(t: Test) {
    let (code, played) = play_out(&t, "volumes").await;
    let expected = [
        "reader  | written by volumes",
        "reader  | the writer's own files are not here",
        "reader  | memory: tmpfs tmpfs",
    ];
    assert_eq!(played.logs(), expected, "{}", played.states());
    assert_eq!(code, 0);
}

async fn a_process_table_is_shared(t: Test) {
    let (code, played) = play_out(&t, "shared-pid").await;
    let mut logs = played.logs();
    logs.sort();
    let expected = [
        "observer   | PID 1 is pause",
        "observer   | the worker is a neighbour: telling it to go",
        "worker     | told to go",
    ];
    assert_eq!(logs, expected, "{}", played.states());
    assert_eq!(code, 0);
}

async fn a_failure_is_the_exit_code(t: Test) {
    let (code, played) = play_out(&t, "fails").await;
    assert_eq!(played.logs(), ["main  | this will not do"]);
    assert!(played.states().contains("main  - exited 3 (Error)"), "{}", played.states());
    assert_eq!(code, 3);
}

async fn a_failed_container_starts_again(t: Test) {
    let (code, played) = play_out(&t, "restarts").await;
    assert_eq!(played.logs(), ["main     | not yet", "main     | better now"]);
    let states = played.states();
    assert!(states.contains("exited 7 (Error)") && states.contains("starts again"), "{states}");
    assert_eq!(code, 0);
}

async fn ctrl_c_removes_everything(t: Test) {
    let mut playing = play(&t, &example(&t, "web-and-sidecar"), &[]);
    playing.logs_have("sidecar         | from localhost: ").await;
    playing.signal(Signal::INT);
    let status = playing.ended().await;
    assert_eq!(status.code(), Some(130), "{}", playing.states());
    // The sidecar follows SIGTERM, nginx too: nobody had to be killed.
    assert!(playing.states().contains("sidecar         - exited 0"), "{}", playing.states());
    playing.has_left_nothing(&t).await;
}

async fn a_host_port_answers(t: Test) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let manifest = example(&t, "hostport").replace("hostPort: 8080", &format!("hostPort: {port}"));
    let mut playing = play(&t, &manifest, &[]);
    let page = until("the host port answers".to_owned(), || async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.ok()?;
        Some(page)
    })
    .await;
    assert!(page.contains("Welcome to nginx!"), "{page}");
    playing.signal(Signal::TERM);
    assert_eq!(playing.ended().await.code(), Some(143), "{}", playing.states());
    playing.has_left_nothing(&t).await;
}

async fn time_runs_out(t: Test) {
    let mut playing = play(&t, &example(&t, "web-and-sidecar"), &["--timeout", "3s"]);
    assert_eq!(playing.ended().await.code(), Some(124), "{}", playing.states());
    playing.has_left_nothing(&t).await;
}

async fn what_is_kept_stays(t: Test) {
    let mut playing = play(&t, &example(&t, "web-and-sidecar"), &["--keep"]);
    assert_eq!(playing.ended().await.code(), Some(0), "{}", playing.states());
    let kept = pods(&t).await;
    assert_eq!(kept.len(), 1, "{}", playing.states());
    assert!(playing.logs().contains(&kept[0]), "{:?}", playing.logs());
}

async fn an_unknown_field_is_refused_by_its_path(t: Test) {
    let manifest = example(&t, "fails") + "      livenessProbe: {tcpSocket: {port: 80}}\n";
    let mut playing = play(&t, &manifest, &[]);
    assert_eq!(playing.ended().await.code(), Some(125));
    let states = playing.states();
    assert!(states.contains("spec.containers[0].livenessProbe: not supported by cridge play"), "{states}");
    playing.has_left_nothing(&t).await;
}
