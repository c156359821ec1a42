//! Tasks, their processes, and the events of both.

use std::collections::BTreeMap;
use std::time::Duration;

use cridge::config::HandlerConfig;
use cridge::containerd::{
    All, Collect, ContainerRecord, Containerd, Descriptor, Event, EventStream, ExecProcess, ImageRecord,
    NewTask, RuntimeSelection, StdioPaths, TaskState,
};
use cridge::error::Kind;
use cridge::id::{Digest, SnapshotKey};
use cridge::signal::Signal;
use cridge::time::Timestamp;
use tokio::io::AsyncBufReadExt as _;

use crate::node::soon;
use crate::place::Place;

fn spec(namespace: &str, id: &str, arguments: &[&str], terminal: bool) -> Vec<u8> {
    let kinds = ["pid", "mount", "ipc", "uts", "network"];
    serde_json::to_vec(&serde_json::json!({
        "ociVersion": "1.0.2",
        "process": process(arguments, terminal),
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{namespace}/{id}"),
            "namespaces": kinds.map(|kind| serde_json::json!({"type": kind})),
        },
    }))
    .unwrap()
}

fn process(arguments: &[&str], terminal: bool) -> serde_json::Value {
    serde_json::json!({
        "args": arguments, "cwd": "/", "env": ["PATH=/bin"], "terminal": terminal, "user": {"uid": 0, "gid": 0},
    })
}

/// A created task that runs the arguments once it is started.
pub async fn created(place: &Place, id: &str, arguments: &[&str], stdio: StdioPaths) -> Containerd {
    let containerd = place.leased().await;
    let base = SnapshotKey::new("base");
    if containerd.snapshot("overlayfs", &base).await.is_err() {
        place.rootfs().await;
    }
    let key = SnapshotKey::new(id);
    let rootfs = containerd.prepare_snapshot("overlayfs", &key, Some(&base), &BTreeMap::new()).await.unwrap();
    let record = ContainerRecord {
        id: id.into(),
        labels: BTreeMap::new(),
        image: String::new(),
        runtime: RuntimeSelection::from_handler(&HandlerConfig::default()).unwrap(),
        spec: spec(containerd.namespace(), id, arguments, stdio.terminal),
        snapshotter: "overlayfs".into(),
        snapshot_key: key,
        created_at: Timestamp::NEVER,
        extensions: BTreeMap::new(),
        sandbox: String::new(),
    };
    containerd.create_container(&record).await.unwrap();
    let task = NewTask { container_id: id.into(), rootfs, stdio, runtime_path: None, options: None };
    let pid = containerd.create_task(&task).await.unwrap();
    assert_ne!(pid, 0);
    let info = containerd.task(id).await.unwrap();
    assert_eq!((info.container_id.as_str(), info.pid, info.state), (id, pid, TaskState::Created));
    containerd
}

pub async fn removed(containerd: &Containerd, id: &str) {
    containerd.delete_container(id).await.unwrap();
    containerd.remove_snapshot("overlayfs", &SnapshotKey::new(id)).await.unwrap();
    assert!(containerd.task(id).await.unwrap_err().is_not_found());
}

pub async fn a_task_runs_and_ends(place: Place) {
    let began = Timestamp::now();
    let containerd = created(&place, "seven", &["sh", "-c", "exit 7"], StdioPaths::default()).await;
    let waiting = tokio::spawn({
        let containerd = containerd.clone();
        async move { containerd.wait("seven", None).await }
    });
    containerd.start_task("seven").await.unwrap();
    let exit = soon(waiting).await.unwrap().unwrap();
    assert_eq!(exit.code, 7);
    assert!(exit.at > began && exit.at <= Timestamp::now());

    assert_eq!(containerd.task("seven").await.unwrap().state, TaskState::Stopped(exit));
    let kill = containerd.kill("seven", None, Signal::KILL, All::No).await.unwrap_err();
    assert!(kill.is_not_found(), "{kill}");
    assert_eq!(containerd.tasks().await.unwrap().len(), 1);
    assert_eq!(containerd.delete_task("seven").await.unwrap(), exit);
    assert_eq!(containerd.tasks().await.unwrap(), []);
    assert!(containerd.delete_task("seven").await.unwrap_err().is_not_found());
    removed(&containerd, "seven").await;
}

pub async fn processes_run_beside_the_init(place: Place) {
    let containerd = created(&place, "host", &["sleep", "1000"], StdioPaths::default()).await;
    let init = containerd.start_task("host").await.unwrap();
    let task = containerd.task("host").await.unwrap();
    assert_eq!((task.pid, task.state, task.stdio), (init, TaskState::Running, StdioPaths::default()));
    let refused = containerd.delete_task("host").await.unwrap_err();
    assert!(refused.to_string().contains("cannot delete a running process"), "{refused}");

    let exec = |exec_id: &str, arguments: &[&str]| ExecProcess {
        container_id: "host".into(),
        exec_id: exec_id.into(),
        stdio: StdioPaths::default(),
        process: serde_json::to_vec(&process(arguments, false)).unwrap(),
    };
    containerd.add_exec(&exec("three", &["sh", "-c", "exit 3"])).await.unwrap();
    let again = containerd.add_exec(&exec("three", &["sh"])).await.unwrap_err();
    assert_eq!(again.kind(), Kind::AlreadyExists, "{again}");
    containerd.start_exec("host", "three").await.unwrap();
    let exit = soon(containerd.wait("host", Some("three"))).await.unwrap();
    assert_eq!(exit.code, 3);
    assert_eq!(containerd.delete_exec("host", "three").await.unwrap(), exit);

    containerd.add_exec(&exec("long", &["sleep", "1000"])).await.unwrap();
    let pid = containerd.start_exec("host", "long").await.unwrap();
    let mut pids = containerd.pids("host").await.unwrap();
    pids.sort_unstable();
    let mut expected = [init, pid];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    containerd.kill("host", Some("long"), Signal::TERM, All::No).await.unwrap();
    assert_eq!(soon(containerd.wait("host", Some("long"))).await.unwrap().code, 128 + 15);
    containerd.delete_exec("host", "long").await.unwrap();

    // Nobody can run this.
    containerd.add_exec(&exec("none", &["/nonesuch"])).await.unwrap();
    let failed = containerd.start_exec("host", "none").await.unwrap_err();
    assert!(failed.to_string().contains("/nonesuch"), "{failed}");
    containerd.delete_exec("host", "none").await.unwrap();

    let resources = br#"{"pids":{"limit":77}}"#.to_vec();
    containerd.update_task("host", resources, Default::default()).await.unwrap();

    containerd.kill("host", None, Signal::KILL, All::Processes).await.unwrap();
    assert_eq!(soon(containerd.wait("host", None)).await.unwrap().code, 128 + 9);
    containerd.delete_task("host").await.unwrap();
    removed(&containerd, "host").await;
}

pub async fn a_terminal_has_a_size(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = |name: &str| {
        let path = folder.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        path
    };
    let stdio =
        StdioPaths { stdin: Some(fifo("in")), stdout: Some(fifo("out")), stderr: None, terminal: true };
    let mut fifos = tokio::net::unix::pipe::OpenOptions::new();
    let output = fifos.read_write(true).open_receiver(stdio.stdout.as_ref().unwrap()).unwrap();
    // Without an end of ours, an open stdin would keep the shim waiting for a writer.
    let _input = fifos.read_write(true).open_sender(stdio.stdin.as_ref().unwrap()).unwrap();
    let command = "until [ \"$(/bin/busybox stty size)\" = '25 132' ]; do /bin/busybox usleep 20000; done; echo size $(/bin/busybox stty size)";
    let containerd = created(&place, "tty", &["sh", "-c", command], stdio.clone()).await;
    assert_eq!(containerd.task("tty").await.unwrap().stdio, stdio);
    containerd.start_task("tty").await.unwrap();
    containerd.resize("tty", None, 132, 25).await.unwrap();
    let mut lines = tokio::io::BufReader::new(output).lines();
    while !soon(lines.next_line()).await.unwrap().unwrap().contains("size 25 132") {}
    containerd.close_stdin("tty", None).await.unwrap();
    soon(containerd.wait("tty", None)).await.unwrap();
    containerd.delete_task("tty").await.unwrap();
    removed(&containerd, "tty").await;
}

pub async fn many_may_wait(place: Place) {
    let containerd = created(&place, "awaited", &["sleep", "1000"], StdioPaths::default()).await;
    containerd.start_task("awaited").await.unwrap();
    // More than the hundred streams that HTTP/2 clients begin with.
    let waiters: Vec<_> = (0..250)
        .map(|_| {
            let containerd = containerd.clone();
            tokio::spawn(async move { containerd.wait("awaited", None).await })
        })
        .collect();
    let mut events = soon(containerd.subscribe()).await.unwrap();
    containerd.kill("awaited", None, Signal::KILL, All::No).await.unwrap();
    for waiter in waiters {
        assert_eq!(soon(waiter).await.unwrap().unwrap().code, 128 + 9);
    }
    next(&mut events).await;
    containerd.delete_task("awaited").await.unwrap();
    removed(&containerd, "awaited").await;
}

/// The next event of a task, or what became of the stream.
async fn next(events: &mut EventStream) -> Event {
    let (at, event) = soon(events.next()).await.unwrap();
    assert!(at.is_set());
    event
}

pub async fn events_tell_what_happened(place: Place) {
    let mut events = place.containerd.subscribe().await.unwrap();
    // Another namespace's are not ours to see.
    let other = Containerd::new(&place.node.socket(), "elsewhere");
    let image = ImageRecord {
        name: "registry.test/pause:1".into(),
        labels: BTreeMap::new(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: Digest::of(b"x"),
            size: 1,
            annotations: BTreeMap::new(),
        },
        created_at: Timestamp::NEVER,
    };
    other.put_image(&image).await.unwrap();
    other.delete_image(&image.name, Collect::Later).await.unwrap();

    let containerd = created(&place, "noisy", &["sleep", "1000"], StdioPaths::default()).await;
    containerd.put_image(&image).await.unwrap();
    containerd.put_image(&image).await.unwrap();
    containerd.delete_image(&image.name, Collect::Later).await.unwrap();
    assert_eq!(next(&mut events).await, Event::ImageCreated { name: image.name.clone() });
    assert_eq!(next(&mut events).await, Event::ImageUpdated { name: image.name.clone() });
    assert_eq!(next(&mut events).await, Event::ImageDeleted { name: image.name });

    let init = containerd.start_task("noisy").await.unwrap();
    let exec = ExecProcess {
        container_id: "noisy".into(),
        exec_id: "aside".into(),
        stdio: StdioPaths::default(),
        process: serde_json::to_vec(&process(&["sh", "-c", "exit 4"], false)).unwrap(),
    };
    containerd.add_exec(&exec).await.unwrap();
    let pid = containerd.start_exec("noisy", "aside").await.unwrap();
    let exit = soon(containerd.wait("noisy", Some("aside"))).await.unwrap();
    let (container_id, exec_id) = ("noisy".to_owned(), Some("aside".to_owned()));
    assert_eq!(next(&mut events).await, Event::TaskExit { container_id, exec_id, pid, exit });
    containerd.delete_exec("noisy", "aside").await.unwrap();

    containerd.kill("noisy", None, Signal::KILL, All::No).await.unwrap();
    let exit = soon(containerd.wait("noisy", None)).await.unwrap();
    let container_id = "noisy".to_owned();
    assert_eq!(next(&mut events).await, Event::TaskExit { container_id, exec_id: None, pid: init, exit });
    containerd.delete_task("noisy").await.unwrap();
    removed(&containerd, "noisy").await;
}

/// A shim may end before it has sent its last event (seen with 2.1.9), so several are given the chance.
pub async fn a_deletion_is_told_once_more(place: Place) {
    let mut events = place.containerd.subscribe().await.unwrap();
    for n in 0..10 {
        let id = format!("short-{n}");
        let containerd = created(&place, &id, &["sleep", "1000"], StdioPaths::default()).await;
        let pid = containerd.start_task(&id).await.unwrap();
        containerd.kill(&id, None, Signal::KILL, All::No).await.unwrap();
        let exit = soon(containerd.wait(&id, None)).await.unwrap();
        let told = Event::TaskExit { container_id: id.clone(), exec_id: None, pid, exit };
        assert_eq!(next(&mut events).await, told);
        containerd.delete_task(&id).await.unwrap();
        removed(&containerd, &id).await;
        if let Ok(event) = tokio::time::timeout(Duration::from_secs(2), events.next()).await {
            return assert_eq!(event.unwrap().1, Event::TaskDelete { container_id: id, pid, exit });
        }
    }
    panic!("ten deletions, and no event of any");
}

pub async fn a_killed_task_that_was_never_started_goes(place: Place) {
    let containerd = created(&place, "unborn", &["sh"], StdioPaths::default()).await;
    containerd.kill("unborn", None, Signal::KILL, All::No).await.unwrap();
    soon(containerd.wait("unborn", None)).await.unwrap();
    containerd.delete_task("unborn").await.unwrap();
    removed(&containerd, "unborn").await;
}
