//! `cridge fsck`: what belongs to nobody is named and, if asked, removed; and nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::sandbox::store_client::StoreClient;
use containerd_client::services::v1::snapshots::PrepareSnapshotRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::types;
use k8s_cri::v1::PodSandboxState;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::cases;
use crate::harness::{Case, Node, NodeOptions, Test, request, until};

pub fn cases() -> Vec<Case> {
    cases!["fsck": ; cridge only:
        each_kind_is_named_with_its_reason_and_goes_when_asked,
        the_daemon_removes_what_is_lost_for_sure_and_tells_of_the_rest,
        a_container_without_its_pod_is_removed_whole,
        nothing_is_said_without_containerd,
    ]
}

/// All nodes here share their cgroups: what one test leaves there, another's repair would take.
pub static CGROUPS: Mutex<()> = Mutex::const_new(());

/// What a run of `cridge fsck --json` came to.
pub struct Told {
    pub code: Option<i32>,
    /// By kind and what, with reason and outcome.
    findings: BTreeMap<(String, String), (String, String)>,
    stderr: String,
}

pub async fn fsck(node: &Node, args: &[&str]) -> Told {
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["fsck", "--json", "--config"])
        .arg(node.dir.join("cridge.toml"))
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = command.await.expect("cridge can be started");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let findings = report["findings"].as_array().into_iter().flatten().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let outcome = format!("{} {}", text("outcome"), text("error"));
        ((text("kind"), text("what")), (text("why"), outcome.trim().to_owned()))
    });
    Told {
        code: output.status.code(),
        findings: findings.collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Told {
    /// The outcome for each of these, by kind and a part of its name.
    #[track_caller]
    fn outcome(&self, kind: &str, part: &str) -> &str {
        let found = self.findings.iter().find(|((k, what), _)| k == kind && what.contains(part));
        let Some((_, (why, outcome))) = found else {
            panic!("{kind} {part} is not among {:?}; {}", self.findings, self.stderr);
        };
        assert!(!why.is_empty(), "{kind} {part} should have a reason");
        outcome
    }
}

fn fresh_id() -> String {
    let bytes: [u8; 32] = std::array::from_fn(|_| rand::random());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A network namespace without anybody in it.
fn pin_netns(path: &Path) {
    fs::write(path, "").unwrap();
    let made = Command::new("unshare").arg(format!("--net={}", path.display())).arg("true").status();
    assert!(made.expect("unshare").success());
}

/// A shim as containerd would have started it, and lost. What it logs goes where the answer leads, which is to be kept.
fn start_shim(node: &Node, id: &str, bundle: &Path) -> fs::File {
    fs::create_dir_all(bundle).unwrap();
    fs::write(bundle.join("config.json"), "{}").unwrap();
    let log = bundle.join("log");
    assert!(Command::new("mkfifo").arg(&log).status().expect("mkfifo").success());
    let log = fs::File::options().read(true).write(true).open(log).unwrap();
    let socket = node.dir.join("containerd.sock");
    let output = Command::new(node.program("containerd-shim-runc-v2"))
        .args(["-namespace", "k8s.io", "-id", id, "-address"])
        .arg(&socket)
        .arg("-publish-binary")
        .arg(node.program("containerd"))
        .args(["-bundle"])
        .arg(bundle)
        .arg("start")
        .current_dir(bundle)
        .env("TTRPC_ADDRESS", format!("{}.ttrpc", socket.display()))
        .stdin(Stdio::null())
        .output()
        .expect("a shim");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shim_of(id).is_some(), "a shim should serve");
    log
}

fn shim_of(id: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains(id) && line.contains("shim") && !line.contains("\0start")
    })
}

/// What CNI and host-local keep of a pod, by its place.
fn traces_of(node: &Node, id: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let cni = node.dir.join("cni");
    let places = [cni.join("cache/results"), cni.join("ipam").join(&node.bridge)];
    let files = places.iter().flat_map(|place| fs::read_dir(place).unwrap().flatten());
    let files = files.map(|file| (file.path(), fs::read(file.path()).unwrap()));
    let about = |(path, content): &(PathBuf, Vec<u8>)| {
        path.display().to_string().contains(id) || String::from_utf8_lossy(content).contains(id)
    };
    files.filter(about).collect()
}

fn cgroup_of(test: &Test, id: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let root = if root.join("pids").is_dir() { root.join("pids") } else { root.to_owned() };
    root.join("kubepods").join(test.fresh_name("pod")).join(id)
}

/// Something of each kind that is nobody's.
struct Orphans {
    /// (kind, a part of its name)
    expected: Vec<(&'static str, String)>,
    /// What must be gone in the end.
    paths: Vec<PathBuf>,
    cgroup: PathBuf,
    id: String,
    _log: fs::File,
}

impl Orphans {
    async fn make(t: &Test, node: &Arc<Node>) -> Self {
        let (id, other) = (fresh_id(), fresh_id());
        let mut expected = Vec::new();
        let mut paths = Vec::new();
        let mut note = |kind, part: &str| expected.push((kind, part.to_owned()));

        // A pod's traces, put back when it is gone.
        let pod = t.pod_on(node).run().await;
        let traces = traces_of(node, &pod.id);
        assert_eq!(traces.len(), 2, "{traces:?}");
        pod.remove().await;
        for (path, content) in traces {
            let kind = if path.starts_with(node.dir.join("cni/ipam")) { "address" } else { "network-result" };
            note(kind, path.to_str().unwrap());
            fs::write(&path, content).unwrap();
            paths.push(path);
        }
        let address = node.dir.join("cni/ipam").join(&node.bridge).join(format!("{}251", node.subnet));
        fs::write(&address, format!("{other}\r\neth0")).unwrap();
        note("address", address.to_str().unwrap());

        let pin = node.dir.join("netns/cni-01234567-89ab-4cde-8f01-23456789abcd");
        pin_netns(&pin);
        note("netns", pin.to_str().unwrap());

        let [root, state] = node.server_dirs();
        let (folder, shm) =
            (root.join("containers").join(&id), state.join("sandboxes").join(&id).join("shm"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("status"), "{}").unwrap();
        fs::create_dir_all(&shm).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "shm"]).arg(&shm).status();
        assert!(mounted.expect("mount").success());
        note("folder", folder.to_str().unwrap());
        note("folder", shm.parent().unwrap().to_str().unwrap());
        note("mount", shm.to_str().unwrap());
        paths.extend([address, pin, folder, shm.parent().unwrap().to_owned()]);

        let cgroup = cgroup_of(t, &id);
        fs::create_dir_all(&cgroup).unwrap();
        note("cgroup", &id);
        paths.push(cgroup.clone());

        let log = start_shim(node, &id, &t.folder().join("bundle"));
        note("shim", &id);
        Self::in_containerd(node, &id, &mut note).await;
        Self { expected, paths, cgroup, id, _log: log }
    }

    async fn in_containerd(node: &Node, id: &str, note: &mut impl FnMut(&'static str, &str)) {
        // Else garbage collection takes the one, for nothing names it.
        let labels = [("containerd.io/gc.root".to_owned(), "now".to_owned())].into();
        let prepare = PrepareSnapshotRequest {
            snapshotter: "overlayfs".into(),
            key: id.into(),
            labels,
            ..Default::default()
        };
        SnapshotsClient::new(node.containerd()).prepare(request(prepare)).await.unwrap();
        note("snapshot", id);
        let lease = api::CreateRequest { id: id.into(), ..Default::default() };
        LeasesClient::new(node.containerd()).create(request(lease)).await.unwrap();
        note("lease", id);
        if node.release != "1.6" {
            let sandbox = types::Sandbox {
                sandbox_id: id.into(),
                runtime: Some(types::sandbox::Runtime::default()),
                sandboxer: "podsandbox".into(),
                ..Default::default()
            };
            let create = api::sandbox::StoreCreateRequest { sandbox: Some(sandbox) };
            StoreClient::new(node.containerd()).create(request(create)).await.unwrap();
            note("sandbox-record", id);
        }
    }

    /// Whether all of it is there, or none.
    async fn are_there(&self, node: &Node) -> bool {
        let mut there: Vec<bool> = self.paths.iter().map(|path| path.exists()).collect();
        there.push(shim_of(&self.id).is_some());
        let leases = LeasesClient::new(node.containerd()).list(request(api::ListRequest::default())).await;
        there.push(leases.unwrap().into_inner().leases.iter().any(|lease| lease.id == self.id));
        assert!(there.iter().all(|one| *one == there[0]), "{there:?} of {:?}", self.paths);
        there[0]
    }
}

/// What is somebody else's, and looks alike.
struct Foreign {
    paths: [PathBuf; 3],
    id: String,
}

const ELSEWHERE: &str = "elsewhere";

fn elsewhere<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", ELSEWHERE.parse().unwrap());
    request
}

impl Foreign {
    async fn make(node: &Node) -> Self {
        let id = fresh_id();
        let namespace = api::Namespace { name: ELSEWHERE.into(), ..Default::default() };
        let create = api::CreateNamespaceRequest { namespace: Some(namespace) };
        NamespacesClient::new(node.containerd()).create(elsewhere(create)).await.unwrap();
        let container = api::Container {
            id: id.clone(),
            runtime: Some(api::container::Runtime { name: "io.containerd.runc.v2".into(), options: None }),
            spec: Some(prost_types::Any { type_url: "test".into(), value: b"{}".to_vec() }),
            ..Default::default()
        };
        let create = api::CreateContainerRequest { container: Some(container) };
        ContainersClient::new(node.containerd()).create(elsewhere(create)).await.unwrap();
        let paths = [
            node.dir.join("cni/ipam").join(&node.bridge).join(format!("{}252", node.subnet)),
            node.dir.join("netns/blue"),
            node.server_dirs()[0].join("sandboxes/not-an-id"),
        ];
        fs::write(&paths[0], format!("{id}\r\neth0")).unwrap();
        pin_netns(&paths[1]);
        fs::create_dir_all(&paths[2]).unwrap();
        Self { paths, id }
    }

    /// Sees that all is there, and takes it away.
    async fn take_away(self, node: &Node) {
        for path in &self.paths {
            assert!(path.exists(), "{} is not cridge's to remove", path.display());
        }
        fs::remove_file(&self.paths[0]).unwrap();
        assert!(Command::new("umount").arg(&self.paths[1]).status().unwrap().success());
        fs::remove_file(&self.paths[1]).unwrap();
        fs::remove_dir(&self.paths[2]).unwrap();
        let delete = api::DeleteContainerRequest { id: self.id };
        ContainersClient::new(node.containerd()).delete(elsewhere(delete)).await.expect("it is still there");
        let delete = api::DeleteNamespaceRequest { name: ELSEWHERE.into() };
        NamespacesClient::new(node.containerd()).delete(elsewhere(delete)).await.unwrap();
    }
}

async fn each_kind_is_named_with_its_reason_and_goes_when_asked(t: Test) {
    let _alone = CGROUPS.lock().await;
    let node = t.own_node(NodeOptions::default()).await;
    until("the daemon has looked its last", || async {
        node.log_tail(1000).contains("no shim is lost any more").then_some(())
    })
    .await;
    let clean = fsck(&node, &[]).await;
    assert_eq!((clean.code, clean.findings.len()), (Some(0), 0), "{:?} {}", clean.findings, clean.stderr);
    let pod = t.pod_on(&node).run().await;
    let container = pod.container("app").start().await;
    let ip = pod.ip().await;
    let foreign = Foreign::make(&node).await;
    let orphans = Orphans::make(&t, &node).await;

    // Beside the daemon it looks, and touches nothing.
    let told = fsck(&node, &[]).await;
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    for (kind, part) in &orphans.expected {
        assert_eq!(told.outcome(kind, part), "found");
    }
    assert_eq!(told.findings.len(), orphans.expected.len(), "{:?}", told.findings);
    assert!(orphans.are_there(&node).await);
    let refused = fsck(&node, &["--repair"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    assert!(orphans.are_there(&node).await);

    assert!(node.end(Signal::TERM).await.success());
    let told = fsck(&node, &["--repair"]).await;
    for (kind, part) in &orphans.expected {
        assert_eq!(told.outcome(kind, part), "removed");
    }
    assert_eq!(told.code, Some(0), "{:?} {}", told.findings, told.stderr);
    assert!(!orphans.are_there(&node).await);
    let again = fsck(&node, &["--repair"]).await;
    assert_eq!((again.code, again.findings.len()), (Some(0), 0), "{:?}", again.findings);
    foreign.take_away(&node).await;
    fs::remove_dir(orphans.cgroup.parent().unwrap()).unwrap();

    node.start().await;
    assert_eq!((pod.state().await, pod.ip().await), (PodSandboxState::SandboxReady, ip));
    assert_eq!(container.sh("echo inside").await, "inside");
    let next = t.pod_on(&node).run().await;
    assert_eq!(next.container("app").shell("echo works").output().await, "works");
}

async fn the_daemon_removes_what_is_lost_for_sure_and_tells_of_the_rest(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    assert!(node.end(Signal::TERM).await.success());
    let id = fresh_id();
    let folder = node.server_dirs()[0].join("sandboxes").join(&id);
    fs::create_dir_all(&folder).unwrap();
    let _log = start_shim(&node, &id, &t.folder().join("bundle"));
    let told = fsck(&node, &[]).await;
    assert_eq!((told.outcome("shim", &id), told.outcome("folder", &id)), ("found", "found"));
    let pin = node.dir.join("netns/cni-01234567-89ab-4cde-8f01-23456789abcd");
    fs::create_dir_all(pin.parent().unwrap()).unwrap();
    pin_netns(&pin);
    node.start().await;
    until("the folder and the shim are gone", || async {
        (!folder.exists() && shim_of(&id).is_none()).then_some(())
    })
    .await;
    until("the daemon tells of the rest", || async {
        let log = node.log_tail(1000);
        let mut told = log.lines().filter(|line| line.contains("some things belong to nobody"));
        told.any(|line| line.contains("netns 1")).then_some(())
    })
    .await;
    assert!(Command::new("umount").arg(&pin).status().unwrap().success(), "it is still there");
    fs::remove_file(&pin).unwrap();
}

async fn a_container_without_its_pod_is_removed_whole(t: Test) {
    let _alone = CGROUPS.lock().await;
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let container = pod.container("app").start().await;
    assert!(node.end(Signal::TERM).await.success());
    let delete = api::DeleteContainerRequest { id: pod.id.clone() };
    ContainersClient::new(node.containerd()).delete(request(delete)).await.unwrap();
    let told = fsck(&node, &["--repair"]).await;
    assert_eq!(told.outcome("container", &container.id), "removed");
    assert_eq!(told.code, Some(0), "{:?} {}", told.findings, told.stderr);
    assert_eq!(shim_of(&pod.id), None);
    node.start().await;
}

async fn nothing_is_said_without_containerd(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    node.end_containerd(Signal::TERM).await;
    let told = fsck(&node, &[]).await;
    assert_eq!(told.code, Some(2), "{:?}", told.findings);
    assert!(told.stderr.contains("containerd is away"), "{}", told.stderr);
    node.start_containerd();
}
