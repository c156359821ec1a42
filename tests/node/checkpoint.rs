//! Checkpoints: what runs is frozen into an archive and runs on. What comes out of one is restored.rs' matter.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_cri::v1 as cri;
use serde_json::json;
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{Case, Container, ContainerBuilder, Criu, NodeOptions, Pod, Test, request, until};

pub fn cases() -> Vec<Case> {
    cases!["checkpoint":;
    cridge only:
        a_container_is_checkpointed_and_runs_on,
        checkpointctl_shows_what_an_archive_has,
        what_does_not_run_is_not_checkpointed,
        a_location_must_be_a_place_for_a_file,
        a_paused_container_is_checkpointed_and_stays_paused,
        what_criu_cannot_take_is_told_in_its_words,
        without_criu_it_is_a_failed_precondition,
        the_timeout_is_kept_and_nothing_is_left,
        a_container_that_a_killed_daemon_held_goes_on,
        old_runc_does_it_too,
    ]
}

/// Counts, and keeps the number where only its own memory has it.
pub const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// The last number that a counter has logged.
pub fn count(container: &Container) -> u64 {
    container.log().iter().filter_map(|line| line.text.parse().ok()).next_back().unwrap_or(0)
}

/// Waits until a counter has got beyond a number; the first that it logged after it.
pub async fn counts_beyond(container: &Container, number: u64) {
    until(format!("it counts beyond {number}"), || async { (count(container) > number).then_some(()) }).await;
}

pub async fn try_checkpoint(container: &Container, location: &Path, timeout: i64) -> Result<(), Status> {
    let request = cri::CheckpointContainerRequest {
        container_id: container.id.clone(),
        location: location.display().to_string(),
        timeout,
    };
    container.pod.node.runtime().checkpoint_container(request).await.map(drop)
}

pub async fn checkpoint(container: &Container, location: &Path) {
    try_checkpoint(container, location, 0).await.expect("CheckpointContainer");
}

/// A container out of an archive.
pub fn out_of(pod: &Pod, name: &str, archive: &Path) -> ContainerBuilder {
    pod.container(name).image_command().image(&archive.display().to_string())
}

/// What `tar` sees in an archive.
fn listed(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("--list").arg("--file").arg(archive).output().expect("tar");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// One file of an archive.
fn read_from(archive: &Path, name: &str) -> Vec<u8> {
    let mut tar = Command::new("tar");
    let output = tar.arg("--extract").arg("--to-stdout").arg("--file").arg(archive).arg(name).output();
    output.expect("tar").stdout
}

/// The files of a folder.
pub fn names_in(folder: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// All that is in the folder of a container that was started.
pub const OF_ONE_THAT_RAN: [&str; 2] = ["begun", "status"];

async fn a_container_is_checkpointed_and_runs_on(t: Test) {
    let pod = t.pod().run().await;
    let script = format!("echo new >/etc/new; rm /etc/passwd; {COUNTER}");
    let app = pod.container("app").shell(&script).start().await;
    counts_beyond(&app, 3).await;
    let folder = t.folder().join("archives");
    std::fs::create_dir(&folder).unwrap();
    let archive = folder.join("app.tar");
    std::fs::write(&archive, "an older one").unwrap();
    let before = count(&app);
    checkpoint(&app, &archive).await;
    let after = count(&app);
    counts_beyond(&app, after + 3).await;
    let numbers: Vec<u64> = app.log().iter().map(|line| line.text.parse().unwrap()).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no number is left out or told twice");

    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names_in(&folder), [PathBuf::from("app.tar")], "nothing beside it");
    let names = listed(&archive);
    for name in [
        "config.dump",
        "spec.dump",
        "status.dump",
        "status",
        "container.log",
        "dump.log",
        "stats-dump",
        "rootfs-diff.tar",
        "deleted.files",
        "checkpoint/inventory.img",
        "checkpoint/descriptors.json",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{name} is not among {names:?}");
    }
    let config: serde_json::Value = serde_json::from_slice(&read_from(&archive, "config.dump")).unwrap();
    assert_eq!(config["id"], app.id.as_str());
    assert_eq!(config["rootfsImageName"], "docker.io/library/busybox:latest");
    let spec: serde_json::Value = serde_json::from_slice(&read_from(&archive, "spec.dump")).unwrap();
    assert_eq!(spec["annotations"]["io.kubernetes.cri.container-name"], "app");
    assert_eq!(String::from_utf8(read_from(&archive, "deleted.files")).unwrap(), r#"["/etc/passwd"]"#);
    let log = String::from_utf8(read_from(&archive, "container.log")).unwrap();
    let logged: u64 = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((before..=after).contains(&logged), "{before} {logged} {after}");
    // Execs see no trace of it, and a second one is as good.
    assert_eq!(app.sh("cat /etc/new").await, "new");
    checkpoint(&app, &archive).await;
    let [root, _] = t.node().server_dirs();
    let left = names_in(&root.join("containers").join(&app.id));
    assert_eq!(left, OF_ONE_THAT_RAN.map(PathBuf::from), "nothing of it in the container's folder");
}

/// What others' program says of an archive.
fn checkpointctl(t: &Test, args: &[&str], archive: &Path) -> String {
    let mut checkpointctl = Command::new(t.lab().program("checkpointctl"));
    let output = checkpointctl.args(args).arg(archive).output().expect("checkpointctl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn checkpointctl_shows_what_an_archive_has(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(&format!("echo new >/etc/new; {COUNTER}")).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    checkpoint(&app, &archive).await;
    let table = checkpointctl(&t, &["show"], &archive);
    for word in ["app", "docker.io/library/busybox:latest", &app.id[..12], "containerd", "ROOT FS DIFF SIZE"]
    {
        assert!(table.contains(word), "{word} is not in {table}");
    }
    let inspected = checkpointctl(&t, &["inspect", "--all", "--format", "json"], &archive);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let [of_app] = &inspected.as_array().unwrap()[..] else { panic!("one archive: {inspected}") };
    assert_eq!((&of_app["container_name"], &of_app["id"]), (&json!("app"), &json!(app.id)), "{of_app}");
    assert_eq!(of_app["process_tree"]["command"], "sh", "{of_app}");
    assert!(of_app["checkpoint_size"]["memory_pages_size"].as_u64() > Some(0), "{of_app}");
    assert!(of_app["mounts"].as_array().is_some_and(|mounts| !mounts.is_empty()), "{of_app}");
}

async fn what_does_not_run_is_not_checkpointed(t: Test) {
    let pod = t.pod().run().await;
    let archive = t.folder().join("app.tar");
    let app = pod.container("app").shell("exit 3").create().await;
    let created = try_checkpoint(&app, &archive, 0).await.unwrap_err();
    assert_eq!(created.code(), Code::FailedPrecondition, "{created:?}");
    assert!(created.message().contains("it is created, not running"), "{created:?}");
    app.start().await;
    app.exited().await;
    let exited = try_checkpoint(&app, &archive, 0).await.unwrap_err();
    assert_eq!(exited.code(), Code::FailedPrecondition, "{exited:?}");
    app.remove().await;
    let removed = try_checkpoint(&app, &archive, 0).await.unwrap_err();
    assert_eq!(removed.code(), Code::NotFound, "{removed:?}");
    assert!(!archive.exists());
}

async fn a_location_must_be_a_place_for_a_file(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let link = t.folder().join("link");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    for bad in
        ["", "relative.tar", "/no/such/folder/x.tar", "/tmp/../tmp/x.tar", "/tmp", link.to_str().unwrap()]
    {
        let refused = try_checkpoint(&app, Path::new(bad), 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}: {refused:?}");
        assert!(refused.message().starts_with("location: "), "{bad:?}: {refused:?}");
    }
    let refused = try_checkpoint(&app, &t.folder().join("x.tar"), -1).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "timeout: -1 is negative"));
}

/// What containerd says of a task.
async fn is_paused(container: &Container) -> bool {
    use containerd_client::services::v1::{GetRequest, tasks_client::TasksClient};
    let mut tasks = TasksClient::new(container.pod.node.containerd());
    let get = GetRequest { container_id: container.id.clone(), ..Default::default() };
    let task = tasks.get(request(get)).await.expect("a task").into_inner().process.expect("a process");
    task.status() == containerd_client::types::v1::Status::Paused
}

async fn a_paused_container_is_checkpointed_and_stays_paused(t: Test) {
    use containerd_client::services::v1::{PauseTaskRequest, ResumeTaskRequest, tasks_client::TasksClient};
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 3).await;
    let mut tasks = TasksClient::new(t.node().containerd());
    tasks.pause(request(PauseTaskRequest { container_id: app.id.clone() })).await.expect("paused");
    let archive = t.folder().join("app.tar");
    checkpoint(&app, &archive).await;
    assert!(is_paused(&app).await, "as it was found");
    tasks.resume(request(ResumeTaskRequest { container_id: app.id.clone() })).await.expect("resumed");
    let before = count(&app);
    counts_beyond(&app, before + 3).await;
    let again = out_of(&pod, "again", &archive).start().await;
    counts_beyond(&again, 3).await;
}

async fn what_criu_cannot_take_is_told_in_its_words(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(&format!("{CONNECTED}; {COUNTER}")).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let refused = try_checkpoint(&app, &archive, 0).await.unwrap_err();
    assert!(refused.message().contains("CRIU says: "), "{refused:?}");
    assert!(refused.message().contains("onnected TCP socket"), "{refused:?}");
    let before = count(&app);
    counts_beyond(&app, before + 3).await;
    assert_eq!(names_in(t.folder()).iter().filter(|name| name.extension().is_some()).count(), 0);
}

/// A connection to oneself, open for ever.
pub const CONNECTED: &str =
    "nc -l -p 999 >/dev/null </dev/zero & sleep 0.3; sleep 3600 | nc 127.0.0.1 999 >/dev/null & sleep 0.3";

async fn without_criu_it_is_a_failed_precondition(t: Test) {
    let node = t.own_node(NodeOptions { criu: Criu::Absent, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").start().await;
    let archive = t.folder().join("app.tar");
    let refused = try_checkpoint(&app, &archive, 0).await.unwrap_err();
    let text = "checkpoints cannot be made or restored on this node: there is no criu on containerd's PATH: install CRIU";
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, text));
    assert!(!archive.exists());
}

async fn the_timeout_is_kept_and_nothing_is_left(t: Test) {
    let node = t.own_node(NodeOptions { criu: Criu::Stuck, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let late = try_checkpoint(&app, &archive, 1).await.unwrap_err();
    assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, "it was not done within 1s"));
    assert!(!is_paused(&app).await, "it runs when the call has ended");
    let before = count(&app);
    counts_beyond(&app, before + 3).await;
    assert!(!archive.exists());
    let [root, _] = node.server_dirs();
    assert_eq!(names_in(&root.join("containers").join(&app.id)), OF_ONE_THAT_RAN.map(PathBuf::from));
}

async fn a_container_that_a_killed_daemon_held_goes_on(t: Test) {
    let node = t.own_node(NodeOptions { criu: Criu::Stuck, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let asked = tokio::spawn({
        let (app, archive) = (app.clone(), archive.clone());
        async move { try_checkpoint(&app, &archive, 0).await }
    });
    let [root, _] = node.server_dirs();
    let folder = root.join("containers").join(&app.id);
    let dumping = folder.join("checkpoint/checkpoint/descriptors.json");
    until("it is held, and the dump has begun", || async { dumping.exists().then_some(()) }).await;
    node.end(rustix::process::Signal::KILL).await;
    asked.await.unwrap().unwrap_err();
    node.start().await;
    let before = count(&app);
    counts_beyond(&app, before + 3).await;
    assert!(!is_paused(&app).await);
    assert_eq!(names_in(&folder), OF_ONE_THAT_RAN.map(PathBuf::from));
}

async fn old_runc_does_it_too(t: Test) {
    let node = t.own_node(NodeOptions { old_runc: true, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let before = count(&app);
    checkpoint(&app, &archive).await;
    counts_beyond(&app, before + 3).await;
    let again = out_of(&pod, "again", &archive).start().await;
    counts_beyond(&again, before + 3).await;
}
