//! What callers see of a containerd that goes away and comes back.

use std::sync::Arc;

use cridge::containerd::{All, Containerd, StdioPaths, TaskState};
use cridge::error::Kind;
use cridge::signal::Signal;

use crate::node::{Node, soon};
use crate::place::Place;
use crate::releases::Corner as _;
use crate::running::{created, removed};

pub async fn a_lost_daemon_is_told_at_once_and_found_again(shared: Place) {
    // A node of its own: the other tests need theirs.
    let release = shared.node.release.clone();
    let node = tokio::task::spawn_blocking(move || Arc::new(Node::up(&release))).await.unwrap();
    let place = Place::new(node.clone(), "loss").await;
    let containerd = created(&place, "survivor", &["sleep", "1000"], StdioPaths::default()).await;
    let pid = containerd.start_task("survivor").await.unwrap();

    let mut events = containerd.subscribe().await.unwrap();
    let waiting = tokio::spawn({
        let containerd = containerd.clone();
        async move { containerd.wait("survivor", None).await }
    });
    let listening = tokio::spawn(async move { events.next().await });
    ordered(&node, Node::kill).await;

    let lost = soon(waiting).await.unwrap().unwrap_err();
    assert!(lost.is_away(), "{lost:?}");
    let lost = soon(listening).await.unwrap().unwrap_err();
    assert!(lost.is_away(), "{lost:?}");
    for _ in 0..3 {
        let lost = soon(containerd.tasks()).await.unwrap_err();
        assert!(lost.is_away() && lost.kind() == Kind::Unavailable, "{lost:?}");
    }
    assert!(soon(containerd.subscribe()).await.unwrap_err().is_away());
    assert!(containerd.server_pid().await.is_err());

    ordered(&node, Node::restart).await;
    let tasks = containerd.tasks().await.unwrap();
    assert_eq!((tasks.len(), tasks[0].pid, tasks[0].state), (1, pid, TaskState::Running));
    let mut events = containerd.subscribe().await.unwrap();
    let waiting = containerd.wait("survivor", None);
    containerd.kill("survivor", None, Signal::KILL, All::No).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().code, 128 + 9);
    soon(events.next()).await.unwrap();
    containerd.delete_task("survivor").await.unwrap();
    removed(&containerd, "survivor").await;
    tokio::task::spawn_blocking(move || drop((place, node))).await.unwrap();
}

async fn ordered(node: &Arc<Node>, order: fn(&Node)) {
    let node = node.clone();
    tokio::task::spawn_blocking(move || order(&node)).await.unwrap();
}

pub async fn a_socket_that_is_not_there_is_away(_: Place) {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Containerd::new(&folder.path().join("none.sock"), "k8s.io");
    let error = soon(nobody.version()).await.unwrap_err();
    assert!(error.is_away(), "{error:?}");
    assert!(cridge::error::chain(&error).contains("No such file"), "{}", cridge::error::chain(&error));

    // Somebody who is not containerd.
    let path = folder.path().join("mute.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let error = soon(Containerd::new(&path, "k8s.io").version()).await.unwrap_err();
    assert!(error.is_away(), "{error:?}");
    closing.abort();
}
