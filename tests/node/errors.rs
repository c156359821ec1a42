//! What cannot be done: refused with the reason and the field's name, and nothing is left of the attempt.

use k8s_cri::v1 as cri;
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{Case, Node, Pod, PodBuilder, Test, assert_field, code_of};

pub fn cases() -> Vec<Case> {
    cases!["errors":
        nothing_is_left_of_a_pod_with_an_unknown_handler,
        nothing_is_left_of_a_container_with_an_unknown_user;
    cridge only:
        nothing_is_left_of_a_pod_with_a_wrong_sysctl,
        hostile_pods,
        hostile_containers,
        hostile_ids,
        hostile_images,
    ]
}

/// The ids of the pods of this test.
pub async fn listed(t: &Test, node: &Node) -> Vec<String> {
    let label_selector = [("test".to_owned(), t.name().to_owned())].into();
    let filter = Some(cri::PodSandboxFilter { label_selector, ..Default::default() });
    let pods = node.runtime().list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await.unwrap();
    pods.into_inner().items.into_iter().map(|pod| pod.id).collect()
}

pub async fn refused(pod: &PodBuilder) -> Status {
    pod.try_run().await.map(|pod| pod.id).unwrap_err()
}

async fn nothing_is_left_of_a_pod_with_an_unknown_handler(t: Test) {
    let mut pod = t.pod();
    pod.handler = "no-such-handler".into();
    let error = refused(&pod).await;
    assert!(error.message().contains("no-such-handler"), "should name the handler: {error:?}");
    assert!(listed(&t, t.node()).await.is_empty());
}

async fn nothing_is_left_of_a_pod_with_a_wrong_sysctl(t: Test) {
    for (key, value) in [("net.no.such.key", "1"), ("net.ipv4.ip_local_port_range", "nonsense")] {
        let pod = t.pod().linux(|linux| drop(linux.sysctls.insert(key.into(), value.into())));
        let error = refused(&pod).await;
        assert!(error.message().contains("sysctl"), "should name the sysctl: {error:?}");
        assert!(listed(&t, t.node()).await.is_empty());
    }
    // One of the node is not the pod's to set.
    let pod = t.pod().linux(|linux| drop(linux.sysctls.insert("vm.swappiness".into(), "1".into())));
    refused(&pod).await;
    let pod = t.pod().host_network();
    refused(&pod.linux(|linux| drop(linux.sysctls.insert("net.ipv4.ip_forward".into(), "1".into())))).await;
    assert!(listed(&t, t.node()).await.is_empty());
}

async fn nothing_is_left_of_a_container_with_an_unknown_user(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").security(|security| security.run_as_username = "nobody-knows".into());
    app.try_create().await.map(|made| made.id).unwrap_err();
    assert_eq!(containers(&pod).await, 0);
    // The name is free.
    pod.container("app").start().await;
}

async fn containers(pod: &Pod) -> usize {
    let filter = Some(cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    let answer = pod.node.runtime().list_containers(cri::ListContainersRequest { filter }).await.unwrap();
    answer.into_inner().containers.len()
}

type Spoil<T> = fn(&mut T);

async fn hostile_pods(t: Test) {
    fn metadata(config: &mut cri::PodSandboxConfig) -> &mut cri::PodSandboxMetadata {
        config.metadata.as_mut().unwrap()
    }
    fn security(config: &mut cri::PodSandboxConfig) -> &mut cri::LinuxSandboxSecurityContext {
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }
    fn port(config: &mut cri::PodSandboxConfig, change: fn(&mut cri::PortMapping)) {
        let mut mapping = cri::PortMapping { host_port: 19000, container_port: 80, ..Default::default() };
        change(&mut mapping);
        config.port_mappings.push(mapping);
    }
    let spoilt: [(&str, Spoil<cri::PodSandboxConfig>); 30] = [
        ("metadata", |c| c.metadata = None),
        ("metadata.name", |c| metadata(c).name.clear()),
        ("metadata.name", |c| metadata(c).name = "x".repeat(1 << 20)),
        ("metadata.name", |c| metadata(c).name = "..".into()),
        ("metadata.name", |c| metadata(c).name = "a/../../b".into()),
        ("metadata.name", |c| metadata(c).name = "a\0b".into()),
        ("metadata.namespace", |c| metadata(c).namespace.clear()),
        ("metadata.namespace", |c| metadata(c).namespace = "a;K8S_POD_NAME=b".into()),
        ("metadata.uid", |c| metadata(c).uid = "a\nb".into()),
        ("hostname", |c| c.hostname = "h".repeat(65)),
        ("hostname", |c| c.hostname = "a\nb".into()),
        ("log_directory", |c| c.log_directory = "relative".into()),
        ("log_directory", |c| c.log_directory = "/var/log/../../etc".into()),
        ("labels", |c| drop(c.labels.insert("key".into(), "v".repeat(1 << 20)))),
        ("labels", |c| drop(c.labels.insert(String::new(), "v".into()))),
        ("annotations", |c| drop(c.annotations.insert("key".into(), "v".repeat(1 << 20)))),
        ("annotations", |c| {
            drop(c.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "fast".into()))
        }),
        ("port_mappings[0].host_port", |c| port(c, |p| p.host_port = 65536)),
        ("port_mappings[0].host_port", |c| port(c, |p| p.host_port = -1)),
        ("port_mappings[0].container_port", |c| port(c, |p| p.container_port = -80)),
        ("port_mappings[0].protocol", |c| port(c, |p| p.protocol = 99)),
        ("port_mappings[0].host_ip", |c| port(c, |p| p.host_ip = "not an address".into())),
        ("dns_config.servers[0]", |c| {
            c.dns_config = Some(cri::DnsConfig { servers: vec!["a\nb".into()], ..Default::default() });
        }),
        ("namespace_options.network", |c| security(c).namespace_options.as_mut().unwrap().network = 99),
        ("namespace_options.pid", |c| security(c).namespace_options.as_mut().unwrap().pid = -1),
        ("namespace_options.ipc", |c| security(c).namespace_options.as_mut().unwrap().ipc = 3),
        ("run_as_user", |c| security(c).run_as_user = Some(cri::Int64Value { value: -7 })),
        ("supplemental_groups", |c| security(c).supplemental_groups = vec![1 << 40]),
        ("seccomp", |c| {
            security(c).seccomp = Some(cri::SecurityProfile { profile_type: 99, ..Default::default() });
        }),
        ("cgroup_parent", |c| c.linux.as_mut().unwrap().cgroup_parent = "/a/../../b".into()),
    ];
    for (field, spoil) in spoilt {
        let pod = t.pod().with(spoil);
        assert_field(&refused(&pod).await, field);
    }
    let request = cri::RunPodSandboxRequest::default();
    let answer = t.node().runtime().run_pod_sandbox(request).await;
    assert_field(&answer.unwrap_err(), "config");
    assert!(listed(&t, t.node()).await.is_empty());
}

async fn hostile_containers(t: Test) {
    fn security(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerSecurityContext {
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }
    fn resources(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerResources {
        config.linux.as_mut().unwrap().resources.get_or_insert_default()
    }
    fn mount(config: &mut cri::ContainerConfig, change: fn(&mut cri::Mount)) {
        let mut mount =
            cri::Mount { host_path: "/tmp".into(), container_path: "/mnt".into(), ..Default::default() };
        change(&mut mount);
        config.mounts.push(mount);
    }
    fn device(config: &mut cri::ContainerConfig, change: fn(&mut cri::Device)) {
        let mut device = cri::Device {
            host_path: "/dev/null".into(),
            container_path: "/dev/x".into(),
            permissions: "rwm".into(),
        };
        change(&mut device);
        config.devices.push(device);
    }
    fn env(config: &mut cri::ContainerConfig, key: &str, value: &str) {
        config.envs.push(cri::KeyValue { key: key.into(), value: value.into() });
    }
    let spoilt: [(&str, Spoil<cri::ContainerConfig>); 38] = [
        ("metadata", |c| c.metadata = None),
        ("metadata.name", |c| c.metadata.as_mut().unwrap().name.clear()),
        ("metadata.name", |c| c.metadata.as_mut().unwrap().name = "x".repeat(1 << 20)),
        ("metadata.name", |c| c.metadata.as_mut().unwrap().name = "../../x".into()),
        ("image", |c| c.image = None),
        ("image.image", |c| c.image.as_mut().unwrap().image.clear()),
        ("image.image", |c| c.image.as_mut().unwrap().image = "x".repeat(1 << 20)),
        ("log_path", |c| c.log_path = "../../../etc/cron.d/x".into()),
        ("log_path", |c| c.log_path = "a\0b".into()),
        ("working_dir", |c| c.working_dir = "/x\0y".into()),
        ("command[1]", |c| c.command[1] = "a\0b".into()),
        ("args[0]", |c| c.args = vec!["\0".into()]),
        ("args", |c| c.args = vec!["x".repeat(1 << 20); 3]),
        ("envs[0].key", |c| env(c, "", "x")),
        ("envs[0].key", |c| env(c, "A=B", "x")),
        ("envs[0].value", |c| env(c, "A", "x\0y")),
        ("labels", |c| drop(c.labels.insert("key".into(), "v".repeat(1 << 20)))),
        ("mounts[0].container_path", |c| mount(c, |m| m.container_path.clear())),
        ("mounts[0].container_path", |c| mount(c, |m| m.container_path = "/a/../../b".into())),
        ("mounts[0].container_path", |c| mount(c, |m| m.container_path = "relative".into())),
        ("mounts[0].host_path", |c| mount(c, |m| m.host_path.clear())),
        ("mounts[0].host_path", |c| mount(c, |m| m.host_path = "/a\0b".into())),
        ("mounts[0].propagation", |c| mount(c, |m| m.propagation = 99)),
        ("mounts[0]", |c| mount(c, |m| m.recursive_read_only = true)),
        ("devices[0].host_path", |c| device(c, |d| d.host_path = "relative".into())),
        ("devices[0].permissions", |c| device(c, |d| d.permissions = "rwx".into())),
        ("run_as_user", |c| security(c).run_as_user = Some(cri::Int64Value { value: -1 })),
        ("run_as_user", |c| security(c).run_as_user = Some(cri::Int64Value { value: 1 << 40 })),
        ("run_as_group", |c| security(c).run_as_group = Some(cri::Int64Value { value: 1 })),
        ("supplemental_groups", |c| security(c).supplemental_groups = vec![-4]),
        ("supplemental_groups_policy", |c| security(c).supplemental_groups_policy = 99),
        ("capabilities", |c| {
            let add_capabilities = vec!["NO_SUCH_CAPABILITY".into()];
            security(c).capabilities = Some(cri::Capability { add_capabilities, ..Default::default() });
        }),
        ("seccomp", |c| {
            security(c).seccomp = Some(cri::SecurityProfile { profile_type: 99, ..Default::default() });
        }),
        ("masked_paths", |c| security(c).masked_paths = vec!["/a\0b".into()]),
        ("memory_limit_in_bytes", |c| resources(c).memory_limit_in_bytes = -5),
        ("cpu_shares", |c| resources(c).cpu_shares = -5),
        ("oom_score_adj", |c| resources(c).oom_score_adj = 5000),
        ("namespace_options.pid", |c| security(c).namespace_options.as_mut().unwrap().pid = 99),
    ];
    let pod = t.pod().run().await;
    for (n, (field, spoil)) in spoilt.into_iter().enumerate() {
        let app = pod.container(&format!("app-{n}")).with(spoil);
        let refused = app.try_create().await.map(|made| made.id);
        assert_field(&refused.expect_err(field), field);
    }
    let request = cri::CreateContainerRequest { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    assert_field(&t.node().runtime().create_container(request).await.unwrap_err(), "config");
    assert_eq!(containers(&pod).await, 0);
}

async fn hostile_ids(t: Test) {
    let mut runtime = t.node().runtime();
    let long = "a".repeat(1 << 20);
    let traversal = "../../../../etc";
    for id in ["", &long, "a\0b"] {
        let (pod_sandbox_id, container_id) = (id.to_owned(), id.to_owned());
        let refusals = [
            code_of(runtime.stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: id.into() }).await),
            code_of(
                runtime.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await,
            ),
            code_of(
                runtime
                    .pod_sandbox_status(cri::PodSandboxStatusRequest { pod_sandbox_id, verbose: true })
                    .await,
            ),
            code_of(runtime.start_container(cri::StartContainerRequest { container_id: id.into() }).await),
            code_of(
                runtime
                    .stop_container(cri::StopContainerRequest { container_id: id.into(), timeout: 1 })
                    .await,
            ),
            code_of(runtime.remove_container(cri::RemoveContainerRequest { container_id: id.into() }).await),
            code_of(
                runtime.container_status(cri::ContainerStatusRequest { container_id, verbose: true }).await,
            ),
            code_of(
                runtime
                    .exec_sync(cri::ExecSyncRequest {
                        container_id: id.into(),
                        cmd: vec!["true".into()],
                        timeout: 1,
                    })
                    .await,
            ),
            code_of(
                runtime
                    .reopen_container_log(cri::ReopenContainerLogRequest { container_id: id.into() })
                    .await,
            ),
        ];
        for (n, (code, text)) in refusals.into_iter().enumerate() {
            let field = if n < 3 { "pod_sandbox_id" } else { "container_id" };
            assert_field(&Status::new(code, text), field);
        }
    }
    let pod_sandbox_id = traversal.to_owned();
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
    assert_eq!(code_of(runtime.pod_sandbox_status(request).await).0, Code::NotFound);
    runtime
        .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: traversal.into() })
        .await
        .unwrap();
    runtime.remove_container(cri::RemoveContainerRequest { container_id: traversal.into() }).await.unwrap();
    let app = t.pod().run().await.container("app").start().await;
    assert_field(&app.try_stop(-1).await.unwrap_err(), "timeout");
    assert_field(&app.try_exec(&["true"], i64::MIN).await.unwrap_err(), "timeout");
    assert_field(&app.try_exec(&["a\0b"], 0).await.unwrap_err(), "cmd[0]");
    assert_eq!(app.sh("echo alive").await, "alive");
}

async fn hostile_images(t: Test) {
    let mut images = t.node().images();
    let spec = |image: &str| Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() });
    for image in [None, spec(""), spec(&"a".repeat(1 << 20)), spec("a\0b")] {
        let pull = cri::PullImageRequest { image: image.clone(), ..Default::default() };
        assert_field(&images.pull_image(pull).await.unwrap_err(), "image");
        let status = cri::ImageStatusRequest { image: image.clone(), verbose: true };
        assert_field(&images.image_status(status).await.unwrap_err(), "image");
        let remove = cri::RemoveImageRequest { image };
        assert_field(&images.remove_image(remove).await.unwrap_err(), "image");
    }
}
