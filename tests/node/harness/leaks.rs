//! What pods leave behind when they are gone: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_client::services::v1 as api;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::sandbox::StoreListRequest;
use containerd_client::services::v1::sandbox::store_client::StoreClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{Kind, ListSnapshotsRequest};
use containerd_client::services::v1::tasks_client::TasksClient;
use futures::TryStreamExt as _;

use super::node::LIBCNI;
use super::record::spec_of;
use super::wait::patience;
use super::{Node, processes, request};

/// For what ends by itself, a moment after the call that ended it: a shim's process, a lazily unmounted folder.
const GRACE: Duration = Duration::from_secs(15);
/// Length of an id, in hexadecimal digits.
const ID: usize = 64;

/// Something that a test has made, and where its traces would be.
pub struct Made {
    pub id: String,
    node: Arc<Node>,
    /// Of a pod with a network of its own.
    netns: Option<String>,
}

impl Made {
    pub async fn new(node: Arc<Node>, id: &str) -> Self {
        let netns = netns_of(&node, id).await;
        Self { id: id.to_owned(), node, netns }
    }
}

/// The path of a sandbox's network namespace, out of containerd's record of it.
async fn netns_of(node: &Node, id: &str) -> Option<String> {
    let spec = spec_of(node, id).await?;
    let namespaces = spec["linux"]["namespaces"].as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    network["path"].as_str().filter(|path| !path.starts_with("/proc/")).map(str::to_owned)
}

/// What is left of these, a line each.
pub async fn of(made: &[Made]) -> Vec<String> {
    until_none(|| look_for(made)).await
}

/// What is left on a node that should have no pods, a line each.
pub async fn on(node: &Node) -> Vec<String> {
    until_none(|| async {
        let mut left = traces(node).await;
        left.extend(names_below(&node.netns_dir()).map(|path| format!("netns {}", path.display())));
        left
    })
    .await
}

/// What is left in places that all nodes share, when all of them are down.
pub async fn anywhere() -> Vec<String> {
    until_none(|| async { groups().chain(members()).collect() }).await
}

async fn until_none<Answer: Future<Output = Vec<String>>>(look: impl Fn() -> Answer) -> Vec<String> {
    let deadline = Instant::now() + patience(GRACE);
    loop {
        let left = look().await;
        if left.is_empty() || Instant::now() > deadline {
            return left.into_iter().map(|trace| format!("left behind: {trace:.300}")).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn look_for(made: &[Made]) -> Vec<String> {
    let mut nodes: Vec<&Arc<Node>> = Vec::new();
    for one in made {
        if !nodes.iter().any(|node| Arc::ptr_eq(node, &one.node)) {
            nodes.push(&one.node);
        }
    }
    let mut found: Vec<_> = groups().chain(members()).collect();
    // The plugin's, of all nodes.
    found.extend(
        names_below(&Path::new(LIBCNI).join("results"))
            .map(|path| format!("network result {}", path.display())),
    );
    for node in nodes {
        found.extend(traces(node).await);
    }
    found.retain(|trace| made.iter().any(|one| trace.contains(&one.id)));
    let netns = made.iter().filter_map(|one| one.netns.as_ref());
    found.extend(netns.filter(|path| Path::new(path).exists()).map(|path| format!("netns {path}")));
    found
}

/// Every trace of pods and containers on a node, each with the ids that it is about.
async fn traces(node: &Node) -> Vec<String> {
    let mut found = in_containerd(node).await;
    found.extend(shims(node));
    found.extend(mounts(node).into_iter().map(|point| format!("mount {point}")));
    found.extend(addresses(node));
    found.extend(folders(node));
    found
}

/// All that containerd keeps, but for images.
async fn in_containerd(node: &Node) -> Vec<String> {
    let mut containers = ContainersClient::new(node.containerd());
    let mut tasks = TasksClient::new(node.containerd());
    let mut leases = LeasesClient::new(node.containerd());
    let mut snapshots = SnapshotsClient::new(node.containerd());
    let of_overlay = ListSnapshotsRequest { snapshotter: "overlayfs".into(), filters: Vec::new() };
    let (containers, tasks, leases, snapshots) = tokio::join!(
        containers.list(request(api::ListContainersRequest::default())),
        tasks.list(request(api::ListTasksRequest::default())),
        leases.list(request(api::ListRequest::default())),
        snapshots.list(request(of_overlay)),
    );
    let pods = StoreClient::new(node.containerd()).list(request(StoreListRequest::default())).await;
    const LISTS: &str = "containerd answers";
    let snapshots: Vec<_> = snapshots.expect(LISTS).into_inner().try_collect().await.expect(LISTS);
    let containers = containers.expect(LISTS).into_inner().containers;
    let leases = leases.expect(LISTS).into_inner().leases;
    let tasks = tasks.expect(LISTS).into_inner().tasks;
    // 1.6 has no store of sandboxes.
    let pods = pods.map(|answer| answer.into_inner().list).unwrap_or_default();
    let mut found = Vec::new();
    found.extend(containers.iter().map(|container| format!("container record {}", container.id)));
    found.extend(pods.iter().map(|pod| format!("sandbox record {}", pod.sandbox_id)));
    found.extend(tasks.iter().map(|task| format!("task {} {}", task.id, task.container_id)));
    found.extend(leases.iter().map(|lease| format!("lease {}", lease.id)));
    // Committed ones are images'.
    let infos = snapshots.iter().flat_map(|part| &part.info);
    let active = infos.filter(|snapshot| snapshot.kind() != Kind::Committed);
    found.extend(active.map(|snapshot| format!("snapshot {}", snapshot.name)));
    found
}

/// Processes of shims that report to the node's containerd.
fn shims(node: &Node) -> Vec<String> {
    processes::shims(node).into_iter().map(|shim| format!("process {}", shim.line)).collect()
}

/// Processes in the cgroup of some container.
fn members() -> Vec<String> {
    let members = processes::all().filter_map(|process| {
        let groups = fs::read_to_string(process.join("cgroup")).ok()?;
        let group = groups.lines().find(|line| names_id(line))?;
        Some(format!("process {} in cgroup {group}", process.display()))
    });
    members.collect()
}

/// What is mounted on a node, the last one last.
pub(super) fn mounts(node: &Node) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    let below = format!("{}/", node.dir.display());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&below)).map(str::to_owned).collect()
}

fn groups() -> impl Iterator<Item = String> {
    cgroups().into_iter().map(|path| format!("cgroup {}", path.display()))
}

/// Cgroups that are called as a container is, of all nodes.
pub(super) fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let hierarchies = names_below(Path::new("/sys/fs/cgroup")).filter(|path| !path.is_symlink());
    for hierarchy in hierarchies {
        walk(&hierarchy, 4, &mut |path| {
            let named = path.is_dir() && names_id(&path.display().to_string());
            if named {
                found.push(path.to_owned());
            }
            path.is_dir() && !named
        });
    }
    found
}

/// Addresses that host-local holds, and what is remembered of networks' results.
fn addresses(node: &Node) -> Vec<String> {
    let cni = node.dir.join("cni");
    let ipam = names_below(&cni.join("ipam").join(&node.bridge)).filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        name.parse::<std::net::IpAddr>().ok()?;
        Some(format!("address {name} of {}", fs::read_to_string(&path).ok()?))
    });
    let results = names_below(&cni.join("cache/results"));
    ipam.chain(results.map(|path| format!("network result {}", path.display()))).collect()
}

/// Folders and files that are called as a pod or container is.
fn folders(node: &Node) -> Vec<String> {
    let mut found = Vec::new();
    let [root, state] = node.server_dirs();
    let tasks = ["root", "state"].map(|dir| node.dir.join(dir).join("io.containerd.runtime.v2.task/k8s.io"));
    for place in [root, state].iter().chain(&tasks) {
        walk(place, 8, &mut |path| {
            let named = path.file_name().is_some_and(|name| names_id(&name.to_string_lossy()));
            if named {
                found.push(format!("file {}", path.display()));
            }
            !named && path.is_dir() && !path.is_symlink()
        });
    }
    found
}

/// Whether an id is part of it.
fn names_id(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() == ID)
}

/// What is in a folder; nothing where there is none.
fn names_below(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Visits what is below a folder; goes deeper where it is told to.
fn walk(folder: &Path, depth: usize, visit: &mut impl FnMut(&Path) -> bool) {
    for path in names_below(folder) {
        if visit(&path) && depth > 1 {
            walk(&path, depth - 1, visit);
        }
    }
}
