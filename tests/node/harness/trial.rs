//! How a test is run: in a place of its own, with what it made removed and looked for afterwards.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_cri::v1 as cri;
use libtest_mimic::{Failed, Trial};
use tokio::sync::OnceCell;

use super::cgroups::{self, Parent};
use super::leaks::{self, Made};
use super::pod::PodBuilder;
use super::wait::patience;
use super::{Lab, Node, NodeOptions, Server};

/// How long a test may take, at most: nothing but a hang takes that long.
const TEST_LIMIT: Duration = Duration::from_secs(240);
/// The same of those that `hack/soak` runs.
const SOAK_LIMIT: Duration = Duration::from_secs(3600);

/// One test, by its group and name.
#[derive(Clone, Copy)]
pub struct Case {
    pub group: &'static str,
    pub name: &'static str,
    pub run: fn(Test) -> BoxFuture<'static, ()>,
    pub kind: Kind,
}

/// What is expected of a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It passes, whoever serves the CRI.
    Both,
    /// It is about what only cridge does.
    CridgeOnly,
    /// It shows what cridge does not do yet: to pass is to fail, so that it leaves this list.
    KnownToFail,
}

/// A group's tests: `cases!["pod": one, two; cridge only: three; known to fail: four]`.
#[macro_export]
macro_rules! cases {
    ($group:literal: $($both:ident),* $(,)? $(; cridge only: $($ours:ident),* $(,)?)?
        $(; known to fail: $($failing:ident),* $(,)?)?) => {
        vec![
            $($crate::case!($group, $both, Both),)*
            $($($crate::case!($group, $ours, CridgeOnly),)*)?
            $($($crate::case!($group, $failing, KnownToFail),)*)?
        ]
    };
}

/// One of a group's tests.
#[macro_export]
macro_rules! case {
    ($group:literal, $name:ident, $kind:ident) => {
        $crate::harness::Case {
            group: $group,
            name: stringify!($name),
            run: |test| Box::pin($name(test)),
            kind: $crate::harness::Kind::$kind,
        }
    };
}

/// Whether cridge is tested. `CRIDGE_NODE_SERVER=builtin` puts containerd's own CRI in its place, which shows whether
/// a test asks for what a node's users have today.
pub fn on_cridge() -> bool {
    std::env::var("CRIDGE_NODE_SERVER").as_deref() != Ok("builtin")
}

/// What all tests of one release share.
pub struct Release {
    name: String,
    lab: Arc<Lab>,
    node: OnceCell<Arc<Node>>,
}

/// How a release's tests went, once they have all ended.
pub struct Outcome(Arc<Release>);

/// What one test has in hand.
#[derive(Clone)]
pub struct Test(Arc<Inner>);

struct Inner {
    name: String,
    release: Arc<Release>,
    node: Arc<Node>,
    folder: PathBuf,
    names: AtomicUsize,
    made: Mutex<BTreeMap<String, Made>>,
    own: Mutex<Vec<Arc<Node>>>,
    parent: OnceLock<Parent>,
}

/// The trials of one release, and what to ask when they have ended.
pub fn release_trials(
    name: &str,
    lab: &Arc<Lab>,
    cases: &[Case],
    handle: &tokio::runtime::Handle,
) -> (Vec<Trial>, Outcome) {
    let release = Arc::new(Release { name: name.to_owned(), lab: lab.clone(), node: OnceCell::const_new() });
    let wanted = cases.iter().filter(|case| on_cridge() || case.kind == Kind::Both);
    let trials = wanted.map(|case| {
        let (case, release, handle) = (*case, release.clone(), handle.clone());
        Trial::test(format!("{name}::{}::{}", case.group, case.name), move || {
            handle.block_on(carry_out(case, release))
        })
    });
    (trials.collect(), Outcome(release))
}

impl Outcome {
    /// Ends the shared node; what it left behind, a line each.
    pub async fn finish(self) -> Vec<String> {
        let Some(node) = self.0.node.get() else { return Vec::new() };
        finish(node).await.iter().map(|leak| format!("{}: {leak}", self.0.name)).collect()
    }
}

/// Looks whether anything is left on a node whose pods are all gone, and ends it.
async fn finish(node: &Node) -> Vec<String> {
    let left = leaks::on(node).await;
    let ended = AssertUnwindSafe(node.down()).catch_unwind().await;
    left.into_iter().chain(ended.err().map(|panic| text_of(&*panic))).collect()
}

async fn carry_out(case: Case, release: Arc<Release>) -> Result<(), Failed> {
    let starting = release
        .node
        .get_or_init(|| async { Arc::new(release.lab.node(&release.name, NodeOptions::default()).await) });
    let node = AssertUnwindSafe(starting).catch_unwind().await;
    let node = node.map_err(|panic| format!("no node: {}", text_of(&*panic)))?.clone();
    let name = case.name.replace('_', "-");
    let folder = node.dir.join("t").join(&name);
    std::fs::create_dir_all(&folder).expect("the test's folder");
    let inner = Inner {
        name,
        release: release.clone(),
        node,
        folder,
        names: AtomicUsize::new(0),
        made: Mutex::default(),
        own: Mutex::default(),
        parent: OnceLock::new(),
    };
    let test = Test(Arc::new(inner));
    let body = AssertUnwindSafe((case.run)(test.clone())).catch_unwind();
    let limit =
        patience(if std::env::var_os("CRIDGE_NODE_SOAK").is_some() { SOAK_LIMIT } else { TEST_LIMIT });
    let mut failures = match tokio::time::timeout(limit, body).await {
        Ok(Ok(())) if case.kind == Kind::KnownToFail => {
            vec!["it passes: take it off the list of those that are known to fail".to_owned()]
        }
        Ok(Err(_)) if case.kind == Kind::KnownToFail => Vec::new(),
        Ok(Ok(())) => Vec::new(),
        Ok(Err(panic)) => vec![text_of(&*panic)],
        Err(_) => vec![format!("it did not end within {limit:?}")],
    };
    let cleaned = AssertUnwindSafe(test.clean_up(&mut failures)).catch_unwind().await;
    failures.extend(cleaned.err().map(|panic| text_of(&*panic)));
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// What a panic said, with its place: the hook in `main` has put that before it.
pub fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let place = crate::PLACE.with(|place| place.borrow_mut().take()).unwrap_or_default();
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("{place}: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic"))
}

impl Test {
    /// Its name, as it may be part of a pod's.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The shared node of the release.
    pub fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    /// The registry and the test images.
    pub fn lab(&self) -> &Lab {
        &self.0.release.lab
    }

    /// A folder of its own, on the node.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// A name that nobody else uses.
    pub fn fresh_name(&self, kind: &str) -> String {
        let number = self.0.names.fetch_add(1, Ordering::Relaxed);
        // A hostname has 64 bytes.
        format!("{:.48}-{kind}{number}", self.0.name)
    }

    /// A pod on the shared node.
    pub fn pod(&self) -> PodBuilder {
        PodBuilder::new(self.clone(), self.0.node.clone())
    }

    /// A pod on a node of the test's own.
    pub fn pod_on(&self, node: &Arc<Node>) -> PodBuilder {
        PodBuilder::new(self.clone(), node.clone())
    }

    /// Its pods on a node, as the server lists them.
    pub async fn pods_on(&self, node: &Node) -> Vec<cri::PodSandbox> {
        let label_selector = [("test".to_owned(), self.0.name.clone())].into();
        let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
        let pods = node.runtime().list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await;
        pods.expect("ListPodSandbox").into_inner().items
    }

    /// A node of the test's own, with the release's containerd: to be restarted, or set up wrongly.
    pub async fn own_node(&self, options: NodeOptions) -> Arc<Node> {
        let node = Arc::new(self.0.release.lab.node(&self.0.release.name, options).await);
        self.0.own.lock().unwrap().push(node.clone());
        node
    }

    /// The cgroup above those of its pods on a node, where one is a must: the plugin takes no pod without where systemd
    /// makes the cgroups.
    pub(super) fn parent_on(&self, node: &Node) -> String {
        if !(node.takes_turns() && cgroups::by_systemd()) {
            return String::new();
        }
        self.0.parent.get_or_init(|| Parent::new(self)).name.clone()
    }

    /// Notes what will have to be gone in the end.
    pub(super) async fn made(&self, node: &Arc<Node>, id: &str) {
        let made = Made::new(node.clone(), id).await;
        self.0.made.lock().unwrap().insert(id.to_owned(), made);
    }

    async fn clean_up(&self, failures: &mut Vec<String>) {
        let made: Vec<_> = std::mem::take(&mut *self.0.made.lock().unwrap()).into_values().collect();
        let own = std::mem::take(&mut *self.0.own.lock().unwrap());
        for node in own.iter().chain([&self.0.node]) {
            if let Err(why) = self.remove_pods(node).await {
                failures.push(why);
            }
        }
        failures.extend(leaks::of(&made).await);
        if !failures.is_empty() {
            for node in own.iter().chain([&self.0.node]) {
                let ids: Vec<_> =
                    made.iter().map(|made| made.id.clone()).chain([self.0.name.clone()]).collect();
                let mut lines = node.log_of(&ids);
                let cut = lines.len().saturating_sub(60);
                failures.extend(lines.drain(cut..).map(|line| format!("  log: {line:.1000}")));
            }
        }
        for node in &own {
            if !failures.is_empty() {
                failures.extend(node.log_tail(60).lines().map(|line| format!("  log: {line:.1000}")));
            }
            failures.extend(finish(node).await);
        }
        if let Some(parent) = self.0.parent.get() {
            parent.remove();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.0.folder) {
            failures.push(format!("the test's folder cannot be removed: {error}"));
        }
    }

    /// Stops and removes every pod of this test on the node.
    async fn remove_pods(&self, node: &Node) -> Result<(), String> {
        let filter = cri::PodSandboxFilter {
            label_selector: [("test".to_owned(), self.0.name.clone())].into(),
            ..Default::default()
        };
        let mut runtime = node.runtime();
        let answer = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) }).await;
        let pods =
            answer.map_err(|status| format!("clean-up: ListPodSandbox: {status:?}"))?.into_inner().items;
        for pod in pods {
            let pod_sandbox_id = pod.id.clone();
            let request = cri::StopPodSandboxRequest { pod_sandbox_id };
            let mut stopped = runtime.stop_pod_sandbox(request.clone()).await;
            if node.serves() == Server::Plugin && stopped.is_err() {
                // The built-in plugin may need two (a task's shim that went under its feet).
                stopped = runtime.stop_pod_sandbox(request).await;
            }
            stopped.map_err(|status| format!("clean-up: StopPodSandbox {}: {status:?}", pod.id))?;
            let pod_sandbox_id = pod.id.clone();
            let removed = runtime.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id }).await;
            removed.map_err(|status| format!("clean-up: RemovePodSandbox {}: {status:?}", pod.id))?;
        }
        Ok(())
    }
}
