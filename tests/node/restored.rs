//! Containers out of checkpoints: they go on from where they were, or are refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerState;
use serde_json::json;
use tonic::{Code, Status};

use crate::cases;
use crate::checkpoint::{COUNTER, OF_ONE_THAT_RAN, checkpoint, count, counts_beyond, names_in, out_of};
use crate::harness::{Case, Container, ContainerBuilder, NodeOptions, Test, code_of, until};

pub fn cases() -> Vec<Case> {
    cases!["restored": ; cridge only:
        a_restored_container_goes_on_from_its_number,
        an_image_made_of_a_checkpoint_is_restored_where_that_is_allowed,
        a_config_that_contradicts_the_checkpoint_is_refused,
        what_is_no_checkpoint_is_refused_and_leaves_nothing,
        a_terminal_is_restored,
        processes_that_share_the_pods_are_restored,
    ]
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
    assert_eq!(left, OF_ONE_THAT_RAN.map(PathBuf::from), "its images are of no more use");
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
