//! Checkpoints: what runs is frozen into an archive and runs on; what comes out of it goes on from there.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerState;
use serde_json::json;
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{
    Case, Container, ContainerBuilder, Criu, NodeOptions, Pod, Test, code_of, request, until,
};

pub fn cases() -> Vec<Case> {
    cases!["checkpoint":;
    cridge only:
        a_container_is_checkpointed_and_runs_on,
        a_restored_container_goes_on_from_its_number,
        checkpointctl_shows_what_an_archive_has,
        an_image_made_of_a_checkpoint_is_restored_where_that_is_allowed,
        what_does_not_run_is_not_checkpointed,
        a_location_must_be_a_place_for_a_file,
        a_config_that_contradicts_the_checkpoint_is_refused,
        what_is_no_checkpoint_is_refused_and_leaves_nothing,
        a_terminal_is_restored,
        a_paused_container_is_checkpointed_and_stays_paused,
        processes_that_share_the_pods_are_restored,
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

async fn checkpoint(container: &Container, location: &Path) {
    try_checkpoint(container, location, 0).await.expect("CheckpointContainer");
}

/// A container out of an archive.
fn out_of(pod: &Pod, name: &str, archive: &Path) -> ContainerBuilder {
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
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into()).collect()
}

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
    assert_eq!(left, [PathBuf::from("status")], "nothing of it in the container's folder");
}

async fn a_restored_container_goes_on_from_its_number(t: Test) {
    let pod = t.pod().run().await;
    let script = format!("echo new >/etc/new; rm /etc/passwd; echo old >/etc/hosts.old; {COUNTER}");
    let app = pod.container("app").shell(&script).start().await;
    counts_beyond(&app, 5).await;
    let archive = t.folder().join("app.tar");
    let before = count(&app);
    checkpoint(&app, &archive).await;
    app.stop(0).await;
    app.remove().await;
    pod.stop().await;
    pod.remove().await;

    let pod = t.pod().run().await;
    let again = out_of(&pod, "again", &archive).create().await;
    assert_eq!(again.state().await, ContainerState::ContainerCreated);
    assert_eq!(again.log(), [], "it has not run yet");
    again.start().await;
    assert_eq!(again.state().await, ContainerState::ContainerRunning);
    counts_beyond(&again, before + 3).await;
    let first: u64 = again.log()[0].text.parse().unwrap();
    assert!(first > before, "it went on from {before}, not from the start: {first}");
    assert_eq!(again.sh("cat /etc/new; ls /etc/passwd 2>/dev/null; cat /etc/hosts.old").await, "new\nold");
    let status = again.status().await;
    assert_eq!(status.image.unwrap().image, "docker.io/library/busybox:latest");
    let [root, _] = t.node().server_dirs();
    let left = names_in(&root.join("containers").join(&again.id));
    assert_eq!(left, [PathBuf::from("status")], "its images are of no more use");
    // And once more, out of what was restored.
    let second = t.folder().join("again.tar");
    let before = count(&again);
    checkpoint(&again, &second).await;
    again.stop(0).await;
    assert_eq!(again.status().await.exit_code, 137);
    let third = out_of(&pod, "third", &second).start().await;
    counts_beyond(&third, before + 3).await;
    assert_eq!(third.sh("cat /etc/new").await, "new");
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

/// An OCI layout with an image whose files are an archive's, as `checkpointctl build` and buildah make it.
fn image_of(archive: &Path, name: &str, layout: &Path) {
    let mut tar = tar::Builder::new(std::fs::File::create(layout).unwrap());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    let mut blob = |media_type: &str, bytes: &[u8]| {
        use sha2::Digest as _;
        let hex = hex::encode(sha2::Sha256::digest(bytes));
        add(&format!("blobs/sha256/{hex}"), bytes);
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &std::fs::read(archive).unwrap());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": architecture, "os": "linux",
                        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                          "config": config, "layers": [layer],
                          "annotations": {"org.criu.checkpoint.container.name": "app"}});
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    add("index.json", json!({"schemaVersion": 2, "manifests": [manifest]}).to_string().as_bytes());
    add("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    tar.finish().unwrap();
}

async fn an_image_made_of_a_checkpoint_is_restored_where_that_is_allowed(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/checkpoint:1";
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(&format!("echo new >/etc/new; {COUNTER}")).start().await;
    counts_beyond(&app, 5).await;
    let (archive, layout) = (t.folder().join("app.tar"), t.folder().join("layout.tar"));
    let before = count(&app);
    checkpoint(&app, &archive).await;
    image_of(&archive, IMAGE, &layout);
    let configure =
        |_: &Path, config: &mut String| config.push_str("[runtime]\nrestore_from_images = true\n");
    let allowed = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    for node in [t.node(), &allowed] {
        let socket = node.dir.join("containerd.sock");
        let mut ctr = Command::new(node.program("ctr"));
        ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import", "--no-unpack"]);
        let output = ctr.arg(&layout).output().expect("ctr");
        assert!(output.status.success(), "{output:?}");
        until("the image is known", || async { node.image(IMAGE).await.map(drop) }).await;
    }
    let refused = pod.container("refused").image_command().image(IMAGE).try_create().await;
    let refused = refused.err().expect("it is off by default");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("runtime.restore_from_images"), "{refused:?}");

    let pod = t.pod_on(&allowed).run().await;
    let again = pod.container("again").image_command().image(IMAGE).start().await;
    counts_beyond(&again, before + 3).await;
    let first: u64 = again.log()[0].text.parse().unwrap();
    assert!(first > before, "it went on from {before}, not from the start: {first}");
    assert_eq!(again.sh("cat /etc/new").await, "new");
    assert_eq!(again.status().await.image.unwrap().image, "docker.io/library/busybox:latest");
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

async fn a_config_that_contradicts_the_checkpoint_is_refused(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 1).await;
    let archive = t.folder().join("app.tar");
    checkpoint(&app, &archive).await;
    let refused = |builder: ContainerBuilder, field: &'static str| async move {
        let status = builder.try_create().await.map(|made| made.id).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert!(status.message().starts_with(&format!("config.{field}: ")), "{field}: {status:?}");
    };
    let other = || out_of(&pod, "other", &archive);
    refused(other().shell("another script"), "command").await;
    refused(other().with(|config| config.tty = true), "tty").await;
    refused(other().with(|config| config.stdin = true), "stdin").await;
    refused(other().mount(t.folder(), "/data"), "mounts").await;
    refused(other().pids(cri::NamespaceMode::Pod, ""), "linux.security_context.namespace_options.pid").await;
    refused(
        other().security(|security| security.readonly_rootfs = true),
        "linux.security_context.readonly_rootfs",
    )
    .await;
    // The name is free: nothing of all that is left.
    let sound = other().start().await;
    counts_beyond(&sound, 1).await;
}

async fn what_is_no_checkpoint_is_refused_and_leaves_nothing(t: Test) {
    let pod = t.pod().run().await;
    let archive = t.folder().join("bad.tar");
    let other = || out_of(&pod, "other", &archive);
    let code = |made: Result<Container, Status>| {
        let status = made.map(|made| made.id).unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (missing, text) = code(other().try_create().await);
    assert_eq!(missing, Code::NotFound, "{text}");
    std::fs::write(&archive, "no archive at all").unwrap();
    let (garbage, text) = code(other().try_create().await);
    assert_eq!(garbage, Code::InvalidArgument, "{text}");
    assert!(text.contains("is not a checkpoint that can be restored"), "{text}");

    let made = Command::new("tar")
        .args(["--create", "--absolute-names", "--file"])
        .arg(&archive)
        .args(["--transform", "s,.*,../../config.dump,", "/etc/hostname"])
        .status();
    assert!(made.unwrap().success());
    let (climbing, text) = code(other().try_create().await);
    assert_eq!(climbing, Code::InvalidArgument, "{text}");
    assert!(text.contains("leads out of the archive"), "{text}");

    // Sound but for CRIU's images: created, and its start says so.
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 1).await;
    let whole = t.folder().join("whole.tar");
    checkpoint(&app, &whole).await;
    let unpacked = t.folder().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        let mut tar = Command::new("tar");
        let done = tar.arg("--directory").arg(&unpacked).arg("--file").arg(&whole).args(arguments).status();
        assert!(done.unwrap().success());
    };
    tar(&["--extract"]);
    std::fs::remove_file(unpacked.join("checkpoint/core-1.img")).unwrap();
    tar(&["--create", "."]);
    let broken = out_of(&pod, "broken", &whole).create().await;
    let refused = broken.try_start().await.unwrap_err();
    assert!(refused.message().contains("CRIU says"), "{refused:?}");
    let status = broken.status().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    let (again, text) = code_of(
        broken
            .pod
            .node
            .runtime()
            .start_container(cri::StartContainerRequest { container_id: broken.id.clone() })
            .await,
    );
    assert_eq!(again, Code::FailedPrecondition, "{text}");
}

async fn a_terminal_is_restored(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(COUNTER).with(|config| config.tty = true).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let before = count(&app);
    checkpoint(&app, &archive).await;
    counts_beyond(&app, before + 3).await;
    let again = out_of(&pod, "again", &archive).with(|config| config.tty = true).start().await;
    counts_beyond(&again, before + 3).await;
    let first = again.log().iter().find_map(|line| line.text.parse::<u64>().ok()).unwrap();
    assert!(first > before, "{first} {before}");
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

async fn processes_that_share_the_pods_are_restored(t: Test) {
    let pod = t.pod().shared_pids().run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    counts_beyond(&app, 3).await;
    let archive = t.folder().join("app.tar");
    let before = count(&app);
    checkpoint(&app, &archive).await;
    // Their numbers are those that they had: free in a pod of its own.
    let pod = t.pod().shared_pids().run().await;
    let again = out_of(&pod, "again", &archive).start().await;
    counts_beyond(&again, before + 3).await;
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
    assert_eq!(names_in(&root.join("containers").join(&app.id)), [PathBuf::from("status")]);
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
    assert_eq!(names_in(&folder), [PathBuf::from("status")]);
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
