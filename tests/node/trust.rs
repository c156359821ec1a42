//! What cridge trusts and what it does not: docs/security.md, line by line.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cridge::proto::cri as newest;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::{Code, Status};

use crate::cases;
use crate::checkpoint::try_checkpoint;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Test};
use crate::image_volumes::{CONFIGURED, FORM, with_image};
use crate::sessions::talking;

pub fn cases() -> Vec<Case> {
    cases!["trust": ; cridge only:
        no_request_crosses_pods_by_an_id,
        what_it_makes_has_the_modes_that_are_told,
        it_leaves_no_core,
        its_namespaces_are_containerds,
        links_of_an_image_lead_nowhere_else,
        layers_reach_nothing_but_their_root,
    ]
}

/// What each call answers, by its name.
type Answers = Vec<(&'static str, Result<(), Status>)>;

macro_rules! answers {
    ($client:expr, $id:expr, $field:ident: $($call:ident $request:ident { $($more:tt)* })*) => {
        vec![$((
            stringify!($call),
            $client.$call(newest::$request { $field: $id.to_owned(), $($more)* }).await.map(drop),
        )),*]
    };
}

/// Every call that names a pod.
async fn about_pod(node: &Node, id: &str) -> Answers {
    let (mut runtime, _) = node.newest();
    answers! { runtime, id, pod_sandbox_id:
        stop_pod_sandbox StopPodSandboxRequest {}
        remove_pod_sandbox RemovePodSandboxRequest {}
        pod_sandbox_status PodSandboxStatusRequest { verbose: true }
        pod_sandbox_stats PodSandboxStatsRequest {}
        port_forward PortForwardRequest { port: vec![80] }
        update_pod_sandbox_resources UpdatePodSandboxResourcesRequest { ..Default::default() }
        create_container CreateContainerRequest {
            config: Some(newest::ContainerConfig {
                metadata: Some(newest::ContainerMetadata { name: "stray".into(), attempt: 0 }),
                image: Some(newest::ImageSpec { image: crate::harness::BUSYBOX.into(), ..Default::default() }),
                ..Default::default()
            }),
            sandbox_config: Some(newest::PodSandboxConfig::default()),
        }
        checkpoint_pod CheckpointPodRequest { output_path: "/run/netns/stray".into(), ..Default::default() }
    }
}

/// Every call that names a container.
async fn about_container(node: &Node, id: &str) -> Answers {
    let (mut runtime, _) = node.newest();
    let cmd = || vec!["true".to_owned()];
    answers! { runtime, id, container_id:
        start_container StartContainerRequest {}
        stop_container StopContainerRequest { timeout: 0 }
        remove_container RemoveContainerRequest {}
        container_status ContainerStatusRequest { verbose: true }
        container_stats ContainerStatsRequest {}
        update_container_resources UpdateContainerResourcesRequest { ..Default::default() }
        exec_sync ExecSyncRequest { cmd: cmd(), timeout: 1 }
        exec ExecRequest { cmd: cmd(), stdout: true, ..Default::default() }
        attach AttachRequest { stdout: true, ..Default::default() }
        reopen_container_log ReopenContainerLogRequest {}
        checkpoint_container CheckpointContainerRequest { location: "/run/netns/stray".into(), timeout: 0 }
    }
}

/// Whatever is to be gone is gone already: all other calls have to find something.
fn assert_nothing_found(answers: Answers) {
    for (call, answer) in answers {
        match call {
            "stop_pod_sandbox" | "remove_pod_sandbox" | "stop_container" | "remove_container" => {
                answer.unwrap_or_else(|status| panic!("{call}: {status:?}"));
            }
            _ => assert_eq!(answer.map_err(|status| status.code()), Err(Code::NotFound), "{call}"),
        }
    }
}

fn assert_refused(answers: Answers) {
    for (call, answer) in answers {
        assert_eq!(answer.map_err(|status| status.code()), Err(Code::InvalidArgument), "{call}");
    }
}

/// The ids that each list has of a filter.
async fn listed(node: &Node, pod: &str, container: &str) -> [Vec<String>; 4] {
    let mut runtime = node.runtime();
    let (id, pod_sandbox_id) = (container.to_owned(), pod.to_owned());
    let filter = Some(cri::PodSandboxFilter { id: pod.into(), ..Default::default() });
    let pods = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await.unwrap().into_inner();
    let filter =
        Some(cri::ContainerFilter { id: id.clone(), pod_sandbox_id: pod.into(), ..Default::default() });
    let containers =
        runtime.list_containers(cri::ListContainersRequest { filter }).await.unwrap().into_inner();
    let filter = Some(cri::ContainerStatsFilter { id, pod_sandbox_id, ..Default::default() });
    let stats = runtime.list_container_stats(cri::ListContainerStatsRequest { filter }).await;
    let filter = Some(cri::PodSandboxStatsFilter { id: pod.into(), ..Default::default() });
    let pod_stats = runtime.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest { filter }).await;
    [
        pods.items.into_iter().map(|pod| pod.id).collect(),
        containers.containers.into_iter().map(|container| container.id).collect(),
        stats.unwrap().into_inner().stats.into_iter().map(|stats| stats.attributes.unwrap().id).collect(),
        pod_stats.unwrap().into_inner().stats.into_iter().map(|stats| stats.attributes.unwrap().id).collect(),
    ]
}

async fn no_request_crosses_pods_by_an_id(t: Test) {
    let node = t.node();
    // Of seventeen, two begin alike.
    let mut pods: Vec<Pod> = Vec::new();
    let pair = loop {
        let pod = t.pod().run().await;
        if let Some(other) = pods.iter().find(|other| other.id[..1] == pod.id[..1]) {
            break [other.clone(), pod];
        }
        pods.push(pod);
    };
    let mut made: [Vec<Container>; 2] = Default::default();
    let apps = 'found: loop {
        for n in [0, 1] {
            let app = pair[n].container(&format!("app-{}", made[n].len())).start().await;
            if let Some(other) = made[1 - n].iter().find(|other| other.id[..1] == app.id[..1]) {
                break 'found [other.clone(), app];
            }
            made[n].push(app);
        }
    };
    let (pod_prefix, app_prefix) = (&pair[0].id[..1], &apps[0].id[..1]);
    for id in ["", pod_prefix] {
        assert_refused(about_pod(node, id).await);
    }
    for id in ["", app_prefix] {
        assert_refused(about_container(node, id).await);
    }
    assert_nothing_found(about_pod(node, &apps[0].id).await);
    assert_nothing_found(about_container(node, &pair[0].id).await);
    for (pod, app) in [(pod_prefix, ""), (pod_prefix, app_prefix)] {
        assert_eq!(listed(node, pod, app).await, [const { Vec::<String>::new() }; 4]);
    }
    // A container is one of its pod alone.
    let of_other =
        listed(node, &pair[0].id, &apps.iter().find(|app| app.pod.id == pair[1].id).unwrap().id).await;
    assert_eq!(of_other, [vec![pair[0].id.clone()], vec![], vec![], vec![pair[0].id.clone()]]);

    for pod in &pair {
        assert_eq!(pod.state().await, PodSandboxState::SandboxReady);
    }
    for app in &apps {
        assert_eq!(app.state().await, ContainerState::ContainerRunning);
        // What is nobody else's beginning is as good as the whole.
        let (pod, own) = (&app.pod.id[..63], &app.id[..63]);
        let all = [app.pod.id.clone(), app.id.clone(), app.id.clone(), app.pod.id.clone()];
        assert_eq!(listed(node, pod, own).await, all.map(|id| vec![id]));
        let request = cri::ContainerStatusRequest { container_id: own.into(), verbose: false };
        let status = node.runtime().container_status(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.id, app.id);
    }
}

/// Place, kind and mode of each row of the table in docs/security.md.
fn told_modes() -> BTreeSet<(String, String, String)> {
    let rows = include_str!("../../docs/security.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let place = cells.next()?.strip_suffix('`')?.to_owned();
        let (kind, mode) = (cells.next()?.to_owned(), cells.next()?.to_owned());
        mode.starts_with('0').then_some((place, kind, mode))
    });
    rows.collect()
}

/// The same of what is there; it is root's. What an image or a pod has as its own is left out.
fn found_modes(place: &Path, name: &str, found: &mut BTreeSet<(String, String, String)>) {
    if ["/shm", "/volumes/RANDOM", "/image-volumes/ID/ID"].iter().any(|end| name.ends_with(end)) {
        return;
    }
    let metadata = std::fs::symlink_metadata(place).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{}", place.display());
    let kind = metadata.file_type();
    let kinds = [
        (kind.is_dir(), "folder"),
        (kind.is_file(), "file"),
        (kind.is_fifo(), "FIFO"),
        (kind.is_socket(), "socket"),
        (true, "something else"),
    ];
    let told = kinds.into_iter().find(|(is_it, _)| *is_it).map(|(_, told)| told.to_owned()).unwrap();
    found.insert((name.into(), told, format!("0{:o}", metadata.mode() & 0o7777)));
    if kind.is_dir() {
        for entry in std::fs::read_dir(place).unwrap().flatten() {
            let own = general(name, &entry.file_name().to_string_lossy());
            found_modes(&entry.path(), &format!("{name}/{own}"), found);
        }
    }
}

/// A file's name in a folder, with what differs from node to node called by what it is.
fn general(folder: &str, name: &str) -> String {
    match (folder, name.split_once('-')) {
        ("LOGS", _) => return "CONTAINER".into(),
        ("NETNS", Some((cni, _))) => return format!("{cni}-RANDOM"),
        ("CACHE/results", Some((_, attached))) => return format!("NETWORK-{}", general("", attached)),
        _ => {}
    }
    let part = |word: &str| match word.len() {
        64 if cridge::id::is_id(word) => "ID".to_owned(),
        16 | 32 if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => "RANDOM".to_owned(),
        _ => word.to_owned(),
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

async fn what_it_makes_has_the_modes_that_are_told(t: Test) {
    let node = t.own_node(NodeOptions { careless: true, ..Default::default() }).await;
    for image in [CONFIGURED, FORM] {
        node.pull(image).await;
    }
    let pod = t.pod_on(&node).run().await;
    let app = with_image(pod.container("app"), FORM).with(|config| config.stdin = true).start().await;
    let _volumes = pod.container("volumes").image(CONFIGURED).start().await;
    let _session = talking(&node, "spdy", &app).await;
    let frozen = pod.container("frozen").start().await;
    let archive = t.folder().join("checkpoint.tar");
    try_checkpoint(&frozen, &archive, 0).await.unwrap();

    let mut found = BTreeSet::new();
    let [root, state] = node.server_dirs();
    let places = [
        ("ROOT", root),
        ("STATE", state),
        ("CACHE/results", node.dir.join("cni/cache/results")),
        ("NETNS", node.netns_dir()),
        ("LISTEN", node.socket()),
        ("LOGS", PathBuf::from(&pod.config.log_directory)),
        ("ARCHIVE", archive),
    ];
    for (name, place) in places {
        found_modes(&place, name, &mut found);
    }
    let told = told_modes();
    let untold: Vec<_> = found.difference(&told).collect();
    let absent: Vec<_> = told.difference(&found).collect();
    assert!(
        untold.is_empty() && absent.is_empty(),
        "not told of: {untold:#?}\ntold of, and not there: {absent:#?}"
    );
}

async fn it_leaves_no_core(t: Test) {
    let node = t.own_node(NodeOptions { careless: true, bare: true, ..Default::default() }).await;
    let ended = node.end(Signal::ABORT).await;
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!ended.core_dumped(), "its memory, secrets and all, is in a file now");
    node.start().await;
}

/// No directive of a unit gives it a view of its own: what it mounts is mounted for containerd as well.
async fn its_namespaces_are_containerds(t: Test) {
    let node = t.node();
    let containerd = std::fs::read_to_string(node.dir.join("containerd.pid")).unwrap();
    let of = |pid: &str| {
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        kinds.map(|kind| std::fs::read_link(format!("/proc/{}/ns/{kind}", pid.trim())).unwrap())
    };
    assert_eq!(of(&node.server_pid().unwrap().to_string()), of(&containerd));
}

/// A folder of the node's that hostile images point at (tests/images), with what is in it.
struct Bait;

const BAIT: &str = "/run/netns/bait";
const BAITED: [(&str, &str); 4] = [
    ("passwd", "bait:x:6666:6666::/:/bin/sh\n"),
    ("group", "bait:x:6666:\n"),
    ("hosts", "127.0.0.1 bait\n"),
    ("secret", "the node's\n"),
];

impl Bait {
    /// Laid once for all who watch it at a time, and removed after the last of them.
    fn lay() -> Arc<Self> {
        static LAID: Mutex<Weak<Bait>> = Mutex::new(Weak::new());
        let mut laid = LAID.lock().unwrap_or_else(PoisonError::into_inner);
        laid.upgrade().unwrap_or_else(|| {
            std::fs::create_dir_all(BAIT).unwrap();
            for (name, text) in BAITED {
                std::fs::write(Path::new(BAIT).join(name), text).unwrap();
            }
            let bait = Arc::new(Self);
            *laid = Arc::downgrade(&bait);
            bait
        })
    }

    fn assert_untouched(&self) {
        let mut found: Vec<_> = std::fs::read_dir(BAIT)
            .unwrap()
            .flatten()
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        found.sort();
        let mut laid = BAITED.map(|(name, text)| (name.to_owned(), text.to_owned()));
        laid.sort();
        assert_eq!(found, laid);
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(BAIT);
    }
}

async fn links_of_an_image_lead_nowhere_else(t: Test) {
    const LINKS: &str = "docker.io/cridge-tests/links:1";
    let bait = Bait::lay();
    t.node().pull(LINKS).await;
    let pod = t.pod().run().await;
    let links = |name: &str| pod.container(name).image(LINKS);
    // Users and groups are those of the image, which has none.
    let user = links("user").security(|security| security.run_as_username = "bait".into());
    let refused = user.try_create().await.map(|made| made.id).unwrap_err();
    assert!(refused.message().contains("bait"), "{refused:?}");

    // Neither is what a volume begins with the node's.
    let hosts = t.folder().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 mine\n").unwrap();
    let app = links("app")
        .mount(&hosts, "/etc/hosts")
        .mount(t.folder(), "/srv/mounted")
        .with(|config| config.working_dir = "/opt/work".into())
        .start()
        .await;
    // All of them lead to the same folder, which is the container's.
    assert_eq!(app.sh("cat /etc/hosts; ls /opt").await, "127.0.0.1 mine\nhosts\nmounted\nvolume\nwork");
    assert_eq!(app.sh("ls /srv/volume; pwd").await, "/run/netns/bait/work");
    app.sh("echo written >/srv/volume/file; echo written >/opt/work/file; echo written >/etc/passwd; true")
        .await;

    // Nor does a part of an image reach out of it.
    for (n, folder) in ["srv", "opt", "etc/passwd"].into_iter().enumerate() {
        let part = with_image(pod.container(&format!("part-{n}")), LINKS);
        let part = part.try_create_newest(|config| config.mounts[0].image_sub_path = folder.to_owned()).await;
        let refused = part.map(|made| made.id).unwrap_err();
        assert!(refused.message().starts_with("ImageVolumeMountFailed"), "{folder}: {refused:?}");
    }
    bait.assert_untouched();
}

/// containerd unpacks; what it does not refuse is confined.
async fn layers_reach_nothing_but_their_root(t: Test) {
    let bait = Bait::lay();
    let pod = t.pod().run().await;
    let kinds =
        ["upwards", "absolute", "through-link", "whiteout", "opaque", "hard-link", "link-through-link"];
    for kind in kinds {
        let image = format!("docker.io/cridge-tests/breakout-{kind}:1");
        let image = Some(cri::ImageSpec { image, ..Default::default() });
        let request = cri::PullImageRequest { image: image.clone(), ..Default::default() };
        let pulled = t.node().images().pull_image(request).await;
        bait.assert_untouched();
        if pulled.is_ok() {
            let app = pod.container(kind).with(|config| config.image = image).start().await;
            assert_eq!(app.sh("cat /stolen /out/secret 2>/dev/null || true").await, "", "{kind}");
        }
    }
}
