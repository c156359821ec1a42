//! What pods and containers use: whether the figures can be true, never how fast they come.

use std::collections::{BTreeSet, HashMap};

use containerd_client::services::v1::GetRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use cridge::proto::cri as new;
use futures::TryStreamExt as _;
use k8s_cri::v1 as cri;
use tonic::Code;

use crate::cases;
use crate::harness::cgroups::Parent;
use crate::harness::{Case, Container, Pod, Test, code_of, request, until};

/// Keeps some of a CPU busy, until it is told to end.
const BUSY: &str =
    "trap 'exit 0' TERM; dd if=/dev/zero of=/written bs=1M count=2 2>/dev/null; while :; do :; done";
const MEMORY_LIMIT: i64 = 96 << 20;

pub fn cases() -> Vec<Case> {
    cases!["stats":
        a_busy_container_in_single_and_in_list,
        lists_are_filtered,
        a_pod_with_its_network_and_processes;
    cridge only:
        a_container_without_a_task_is_no_error,
        a_pod_that_is_not_ready_is_not_listed,
        a_pods_own_cgroup_is_measured,
        a_pod_on_the_nodes_network_has_none_of_its_own,
        a_pod_without_an_interface_has_no_network_to_tell_of,
        containers_are_measured_while_they_die,
        metrics_have_their_descriptors,
        streams_are_what_the_lists_are,
    ]
}

async fn busy(pod: &Pod) -> Container {
    let busy = pod.container("busy").shell(BUSY).resources(|resources| {
        (resources.cpu_quota, resources.cpu_period) = (20_000, 100_000);
        (resources.cpu_shares, resources.memory_limit_in_bytes) = (102, MEMORY_LIMIT);
    });
    busy.start().await
}

async fn single(container: &Container) -> cri::ContainerStats {
    let request = cri::ContainerStatsRequest { container_id: container.id.clone() };
    let answer = container.pod.node.runtime().container_stats(request).await.expect("ContainerStats");
    answer.into_inner().stats.expect("stats in the answer")
}

async fn listed(pod: &Pod, filter: cri::ContainerStatsFilter) -> Vec<cri::ContainerStats> {
    let request = cri::ListContainerStatsRequest { filter: Some(filter) };
    pod.node.runtime().list_container_stats(request).await.expect("ListContainerStats").into_inner().stats
}

fn of_pod(pod: &Pod) -> cri::ContainerStatsFilter {
    cri::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() }
}

fn ids(stats: &[cri::ContainerStats]) -> BTreeSet<&str> {
    stats.iter().map(|stats| stats.attributes.as_ref().unwrap().id.as_str()).collect()
}

fn value(value: &Option<cri::UInt64Value>) -> u64 {
    value.as_ref().expect("a value").value
}

fn nano_cores(stats: &cri::ContainerStats) -> Option<u64> {
    stats.cpu.as_ref()?.usage_nano_cores.as_ref().map(|rate| rate.value)
}

fn cpu_time(stats: &cri::ContainerStats) -> u64 {
    value(&stats.cpu.as_ref().expect("CPU usage").usage_core_nano_seconds)
}

async fn a_busy_container_in_single_and_in_list(t: Test) {
    let pod = t.pod().run().await;
    let busy = busy(&pod).await;
    let first = until("CPU time passes", || async {
        let stats = single(&busy).await;
        (cpu_time(&stats) > 0).then_some(stats)
    })
    .await;
    let attributes = first.attributes.as_ref().unwrap();
    assert_eq!((attributes.id.as_str(), &attributes.labels), (busy.id.as_str(), &busy.config.labels));
    assert_eq!(attributes.metadata, busy.config.metadata);
    let later = until("the rate is known in the list", || async {
        let stats = listed(&pod, of_pod(&pod)).await.pop().unwrap();
        nano_cores(&stats).is_some_and(|rate| rate > 0).then_some(stats)
    })
    .await;
    assert!(cpu_time(&later) > cpu_time(&first));
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    let possible = 1..=2 * cores * 1_000_000_000;
    assert!(possible.contains(&nano_cores(&later).unwrap()), "{later:?}");
    if crate::harness::on_cridge() {
        let rate =
            until("the rate is known in the single call", || async { nano_cores(&single(&busy).await) });
        assert!(possible.contains(&rate.await));
    }
    let memory = later.memory.as_ref().unwrap();
    assert!(memory.timestamp > 0 && later.cpu.as_ref().unwrap().timestamp > 0);
    let (usage, working_set) = (value(&memory.usage_bytes), value(&memory.working_set_bytes));
    assert!(working_set > 0 && working_set <= usage && usage <= MEMORY_LIMIT as u64, "{memory:?}");
    assert_eq!(value(&memory.available_bytes), MEMORY_LIMIT as u64 - working_set);
    assert!(value(&memory.rss_bytes) > 0 && value(&memory.page_faults) > 0, "{memory:?}");
    let layer = until("the writable layer is measured", || async {
        let layer = single(&busy).await.writable_layer?;
        (value(&layer.used_bytes) >= 2 << 20).then_some(layer)
    })
    .await;
    assert!(layer.timestamp > 0 && value(&layer.inodes_used) > 0, "{layer:?}");
    assert!(std::path::Path::new(&layer.fs_id.unwrap().mountpoint).is_dir());
    busy.stop(10).await;
}

async fn a_container_without_a_task_is_no_error(t: Test) {
    let pod = t.pod().run().await;
    let created = pod.container("created").create().await;
    let ended = pod.container("ended").shell("exit 0").start().await;
    ended.exited().await;
    for container in [&created, &ended] {
        let stats = single(container).await;
        assert_eq!(stats.attributes.as_ref().unwrap().metadata, container.config.metadata);
        assert!(stats.cpu.is_none() && stats.memory.is_none() && stats.swap.is_none(), "{stats:?}");
        let measured =
            until("its writable layer is measured", || async { single(container).await.writable_layer });
        assert!(measured.await.timestamp > 0);
    }
    assert_eq!(ids(&listed(&pod, of_pod(&pod)).await), [created.id.as_str(), &ended.id].into());
    ended.remove().await;
    assert_eq!(ids(&listed(&pod, of_pod(&pod)).await), [created.id.as_str()].into());
    let request = cri::ContainerStatsRequest { container_id: ended.id.clone() };
    assert_eq!(code_of(t.node().runtime().container_stats(request).await).0, Code::NotFound);
    let request = cri::ContainerStatsRequest::default();
    assert_eq!(code_of(t.node().runtime().container_stats(request).await).0, Code::InvalidArgument);
}

async fn lists_are_filtered(t: Test) {
    let (pod, other) = (t.pod().run().await, t.pod().run().await);
    let label = |config: &mut cri::ContainerConfig| drop(config.labels.insert("app".into(), "web".into()));
    let web = pod.container("web").with(label).start().await;
    let db = pod.container("db").start().await;
    let elsewhere = other.container("web").with(label).start().await;
    assert_eq!(ids(&listed(&pod, of_pod(&pod)).await), [web.id.as_str(), &db.id].into());
    let labelled = cri::ContainerStatsFilter {
        label_selector: [("app".to_owned(), "web".to_owned()), ("test".to_owned(), t.name().to_owned())]
            .into(),
        ..Default::default()
    };
    assert_eq!(ids(&listed(&pod, labelled.clone()).await), [web.id.as_str(), &elsewhere.id].into());
    let both = cri::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..labelled };
    assert_eq!(ids(&listed(&pod, both).await), [web.id.as_str()].into());
    let by_id = cri::ContainerStatsFilter { id: db.id.clone(), ..Default::default() };
    assert_eq!(ids(&listed(&pod, by_id).await), [db.id.as_str()].into());
    let pods = |filter| async {
        let request = cri::ListPodSandboxStatsRequest { filter: Some(filter) };
        let stats = t.node().runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner().stats;
        stats.into_iter().map(|stats| stats.attributes.unwrap().id).collect::<BTreeSet<_>>()
    };
    let mine = cri::PodSandboxStatsFilter {
        label_selector: [("test".to_owned(), t.name().to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(pods(mine.clone()).await, [pod.id.clone(), other.id.clone()].into());
    assert_eq!(
        pods(cri::PodSandboxStatsFilter { id: other.id.clone(), ..mine }).await,
        [other.id.clone()].into()
    );
}

async fn of_whole_pod(pod: &Pod) -> cri::LinuxPodSandboxStats {
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let answer = pod.node.runtime().pod_sandbox_stats(request).await.expect("PodSandboxStats");
    answer.into_inner().stats.unwrap().linux.expect("Linux stats")
}

async fn a_pod_with_its_network_and_processes(t: Test) {
    let pod = t.pod().run().await;
    let busy = busy(&pod).await;
    let gateway = format!("{}.1", t.node().subnet.trim_end_matches('.'));
    busy.sh(&format!("wget -T 1 -O /dev/null http://{gateway}:9/ 2>/dev/null || true")).await;
    let stats = until("the pod sends", || async {
        let stats = of_whole_pod(&pod).await;
        (value(&stats.network.as_ref()?.default_interface.as_ref()?.tx_bytes) > 0).then_some(stats)
    })
    .await;
    let network = stats.network.unwrap();
    assert!(network.timestamp > 0);
    assert_eq!(network.default_interface.unwrap().name, "eth0");
    assert!(!network.interfaces.iter().any(|interface| interface.name == "lo"));
    assert!(value(&stats.process.unwrap().process_count) > 0);
    assert_eq!(ids(&stats.containers), [busy.id.as_str()].into());
    let memory = stats.memory.unwrap();
    assert!(
        value(&memory.working_set_bytes) > 0
            && value(&memory.working_set_bytes) <= value(&memory.usage_bytes)
    );
    let rate = until("the pod's rate is known", || async { of_whole_pod(&pod).await.cpu?.usage_nano_cores });
    assert!(rate.await.value > 0);
}

async fn a_pod_that_is_not_ready_is_not_listed(t: Test) {
    let pod = t.pod().run().await;
    pod.stop().await;
    let request = cri::ListPodSandboxStatsRequest {
        filter: Some(cri::PodSandboxStatsFilter { id: pod.id.clone(), ..Default::default() }),
    };
    assert_eq!(t.node().runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner().stats, []);
    let request = |id: &str| cri::PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
    let (code, text) = code_of(t.node().runtime().pod_sandbox_stats(request(&pod.id)).await);
    assert_eq!(code, Code::FailedPrecondition, "{text}");
    pod.remove().await;
    assert_eq!(code_of(t.node().runtime().pod_sandbox_stats(request(&pod.id)).await).0, Code::NotFound);
    assert_eq!(code_of(t.node().runtime().pod_sandbox_stats(request("")).await).0, Code::InvalidArgument);
}

async fn a_pods_own_cgroup_is_measured(t: Test) {
    let parent = Parent::new(&t);
    let pod = t.pod().linux(|linux| linux.cgroup_parent = parent.name.clone()).run().await;
    let busy = busy(&pod).await;
    let (container, whole) = until("CPU time passes", || async {
        // The pod's is read later, and has the pause in it.
        let container = single(&busy).await;
        (cpu_time(&container) > 0).then_some((container, of_whole_pod(&pod).await))
    })
    .await;
    assert!(value(&whole.cpu.as_ref().unwrap().usage_core_nano_seconds) > cpu_time(&container));
    let memory = whole.memory.unwrap();
    assert!(value(&memory.usage_bytes) > 0);
    assert_eq!(memory.available_bytes, None, "the pod's cgroup has no limit");
    pod.remove().await;
    parent.remove();
}

/// As for a moment of StopPodSandbox. A kubelet that is told of a network without a default interface crashes.
async fn a_pod_without_an_interface_has_no_network_to_tell_of(t: Test) {
    let pod = t.pod().run().await;
    assert!(of_whole_pod(&pod).await.network.is_some());
    let mut tasks = TasksClient::new(t.node().containerd());
    let get = GetRequest { container_id: pod.id.clone(), ..Default::default() };
    let pause = tasks.get(request(get)).await.unwrap().into_inner().process.unwrap().pid.to_string();
    let gone = std::process::Command::new("nsenter")
        .args(["--target", &pause, "--net", "ip", "link", "delete", "eth0"])
        .status()
        .unwrap();
    assert!(gone.success());
    assert_eq!(of_whole_pod(&pod).await.network, None);
}

async fn a_pod_on_the_nodes_network_has_none_of_its_own(t: Test) {
    let pod = t.pod().host_network().run().await;
    assert_eq!(of_whole_pod(&pod).await.network, None);
}

async fn containers_are_measured_while_they_die(t: Test) {
    let pod = t.pod().run().await;
    let mut dying = Vec::new();
    for n in 0..4 {
        dying.push(pod.container(&format!("dying-{n}")).shell("sleep 0.3").start().await);
    }
    let measuring = async {
        let mut rounds = 0;
        loop {
            let stats = listed(&pod, of_pod(&pod)).await;
            for stats in &stats {
                assert_eq!(stats.cpu.is_some(), stats.memory.is_some(), "half a container: {stats:?}");
            }
            of_whole_pod(&pod).await;
            rounds += 1;
            if stats.is_empty() {
                return rounds;
            }
        }
    };
    let removing = async {
        for container in &dying {
            container.exited().await;
            container.remove().await;
            let left = listed(&pod, of_pod(&pod)).await;
            assert!(!ids(&left).contains(container.id.as_str()), "a removed container is still listed");
        }
    };
    let (rounds, ()) = tokio::join!(measuring, removing);
    assert!(rounds > 0);
}

async fn metrics_have_their_descriptors(t: Test) {
    let pod = t.pod().run().await;
    let busy = busy(&pod).await;
    let mut runtime = t.node().runtime();
    let request = cri::ListMetricDescriptorsRequest::default();
    let descriptors = runtime.list_metric_descriptors(request).await.unwrap().into_inner().descriptors;
    let described: HashMap<_, _> =
        descriptors.into_iter().map(|descriptor| (descriptor.name, descriptor.label_keys)).collect();
    let metrics = until("a second of CPU time has passed and the disk was measured", || async {
        let request = cri::ListPodSandboxMetricsRequest::default();
        let pods =
            t.node().runtime().list_pod_sandbox_metrics(request).await.unwrap().into_inner().pod_metrics;
        let metrics = pods.into_iter().find(|metrics| metrics.pod_sandbox_id == pod.id).expect("the pod");
        let of_container =
            metrics.container_metrics.iter().find(|metrics| metrics.container_id == busy.id)?;
        let has = |name: &str| {
            let sample = of_container.metrics.iter().find(|metric| metric.name == name);
            sample.is_some_and(|metric| metric.value.as_ref().unwrap().value > 0)
        };
        (has("container_cpu_usage_seconds_total") && has("container_fs_usage_bytes")).then_some(metrics)
    })
    .await;
    let of_container = &metrics.container_metrics[0].metrics;
    for metric in metrics.metrics.iter().chain(of_container) {
        let keys = described.get(&metric.name).unwrap_or_else(|| panic!("{} is not described", metric.name));
        assert_eq!(keys.len(), metric.label_values.len(), "{metric:?}");
        assert_eq!(keys[..5], ["pod", "namespace", "container", "id", "image"]);
        assert_eq!(metric.label_values[0], pod.config.metadata.as_ref().unwrap().name);
        assert_eq!(metric.label_values[1], "node-tests");
    }
    assert!(of_container.iter().all(|metric| metric.label_values[2..4] == ["busy", busy.id.as_str()]));
    let sample = |name: &str| {
        let sample = of_container.iter().find(|metric| metric.name == name);
        sample.unwrap_or_else(|| panic!("no {name}")).value.as_ref().unwrap().value
    };
    assert_eq!(sample("container_spec_cpu_quota"), 20_000);
    assert_eq!(sample("container_spec_cpu_period"), 100_000);
    assert_eq!(sample("container_spec_cpu_shares"), 102);
    assert_eq!(sample("container_spec_memory_limit_bytes"), MEMORY_LIMIT as u64);
    assert!(sample("container_processes") >= 1 && sample("container_threads") >= 1);
    assert!(sample("container_file_descriptors") >= 3 && sample("container_ulimits_soft") > 0);
    assert!(sample("container_cpu_cfs_throttled_periods_total") <= sample("container_cpu_cfs_periods_total"));
    assert!(sample("container_memory_working_set_bytes") <= sample("container_memory_usage_bytes"));
    assert!(sample("container_fs_limit_bytes") > sample("container_fs_usage_bytes"));
    assert!(sample("container_start_time_seconds") <= sample("container_last_seen"));
    let interfaces: BTreeSet<_> =
        metrics.metrics.iter().map(|metric| metric.label_values[5].as_str()).collect();
    assert_eq!(interfaces, ["eth0"].into());
    assert_eq!(metrics.metrics.len(), 8);
}

async fn streams_are_what_the_lists_are(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let (mut runtime, mut images) = t.node().newest();
    let label_selector = HashMap::from([("test".to_owned(), t.name().to_owned())]);

    let filter = Some(new::PodSandboxFilter { label_selector: label_selector.clone(), ..Default::default() });
    let stream =
        runtime.stream_pod_sandboxes(new::StreamPodSandboxesRequest { filter: filter.clone() }).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    let pods: Vec<_> = batches.into_iter().flat_map(|batch| batch.pod_sandboxes).collect();
    let list = runtime.list_pod_sandbox(new::ListPodSandboxRequest { filter }).await.unwrap();
    assert_eq!(pods, list.into_inner().items);
    assert_eq!(pods[0].id, pod.id);

    let filter = Some(new::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    let stream = runtime.stream_containers(new::StreamContainersRequest { filter: filter.clone() }).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    let containers: Vec<_> = batches.into_iter().flat_map(|batch| batch.containers).collect();
    let list = runtime.list_containers(new::ListContainersRequest { filter }).await.unwrap();
    assert_eq!(containers, list.into_inner().containers);
    assert_eq!(containers[0].id, app.id);

    let filter = Some(new::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    let stream = runtime.stream_container_stats(new::StreamContainerStatsRequest { filter }).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(batches[0].container_stats[0].attributes.as_ref().unwrap().id, app.id);
    assert!(batches[0].container_stats[0].cpu.is_some());

    let filter = Some(new::PodSandboxStatsFilter { label_selector, ..Default::default() });
    let stream = runtime.stream_pod_sandbox_stats(new::StreamPodSandboxStatsRequest { filter }).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(batches[0].pod_sandbox_stats[0].attributes.as_ref().unwrap().id, pod.id);

    let stream = runtime.stream_pod_sandbox_metrics(new::StreamPodSandboxMetricsRequest {}).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    let mut metrics = batches.iter().flat_map(|batch| &batch.pod_sandbox_metrics);
    assert!(metrics.any(|metrics| metrics.pod_sandbox_id == pod.id));

    let filter = Some(new::ImageFilter {
        image: Some(new::ImageSpec { image: containers[0].image_id.clone(), ..Default::default() }),
    });
    let stream = images.stream_images(new::StreamImagesRequest { filter: filter.clone() }).await;
    let batches: Vec<_> = stream.unwrap().into_inner().try_collect().await.unwrap();
    let streamed: Vec<_> = batches.into_iter().flat_map(|batch| batch.images).collect();
    assert_eq!(
        streamed,
        images.list_images(new::ListImagesRequest { filter }).await.unwrap().into_inner().images
    );
    assert_eq!(streamed.len(), 1);

    // What matches nothing is a stream without batches.
    let filter = Some(new::ContainerFilter { id: "0".repeat(64), ..Default::default() });
    let stream = runtime.stream_containers(new::StreamContainersRequest { filter }).await.unwrap();
    assert_eq!(stream.into_inner().try_collect::<Vec<_>>().await.unwrap(), []);
}
