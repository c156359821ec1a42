//! Traces: a call's is the caller's own, its steps are parts of it, and containerd is called within them.

mod collector;
mod onlooker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cridge::proto::otlp::{Span, SpanKind};
use k8s_cri::v1 as cri;
use rustix::process::Signal;
use tonic::Request;

use crate::cases;
use crate::harness::{BUSYBOX, Case, Node, NodeOptions, Test, until};
use crate::reload::hang_up;
use collector::{Collector, Told, text};
use onlooker::Onlooker;

pub fn cases() -> Vec<Case> {
    cases!["traces": ; cridge only:
        a_pods_start_is_told_in_its_callers_trace,
        a_pull_is_told_in_its_callers_trace,
        who_records_nothing_is_told_of_nowhere,
        a_collector_that_is_away_delays_nobody,
        what_is_left_is_told_at_the_end,
        another_is_told_at_once,
    ]
}

/// All that may be told of a span: nothing of a request's own texts but names.
const ATTRIBUTES: [&str; 10] = [
    "rpc.system",
    "rpc.service",
    "rpc.method",
    "rpc.grpc.status_code",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "cridge.pod.id",
    "container.id",
    "container.image.name",
];
const SECRET: &str = "nobody-may-know";

/// A caller's span.
struct Caller {
    trace: String,
    span: String,
    flags: &'static str,
}

impl Caller {
    fn new(flags: &'static str) -> Self {
        let hex = |bytes: [u8; 16]| hex::encode(bytes);
        Self { trace: hex(rand::random()), span: hex(rand::random())[..16].to_owned(), flags }
    }

    fn parent(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }

    /// A request within it, as otelgrpc sends it.
    fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", self.parent().parse().unwrap());
        request.metadata_mut().insert("tracestate", "a=b".parse().unwrap());
        request
    }
}

/// A node whose cridge tells its traces, and what it says to containerd.
struct Traced {
    node: Arc<Node>,
    collector: Collector,
    onlooker: Onlooker,
}

impl Traced {
    async fn node(t: &Test, options: NodeOptions) -> Self {
        let node = t.own_node(options).await;
        let collector = Collector::at("127.0.0.1:0", Told::default()).await;
        assert!(node.end(Signal::TERM).await.success());
        let between = node.dir.join("between.sock");
        let onlooker = Onlooker::at(&between, node.containerd());
        let file = node.dir.join("cridge.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let containerd = node.dir.join("containerd.sock");
        let config = config.replace(&*containerd.to_string_lossy(), &between.to_string_lossy());
        assert!(config.contains("between.sock"), "{config}");
        let traces = format!("\n[traces]\nendpoint = \"http://{}\"\n", collector.address);
        std::fs::write(file, config + &traces).unwrap();
        node.start().await;
        // What a start takes was asked for by nobody.
        onlooker.forget();
        Self { node, collector, onlooker }
    }

    /// Whatever changed anything in containerd was asked for within the trace of some caller.
    #[track_caller]
    fn changed_nothing_for_nobody(&self) {
        const CHANGES: &str = "Apply Commit Create Delete DeleteProcess Exec Prepare Start Update Write";
        let is_change = |call: &onlooker::Call| {
            CHANGES.split(' ').any(|change| call.path.ends_with(&format!("/{change}")))
        };
        let seen = self.onlooker.seen().into_iter();
        let for_nobody: Vec<_> = seen.filter(|call| call.parent.is_none() && is_change(call)).collect();
        assert!(for_nobody.is_empty(), "{for_nobody:?}");
    }

    /// RunPodSandbox by that caller; the pod's id.
    async fn run_pod(&self, t: &Test, caller: &Caller) -> String {
        let pod = t.pod_on(&self.node);
        let config = Some(pod.config.clone());
        let request = caller.asks(cri::RunPodSandboxRequest { config, runtime_handler: String::new() });
        let answer = self.node.runtime().run_pod_sandbox(request).await.expect("RunPodSandbox");
        pod.known(&answer.into_inner().pod_sandbox_id).await.id
    }
}

fn id(span: &Span) -> String {
    hex::encode(&span.span_id)
}

fn parent(span: &Span) -> String {
    hex::encode(&span.parent_span_id)
}

#[track_caller]
fn the_one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

/// The names of the spans that have this one for their parent.
fn parts<'a>(spans: &'a [Span], whole: &Span) -> BTreeSet<&'a str> {
    spans.iter().filter(|span| parent(span) == id(whole)).map(|span| &*span.name).collect()
}

/// Every call of containerd's within the trace is one of a span that was told, and says so.
#[track_caller]
fn containerd_was_called_within(
    traced: &Traced,
    caller: &Caller,
    spans: &[Span],
) -> BTreeMap<String, String> {
    let names: BTreeMap<_, _> = spans.iter().map(|span| (id(span), span.name.clone())).collect();
    let calls = traced.onlooker.seen().into_iter().filter_map(|call| {
        let parent = call.parent?;
        let span = parent.strip_prefix(&format!("00-{}-", caller.trace))?.strip_suffix("-01")?.to_owned();
        assert_eq!(call.state.as_deref(), Some("a=b"), "{}", call.path);
        let name = names.get(&span).unwrap_or_else(|| panic!("{} within no span: {span}", call.path));
        Some((call.path, name.clone()))
    });
    calls.collect()
}

async fn a_pods_start_is_told_in_its_callers_trace(t: Test) {
    const CALL: &str = "runtime.v1.RuntimeService/RunPodSandbox";
    let traced = Traced::node(&t, NodeOptions::default()).await;
    let caller = Caller::new("01");
    let pod = traced.run_pod(&t, &caller).await;
    let spans = traced.collector.told.whole(&caller.trace, CALL).await;

    let call = the_one(&spans, CALL);
    assert_eq!((parent(call), call.kind()), (caller.span.clone(), SpanKind::Server));
    assert_eq!(text(&call.attributes, "rpc.grpc.status_code").as_deref(), Some("0"));
    let operation = the_one(&spans, "RunPodSandbox");
    assert_eq!(parent(operation), id(call));
    assert_eq!(text(&operation.attributes, "cridge.pod.id"), Some(pod.clone()));
    assert_eq!(text(&operation.attributes, "k8s.namespace.name").as_deref(), Some("node-tests"));
    let steps = parts(&spans, operation);
    for step in ["create the record", "make the namespaces", "attach the network", "create the pause task"] {
        assert!(steps.contains(step), "no {step:?} in {steps:?}");
        let step = the_one(&spans, step);
        assert!(step.start_time_unix_nano >= operation.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= operation.end_time_unix_nano);
    }
    let within = containerd_was_called_within(&traced, &caller, &spans);
    assert_eq!(within["/containerd.services.tasks.v1.Tasks/Create"], "create the pause task");
    assert_eq!(within["/containerd.services.containers.v1.Containers/Create"], "create the record");

    // What else is done to the pod, by the same caller.
    let config = t.pod_on(&traced.node).known(&pod).await.container("app").with(|config| {
        config.envs.push(cri::KeyValue { key: "SECRET".into(), value: SECRET.into() });
        config.annotations.insert("secret".into(), SECRET.into());
        config.args.push(SECRET.into());
    });
    let create = cri::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config.config),
        sandbox_config: None,
    };
    let mut runtime = traced.node.runtime();
    let container = runtime.create_container(caller.asks(create)).await.expect("CreateContainer");
    let container_id = container.into_inner().container_id;
    let start = cri::StartContainerRequest { container_id: container_id.clone() };
    runtime.start_container(caller.asks(start)).await.expect("StartContainer");
    let cmd = ["sh", "-c", "exit 3", SECRET].map(str::to_owned).to_vec();
    let exec = cri::ExecSyncRequest { container_id: container_id.clone(), cmd, timeout: 60 };
    runtime.exec_sync(caller.asks(exec)).await.expect("ExecSync");
    traced.changed_nothing_for_nobody();
    let unknown = cri::StartContainerRequest { container_id: "nothing".into() };
    runtime.start_container(caller.asks(unknown)).await.expect_err("there is none");
    let stop = cri::StopPodSandboxRequest { pod_sandbox_id: pod };
    runtime.stop_pod_sandbox(caller.asks(stop)).await.expect("StopPodSandbox");
    let stopped = "runtime.v1.RuntimeService/StopPodSandbox";
    let spans = traced.collector.told.whole(&caller.trace, stopped).await;
    for operation in ["CreateContainer", "StartContainer", "ExecSync"] {
        let operation = the_one(&spans, operation);
        assert_eq!(text(&operation.attributes, "container.id"), Some(container_id.clone()));
        assert_eq!(text(&operation.attributes, "k8s.container.name").as_deref(), Some("app"));
        assert!(!parts(&spans, operation).is_empty(), "{operation:?}");
    }
    let ended = parts(&spans, the_one(&spans, "StopPodSandbox"));
    assert!(ended.contains("detach the network"), "{ended:?}");
    let codes = spans.iter().filter(|span| span.name == "runtime.v1.RuntimeService/StartContainer");
    let codes: BTreeSet<_> = codes.map(|span| text(&span.attributes, "rpc.grpc.status_code")).collect();
    assert_eq!(codes, [Some("0".to_owned()), Some("5".to_owned())].into());

    for (resource, span) in traced.collector.told.all() {
        assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("cridge"));
        let odd: Vec<_> = span.attributes.iter().filter(|one| !ATTRIBUTES.contains(&&*one.key)).collect();
        assert!(odd.is_empty(), "{odd:?}");
        assert!(!format!("{span:?}").contains(SECRET), "{span:?}");
        assert_eq!(hex::encode(&span.trace_id), caller.trace, "nobody else has asked for any: {span:?}");
    }
}

async fn a_pull_is_told_in_its_callers_trace(t: Test) {
    const CALL: &str = "runtime.v1.ImageService/PullImage";
    let traced = Traced::node(&t, NodeOptions { bare: true, ..Default::default() }).await;
    let caller = Caller::new("01");
    let image = Some(cri::ImageSpec { image: BUSYBOX.into(), ..Default::default() });
    let request = cri::PullImageRequest { image, ..Default::default() };
    traced.node.images().pull_image(caller.asks(request)).await.expect("PullImage");
    let spans = traced.collector.told.whole(&caller.trace, CALL).await;
    let operation = the_one(&spans, "PullImage");
    assert_eq!(parent(operation), id(the_one(&spans, CALL)));
    assert_eq!(text(&operation.attributes, "container.image.name").as_deref(), Some(BUSYBOX));
    let steps = parts(&spans, operation);
    for step in ["get the manifest", "get the config", "fetch a layer", "unpack a layer", "name the image"] {
        assert!(steps.contains(step), "no {step:?} in {steps:?}");
    }
    traced.changed_nothing_for_nobody();
    // Also what goes on in tasks that several pulls may share.
    let within = containerd_was_called_within(&traced, &caller, &spans);
    assert_eq!(within["/containerd.services.diff.v1.Diff/Apply"], "unpack a layer");
    assert_eq!(within["/containerd.services.images.v1.Images/Create"], "name the image");
}

async fn who_records_nothing_is_told_of_nowhere(t: Test) {
    let traced = Traced::node(&t, NodeOptions::default()).await;
    let silent = Caller::new("00");
    traced.run_pod(&t, &silent).await;
    let made = "/containerd.services.tasks.v1.Tasks/Create";
    let parents = |seen: Vec<onlooker::Call>| -> Vec<_> {
        seen.into_iter().filter(|call| call.path == made).map(|call| call.parent).collect()
    };
    // The caller's own span is what containerd works for.
    assert_eq!(parents(traced.onlooker.seen()), [Some(silent.parent())]);
    t.pod_on(&traced.node).run().await;
    assert_eq!(parents(traced.onlooker.seen()), [Some(silent.parent()), None]);
    // What is told would be told before this.
    let caller = Caller::new("01");
    let version = cri::VersionRequest::default();
    traced.node.runtime().version(caller.asks(version)).await.unwrap();
    traced.collector.told.whole(&caller.trace, "runtime.v1.RuntimeService/Version").await;
    let told = traced.collector.told.all();
    assert_eq!(told.len(), 1, "{told:?}");
}

async fn a_collector_that_is_away_delays_nobody(t: Test) {
    let Traced { node, collector, onlooker: _onlooker } = Traced::node(&t, NodeOptions::default()).await;
    let (address, told) = (collector.address.to_string(), collector.told.clone());
    drop(collector);
    let callers: Vec<_> = std::iter::repeat_with(|| Caller::new("01")).take(3).collect();
    let complaints = || {
        let log = std::fs::read_to_string(node.log_file()).unwrap();
        log.lines().filter(|line| line.contains("does not take spans")).count()
    };
    for caller in &callers {
        node.runtime().version(caller.asks(cri::VersionRequest::default())).await.unwrap();
        until("it is told that the collector is away", || async { (complaints() > 0).then_some(()) }).await;
    }
    assert!(told.all().is_empty());
    // Nothing is lost that there was room for.
    let _collector = Collector::at(&address, told.clone()).await;
    for caller in &callers {
        told.whole(&caller.trace, "runtime.v1.RuntimeService/Version").await;
    }
    assert_eq!(complaints(), 1);
}

async fn what_is_left_is_told_at_the_end(t: Test) {
    let Traced { node, collector, onlooker: _onlooker } = Traced::node(&t, NodeOptions::default()).await;
    let caller = Caller::new("01");
    node.runtime().version(caller.asks(cri::VersionRequest::default())).await.unwrap();
    assert!(node.end(Signal::TERM).await.success());
    assert_eq!(collector.told.of(&caller.trace).len(), 1);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = node.dir.join("cridge.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    std::fs::write(file, config.replace(&collector.address.to_string(), &silent_address)).unwrap();
    node.start().await;
    node.runtime().version(caller.asks(cri::VersionRequest::default())).await.unwrap();
    // One that never answers is given up on.
    assert!(node.end(Signal::TERM).await.success());
    assert!(node.log_tail(10).contains("spans are left"), "{}", node.log_tail(10));
    drop(silent);
    node.start().await;
}

async fn another_is_told_at_once(t: Test) {
    let Traced { node, collector, onlooker: _onlooker } = Traced::node(&t, NodeOptions::default()).await;
    let other = Collector::at("127.0.0.1:0", Told::default()).await;
    let file = node.dir.join("cridge.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let endpoint = |address: &str| format!("endpoint = \"http://{address}\"");
    let [first, second] = [&collector, &other].map(|one| endpoint(&one.address.to_string()));
    let callers = [(); 2].map(|()| Caller::new("01"));
    for (n, (caller, next)) in callers.iter().zip([&*second, ""]).enumerate() {
        std::fs::write(&file, config.replace(&first, next)).unwrap();
        hang_up(&node);
        until("it is in force", || async {
            let log = std::fs::read_to_string(node.log_file()).unwrap();
            let taken = log.lines().filter(|line| line.contains("in force now: traces.endpoint")).count();
            (taken > n).then_some(())
        })
        .await;
        node.runtime().version(caller.asks(cri::VersionRequest::default())).await.unwrap();
    }
    other.told.whole(&callers[0].trace, "runtime.v1.RuntimeService/Version").await;
    assert!(node.end(Signal::TERM).await.success());
    let told =
        [&collector, &other].map(|one| callers.each_ref().map(|caller| one.told.of(&caller.trace).len()));
    assert_eq!(told, [[0, 0], [1, 0]]);
    node.start().await;
}
