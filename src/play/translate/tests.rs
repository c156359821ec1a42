use std::time::Duration;

use super::*;
use crate::play::read::pods;

fn pod(spec: &str, container: &str) -> Pod {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: u, labels: {{a: b}}, annotations: {{k: v}}}}\n\
         spec: {{{spec} containers: [{{name: c, image: i:1, {container}}}]}}\n"
    );
    pods(&text).unwrap().remove(0)
}

fn node() -> Node {
    let dns = cri::DnsConfig {
        servers: vec!["10.0.0.1".into()],
        searches: vec!["home".into()],
        options: vec!["ndots:1".into(), "edns0".into()],
    };
    Node { dns, memory: 10 << 30, thermal: vec!["/sys/thermal".into()] }
}

fn sandbox_of(spec: &str, container: &str) -> cri::PodSandboxConfig {
    sandbox(&pod(spec, container), &node(), "/logs")
}

fn config_of(spec: &str, container: &str) -> cri::ContainerConfig {
    try_config(spec, container, cri::Image::default()).unwrap()
}

fn try_config(spec: &str, container: &str, image: cri::Image) -> Result<cri::ContainerConfig, String> {
    let pod = pod(spec, container);
    super::container(&pod, &pod.containers[0], &node(), Start { attempt: 2, image, mounts: Vec::new() })
}

fn resources_of(spec: &str, container: &str) -> cri::LinuxContainerResources {
    config_of(spec, container).linux.unwrap().resources.unwrap()
}

fn security_of(spec: &str, container: &str) -> cri::LinuxContainerSecurityContext {
    config_of(spec, container).linux.unwrap().security_context.unwrap()
}

#[test]
fn a_sandbox_is_named_labelled_and_placed_as_by_a_kubelet() {
    let config = sandbox_of("", "");
    let metadata =
        cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "ns".into(), attempt: 0 };
    assert_eq!(config.metadata, Some(metadata));
    assert_eq!(config.hostname, "p");
    assert_eq!(config.log_directory, "/logs");
    for (key, value) in [("a", "b"), (POD_NAME, "p"), (POD_NAMESPACE, "ns"), (POD_UID, "u")] {
        assert_eq!(config.labels[key], value);
    }
    assert_eq!(config.annotations["k"], "v");
    let security = config.linux.unwrap().security_context.unwrap();
    assert_eq!(security.seccomp, Some(profile(ProfileType::RuntimeDefault)));
    assert!(!security.privileged);
}

#[test]
fn namespaces_follow_the_pods_switches() {
    use cri::NamespaceMode::{Container, Node, Pod};
    let cases = [
        ("", [Pod, Container, Pod]),
        ("shareProcessNamespace: true,", [Pod, Pod, Pod]),
        ("hostPID: true,", [Pod, Node, Pod]),
        ("hostNetwork: true, hostIPC: true,", [Node, Container, Node]),
    ];
    for (spec, expected) in cases {
        let sandbox =
            sandbox_of(spec, "").linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        let container = security_of(spec, "").namespace_options.unwrap();
        assert_eq!([sandbox.network(), sandbox.pid(), sandbox.ipc()], expected, "{spec}");
        assert_eq!(container, sandbox, "{spec}");
    }
}

#[test]
fn a_hostname_is_cut_to_length_and_left_to_the_node_with_its_network() {
    assert_eq!(sandbox_of("hostNetwork: true,", "").hostname, "");
    assert_eq!(sandbox_of("hostname: h,", "").hostname, "h");
    let mut long = pod("", "");
    long.name = format!("{}-b", "a".repeat(62));
    assert_eq!(sandbox(&long, &node(), "/l").hostname, "a".repeat(62));
}

#[test]
fn a_pod_adds_to_the_nodes_name_servers_or_has_its_own() {
    let own = "dnsConfig: {nameservers: [10.0.0.1, 1.1.1.1], searches: [x], options: [{name: ndots, value: \"5\"}]},";
    let dns = sandbox_of(own, "").dns_config.unwrap();
    assert_eq!(dns.servers, ["10.0.0.1", "1.1.1.1"]);
    assert_eq!(dns.searches, ["home", "x"]);
    assert_eq!(dns.options, ["edns0", "ndots:5"]);
    let dns = sandbox_of(&format!("dnsPolicy: None, {own}"), "").dns_config.unwrap();
    assert_eq!((dns.searches, dns.options), (vec!["x".to_owned()], vec!["ndots:5".to_owned()]));
}

#[test]
fn ports_are_mapped() {
    let ports =
        "ports: [{containerPort: 53, hostPort: 1053, hostIP: 127.0.0.1, protocol: UDP}, {containerPort: 80}]";
    let mappings = sandbox_of("", ports).port_mappings;
    let udp = cri::PortMapping {
        protocol: cri::Protocol::Udp.into(),
        container_port: 53,
        host_port: 1053,
        host_ip: "127.0.0.1".into(),
    };
    assert_eq!(mappings[0], udp);
    assert_eq!((mappings[1].container_port, mappings[1].host_port), (80, 0));
}

#[test]
fn a_container_is_named_by_start_and_expanded() {
    let config = config_of(
        "",
        "command: [sh, $(A), $$(A)], args: [$(B)], env: [{name: A, value: x}, {name: B, value: $(A)y}]",
    );
    assert_eq!(config.metadata, Some(cri::ContainerMetadata { name: "c".into(), attempt: 2 }));
    assert_eq!(config.command, ["sh", "x", "$(A)"]);
    assert_eq!(config.args, ["xy"]);
    assert_eq!(config.envs[1], cri::KeyValue { key: "B".into(), value: "xy".into() });
    assert_eq!(config.log_path, "c/2.log");
    assert_eq!(config.labels[CONTAINER_NAME], "c");
    assert_eq!(config.annotations["io.kubernetes.container.restartCount"], "2");
    assert_eq!(config.annotations["io.kubernetes.pod.terminationGracePeriod"], "30");
    assert_eq!(config.image.unwrap().user_specified_image, "i:1");
}

#[test]
fn resources_become_cgroup_settings() {
    // (resources, shares, quota, memory)
    let cases = [
        ("", 2, 0, 0),
        ("resources: {limits: {cpu: 500m, memory: 64Mi}}", 512, 50_000, 64 << 20),
        ("resources: {requests: {cpu: 100m}, limits: {cpu: 2}}", 102, 200_000, 0),
        ("resources: {limits: {cpu: 1m}}", 2, 1_000, 0),
        ("resources: {requests: {cpu: 1000}}", 262_144, 0, 0),
    ];
    for (container, shares, quota, memory) in cases {
        let got = resources_of("", container);
        assert_eq!(
            (got.cpu_shares, got.cpu_quota, got.memory_limit_in_bytes),
            (shares, quota, memory),
            "{container}"
        );
        assert_eq!(got.cpu_period, if quota == 0 { 0 } else { 100_000 }, "{container}");
    }
}

#[test]
fn the_oom_score_follows_the_pods_class() {
    let cases = [
        ("", 1000),
        ("resources: {limits: {cpu: 1, memory: 1Gi}}", -997),
        // A tenth of the node's 10 GiB.
        ("resources: {requests: {memory: 1Gi}}", 900),
        ("resources: {requests: {memory: 100Gi}}", 3),
        ("resources: {requests: {cpu: 1}}", 999),
        ("resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1, memory: 2Gi}}", 900),
    ];
    for (container, score) in cases {
        assert_eq!(resources_of("", container).oom_score_adj, score, "{container}");
    }
    let sidecar = pod(
        "initContainers: [{name: s, image: i, restartPolicy: Always}],",
        "resources: {requests: {memory: 5Gi}}",
    );
    assert_eq!(resources::of_container(&sidecar, &sidecar.init_containers[0], 10 << 30).oom_score_adj, 500);
}

#[test]
fn a_pods_limits_are_the_sum_where_all_have_one() {
    let both = "initContainers: [{name: s, image: i, restartPolicy: Always, resources: {limits: {cpu: 1, memory: 1Mi}}}],";
    let limited =
        sandbox_of(both, "resources: {limits: {cpu: 500m, memory: 2Mi}}").linux.unwrap().resources.unwrap();
    assert_eq!(
        (limited.cpu_quota, limited.cpu_shares, limited.memory_limit_in_bytes),
        (150_000, 1536, 3 << 20)
    );
    let open = sandbox_of(both, "").linux.unwrap().resources.unwrap();
    assert_eq!((open.cpu_quota, open.cpu_shares, open.memory_limit_in_bytes), (0, 1024, 0));
}

#[test]
fn security_is_the_containers_own_then_the_pods() {
    let spec = "securityContext: {runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4], seccompProfile: {type: RuntimeDefault}},";
    let inherited = security_of(spec, "");
    assert_eq!((inherited.run_as_user, inherited.run_as_group), (Some(int(1)), Some(int(2))));
    assert_eq!(inherited.supplemental_groups, [3, 4]);
    assert_eq!(inherited.seccomp, Some(profile(ProfileType::RuntimeDefault)));
    assert!(!inherited.no_new_privs);
    let own = "securityContext: {runAsUser: 9, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, \
        capabilities: {add: [NET_ADMIN], drop: [ALL]}, seccompProfile: {type: Localhost, localhostProfile: a.json}}";
    let own = security_of(spec, own);
    assert_eq!((own.run_as_user, own.run_as_group), (Some(int(9)), Some(int(2))));
    assert_eq!(own.seccomp.unwrap().localhost_ref, "/var/lib/kubelet/seccomp/a.json");
    assert!(own.readonly_rootfs && own.no_new_privs);
    let capabilities = own.capabilities.unwrap();
    assert_eq!(capabilities.add_capabilities, ["NET_ADMIN"]);
    assert_eq!(capabilities.drop_capabilities, ["ALL"]);
    assert_eq!(security_of("", "").seccomp, Some(profile(ProfileType::Unconfined)));
}

#[test]
fn parts_of_proc_are_hidden_unless_asked_otherwise() {
    let hidden = security_of("", "");
    assert!(hidden.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(hidden.masked_paths.contains(&"/sys/thermal".to_owned()));
    assert!(hidden.readonly_paths.contains(&"/proc/sys".to_owned()));
    let open = security_of("", "securityContext: {procMount: Unmasked}");
    assert!(open.masked_paths.is_empty() && open.readonly_paths.is_empty());
}

#[test]
fn the_images_user_counts_where_the_manifest_names_none() {
    let image = |uid: Option<i64>, username: &str| cri::Image {
        uid: uid.map(int),
        username: username.into(),
        ..Default::default()
    };
    let user = |container: &str, image: cri::Image| {
        let security = try_config("", container, image)?.linux.unwrap().security_context.unwrap();
        Ok::<_, String>((security.run_as_user.map(|user| user.value), security.run_as_username))
    };
    assert_eq!(user("", image(Some(7), "")), Ok((Some(7), String::new())));
    assert_eq!(user("", image(None, "web")), Ok((None, "web".into())));
    assert_eq!(user("securityContext: {runAsUser: 1}", image(None, "web")), Ok((Some(1), String::new())));
    let non_root = "securityContext: {runAsNonRoot: true}";
    assert_eq!(user(non_root, image(Some(7), "")), Ok((Some(7), String::new())));
    for image in [image(Some(0), ""), image(None, ""), image(None, "web")] {
        assert!(user(non_root, image).unwrap_err().starts_with("runAsNonRoot is set"));
    }
    assert!(user("securityContext: {runAsGroup: 1}", image(None, "")).is_err());
}

#[test]
fn a_privileged_container_makes_a_privileged_pod() {
    let config = sandbox_of("", "securityContext: {privileged: true}");
    assert!(config.linux.unwrap().security_context.unwrap().privileged);
    assert!(security_of("", "securityContext: {privileged: true}").privileged);
}

#[test]
fn the_grace_is_the_manifests() {
    assert_eq!(pod("terminationGracePeriodSeconds: 3,", "").grace, Duration::from_secs(3));
}
