//! State that is damaged, or cannot be written: what runs is known all the same, what cannot be done is told in a sentence,
//! and nothing half done remains.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::Status;

use crate::cases;
use crate::harness::{Case, Container, Disk, Node, NodeOptions, Test, until};
use crate::restart::COUNT;

pub fn cases() -> Vec<Case> {
    cases!["damage": ; cridge only:
        a_status_that_cannot_be_read_hides_nothing,
        without_room_nothing_is_made_and_nothing_is_left,
        an_end_that_cannot_be_written_stays_as_it_was_told,
    ]
}

fn status_file(container: &Container) -> PathBuf {
    let [root, _] = container.pod.node.server_dirs();
    root.join("containers").join(&container.id).join("status")
}

/// Damages the file there, whose whole content is this.
type Damage = fn(&Path, Vec<u8>);

/// What can become of a status file.
const DAMAGES: [(&str, Damage); 8] = [
    ("empty", |path, _| fs::write(path, "").unwrap()),
    ("half", |path, whole| fs::write(path, &whole[..whole.len() / 2]).unwrap()),
    ("all-but-the-end", |path, whole| fs::write(path, &whole[..whole.len() - 1]).unwrap()),
    ("zeros", |path, whole| fs::write(path, vec![0; whole.len()]).unwrap()),
    ("noise", |path, whole| {
        fs::write(path, whole.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>()).unwrap()
    }),
    ("of-another-version", |path, _| fs::write(path, r#"{"Version":"v9"}"#).unwrap()),
    ("gone", |path, _| fs::remove_file(path).unwrap()),
    ("a-folder", |path, whole| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("status"), whole).unwrap();
    }),
];

fn damage(container: &Container, how: Damage) {
    let path = status_file(container);
    let whole = fs::read(&path).unwrap();
    how(&path, whole);
}

async fn a_status_that_cannot_be_read_hides_nothing(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let mut running = Vec::new();
    for (name, _) in DAMAGES {
        running.push(pod.container(name).shell(COUNT).start().await);
    }
    let created = pod.container("created").create().await;
    let exited = pod.container("exited").shell("exit 3").start().await;
    exited.exited().await;
    node.end(Signal::KILL).await;
    for (container, (_, how)) in running.iter().zip(DAMAGES) {
        damage(container, how);
    }
    for container in [&created, &exited] {
        damage(container, DAMAGES[1].1);
    }
    // The second time, what the first has written is read.
    let mut told = Vec::new();
    for _ in 0..2 {
        node.start().await;
        node.in_step().await;
        let mut now = Vec::new();
        for container in &running {
            let status = container.status().await;
            assert_eq!(status.state(), ContainerState::ContainerRunning, "{status:?}");
            assert!(status.created_at > 0 && status.created_at <= status.started_at, "{status:?}");
            now.push(status);
        }
        if !told.is_empty() {
            assert_eq!(now, told);
        }
        told = now;
        node.end(Signal::KILL).await;
    }
    node.start().await;
    for container in running {
        assert_eq!(container.sh("echo inside").await, "inside");
        let lines = container.log().len();
        until("its log goes on", || async { (container.log().len() > lines).then_some(()) }).await;
        container.stop(60).await;
        assert_eq!(container.status().await.exit_code, 5);
        container.remove().await;
    }
    // That it never ran, or how it ended, was written there alone.
    for container in [created, exited] {
        container.stop(60).await;
        let status = container.status().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"), "{status:?}");
        assert!(status.created_at > 0, "{status:?}");
        container.remove().await;
    }
    assert_eq!(pod.container("new").shell("echo works").output().await, "works");
}

/// Has a node keep its state where there is little room.
fn little_room(dir: &Path, _: &mut String) {
    // Unmounted by the test.
    std::mem::forget(Disk::small(&dir.join("cridge"), 1 << 20));
}

async fn small_node(t: &Test) -> (std::sync::Arc<Node>, Disk) {
    let node = t.own_node(NodeOptions { configure: Some(little_room), ..Default::default() }).await;
    let disk = Disk { path: node.dir.join("cridge") };
    (node, disk)
}

#[track_caller]
fn says_so(refused: &Status) {
    assert!(refused.message().contains("No space left on device"), "{refused:?}");
}

async fn without_room_nothing_is_made_and_nothing_is_left(t: Test) {
    let (node, disk) = small_node(&t).await;
    let [pod, other] = [t.pod_on(&node).run().await, t.pod_on(&node).run().await];
    let app = other.container("app").shell(COUNT).start().await;
    disk.fill();
    let (next, new) = (t.pod_on(&node), pod.container("new").shell("echo works"));
    says_so(&next.try_run().await.map(|pod| pod.id).unwrap_err());
    says_so(&new.try_create().await.map(|made| made.id).unwrap_err());
    assert_eq!(t.pods_on(&node).await.len(), 2);
    let listed = node.runtime().list_containers(cri::ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().containers.len(), 1);
    // What is there works, and goes.
    assert_eq!(app.sh("echo inside").await, "inside");
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
    other.stop().await;
    assert_eq!(other.state().await, PodSandboxState::SandboxNotready);
    other.remove().await;
    disk.empty();
    // The names are free.
    assert_eq!(new.output().await, "works");
    next.run().await.remove().await;
    pod.remove().await;
    assert_eq!(fs::read_dir(node.server_dirs()[0].join("containers")).unwrap().count(), 0);
}

async fn an_end_that_cannot_be_written_stays_as_it_was_told(t: Test) {
    let (node, disk) = small_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    let running = pod.container("running").shell(COUNT).start().await;
    let created = pod.container("created").create().await;
    running.logs("5\n").await;
    disk.fill();
    says_so(&created.try_start().await.unwrap_err());
    assert_eq!(created.status().await.exit_code, 128);
    running.stop(60).await;
    let told = running.status().await;
    assert_eq!((told.state(), told.exit_code), (ContainerState::ContainerExited, 5), "{told:?}");
    // Nothing but its shim knows that now.
    node.end(Signal::KILL).await;
    node.start().await;
    assert_eq!(running.exited().await, told);
    // As far as is written, it may have run: it does not run again.
    let failed = created.exited().await;
    assert_eq!((failed.exit_code, failed.reason.as_str()), (255, "Unknown"), "{failed:?}");
    disk.empty();
    until("both ends are written down", || async {
        let written = |container: &Container| {
            let file = fs::read(status_file(container)).ok()?;
            let file: serde_json::Value = serde_json::from_slice(&file).ok()?;
            file["FinishedAt"].as_i64().filter(|at| *at > 0)
        };
        written(&running).and(written(&created))
    })
    .await;
    node.end(Signal::KILL).await;
    node.start().await;
    assert_eq!((running.status().await, created.status().await), (told, failed));
    pod.remove().await;
}
