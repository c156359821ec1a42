use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::super::{Bandwidth, PortMapping};
use super::*;
use crate::id::PodId;
use crate::linux::require_root;

/// A folder of configurations, plugins, cache and locks.
struct Node {
    dir: tempfile::TempDir,
    config: NetworkConfig,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let config = NetworkConfig {
            conf_dir: path("net.d"),
            bin_dirs: vec![path("bin")],
            cache_dir: path("cache"),
            netns_dir: path("netns"),
            max_conf_num: 0,
            ..NetworkConfig::default()
        };
        Self { dir, config }
    }

    /// A plugin that notes its calls and then does as the script says.
    fn plugin(&self, name: &str, script: &str) {
        let path = self.config.bin_dirs[0].join(name);
        let (dir, note) = (self.dir.path().display(), "$CNI_COMMAND-$CNI_IFNAME");
        let text = format!("#!/bin/sh\ncd {dir}\necho {name} {note} >>calls\ncat >{name}-{note}\n{script}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn network(&self, file: &str, list: Value) {
        fs::write(self.config.conf_dir.join(file), list.to_string()).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        fs::remove_file(self.dir.path().join("calls")).ok();
        calls.lines().map(String::from).collect()
    }

    fn stdin(&self, call: &str) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join(call)).unwrap()).unwrap()
    }

    fn cached(&self) -> usize {
        fs::read_dir(self.config.cache_dir.join("results")).map_or(0, |files| files.count())
    }

    fn pod(&self) -> PodNetwork {
        let id = PodId::generate();
        PodNetwork {
            lock_path: self.dir.path().join(format!("lock-{id}")),
            id,
            namespace: "default".into(),
            name: "web".into(),
            uid: "u1".into(),
            netns: Some("/proc/self/ns/net".into()),
            port_mappings: vec![],
            bandwidth: None,
            dns: None,
            cgroup_parent: String::new(),
            annotations: BTreeMap::new(),
        }
    }
}

const ONE_ADDRESS: &str = r#"[ $CNI_COMMAND != ADD ] ||
    echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.5/24"}]}'"#;

fn chain() -> Value {
    json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "first"},
        {"type": "second", "capabilities": {"portMappings": true, "bandwidth": true, "dns": true, "cgroupPath": true}}
    ]})
}

#[tokio::test]
async fn plugins_are_chained_and_undone_in_reverse_from_the_cache() {
    let node = Node::new();
    node.plugin("first", ONE_ADDRESS);
    node.plugin("second", ONE_ADDRESS);
    node.network("10.conflist", chain());
    let networks = Networks::watch(node.config.clone());
    networks.status().await.unwrap();
    let mut pod = node.pod();
    pod.bandwidth = Some(Bandwidth { ingress: Some(5_000), egress: None });
    pod.cgroup_parent = "/kubepods/pod1".into();
    pod.dns = Some(crate::proto::cri::DnsConfig { servers: vec!["10.0.0.10".into()], ..Default::default() });
    pod.port_mappings =
        vec![PortMapping { host_port: 80, container_port: 8080, protocol: "tcp", host_ip: String::new() }];

    let attachment = networks.attach(&pod).await.unwrap();
    assert_eq!(attachment.ips, ["10.9.0.5".parse::<IpAddr>().unwrap()]);
    assert_eq!(attachment.result["Interfaces"]["eth0"]["IPConfigs"][0]["IP"], "10.9.0.5");
    assert_eq!(node.calls(), ["first ADD-eth0", "second ADD-eth0"]);
    assert_eq!(node.stdin("first-ADD-eth0"), json!({"cniVersion": "1.0.0", "name": "net", "type": "first"}));
    let second = node.stdin("second-ADD-eth0");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.9.0.5/24");
    assert_eq!(
        second["runtimeConfig"],
        json!({
            "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 5000, "ingressBurst": 4294967295u32, "egressRate": 0, "egressBurst": 0},
            "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
            "cgroupPath": "/kubepods/pod1"
        })
    );
    assert_eq!(node.cached(), 1);

    // The configuration is gone, another stands in its place, and the pod is known by its id alone.
    fs::remove_file(node.config.conf_dir.join("10.conflist")).unwrap();
    node.network(
        "20.conflist",
        json!({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "missing"}]}),
    );
    let known = PodNetwork { netns: None, id: pod.id.clone(), lock_path: pod.lock_path, ..node.pod() };
    networks.detach(&known).await.unwrap();
    assert_eq!(node.calls(), ["second DEL-eth0", "first DEL-eth0"]);
    assert_eq!(node.stdin("second-DEL-eth0")["runtimeConfig"], second["runtimeConfig"]);
    assert_eq!(node.stdin("first-DEL-eth0")["prevResult"]["ips"][0]["address"], "10.9.0.5/24");
    assert_eq!(node.cached(), 0);
}

#[tokio::test]
async fn an_add_that_was_cut_off_is_known_to_detach() {
    let node = Node::new();
    node.plugin(
        "first",
        r#"[ $CNI_COMMAND = ADD ] && { echo '{"code":7,"msg":"bad subnet"}'; exit 1; }; exit 0"#,
    );
    node.network(
        "10.conflist",
        json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "first"}]}),
    );
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    let text = networks.attach(&pod).await.unwrap_err().to_string();
    for part in ["ADD", "\"first\"", "\"net\"", "bad subnet"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(node.cached(), 1, "the attempt must be on record");
    fs::remove_dir_all(&node.config.conf_dir).unwrap();
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["first ADD-eth0", "first DEL-eth0"]);
    assert_eq!(node.cached(), 0);
    // Nothing cached, nothing loaded: nothing to do.
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_program_stops_add_before_anything_is_on_record() {
    let node = Node::new();
    node.plugin("first", ONE_ADDRESS);
    node.network("10.conflist", chain());
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    let error = networks.attach(&pod).await.unwrap_err();
    assert!(matches!(&error, NetworkError::PluginMissing { plugin, .. } if plugin == "second"), "{error:?}");
    assert_eq!((node.calls(), node.cached()), (vec![], 0));
    networks.detach(&pod).await.expect("a pod that was never attached can be removed");
}

#[tokio::test]
async fn without_a_cache_the_loaded_configuration_speaks() {
    let node = Node::new();
    node.plugin("first", r#"echo '{"code":3,"msg":"container not found"}'; exit 1"#);
    node.network(
        "10.conflist",
        json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "first"}]}),
    );
    let networks = Networks::watch(node.config.clone());
    networks.detach(&node.pod()).await.expect("what is not found is gone");
    assert_eq!(node.calls(), ["first DEL-eth0"]);
}

/// A pod on the one network of its node.
async fn attached() -> (Node, Networks, PodNetwork) {
    let node = Node::new();
    node.plugin("first", ONE_ADDRESS);
    node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    networks.attach(&pod).await.unwrap();
    (node, networks, pod)
}

#[tokio::test]
async fn what_a_killed_daemon_was_writing_goes_with_the_pod() {
    let (node, networks, pod) = attached().await;
    let draft = |id: &PodId| node.config.cache_dir.join(format!("results/.{id}-eth0"));
    let other = draft(&PodId::generate());
    for path in [&draft(&pod.id), &other] {
        fs::write(path, "{").unwrap();
    }
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["first ADD-eth0", "first DEL-eth0"]);
    assert_eq!(node.cached(), 1);
    assert!(other.exists(), "another pod's is not this one's to remove");
}

#[tokio::test]
async fn an_unreadable_record_neither_wedges_nor_stays() {
    let (node, networks, pod) = attached().await;
    fs::write(node.config.cache_dir.join(format!("results/net-{}-eth0", pod.id)), "{").unwrap();
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["first ADD-eth0", "first DEL-eth0"]);
    assert_eq!(node.cached(), 0);
}

#[tokio::test]
async fn the_built_in_plugins_own_records_are_enough_to_detach() {
    let node = Node::new();
    node.plugin("first", "exit 0");
    let results = node.config.cache_dir.join("results");
    fs::create_dir(&results).unwrap();
    let golden = include_str!("golden/libcni-1.3.0.json");
    let id = "0123456789012345678901234567890123456789012345678901234567890123";
    fs::write(results.join(format!("net-{id}-eth0")), golden).unwrap();
    let lo =
        Entry::new("cni-loopback", id, "lo", br#"{"name":"cni-loopback","plugins":[{"type":"loopback"}]}"#);
    lo.store(&node.config.cache_dir).unwrap();
    let pod = PodNetwork { id: PodId::parse(id).unwrap(), ..node.pod() };
    Networks::watch(node.config.clone()).detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["first DEL-eth0"], "no process for a loopback");
    let stdin = node.stdin("first-DEL-eth0");
    assert_eq!(stdin["runtimeConfig"], json!({"portMappings": [{"HostPort": 80}]}));
    assert_eq!(stdin["prevResult"]["ips"][0]["address"], "10.9.0.5/24");
    assert_eq!(node.cached(), 0);
}

#[tokio::test]
async fn a_failed_del_keeps_its_record_and_the_other_networks_are_still_tried() {
    let node = Node::new();
    node.plugin("good", ONE_ADDRESS);
    let breaks = r#"[ ! -e broken ] || { echo '{"code":5,"msg":"disk on fire"}'; exit 1; }"#;
    node.plugin("bad", &format!("{breaks}\n{ONE_ADDRESS}"));
    for (file, name, kind) in [("1.conflist", "a", "good"), ("2.conflist", "b", "bad")] {
        node.network(file, json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": kind}]}));
    }
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    networks.attach(&pod).await.unwrap();
    node.calls();
    fs::write(node.dir.path().join("broken"), "").unwrap();
    let text = networks.detach(&pod).await.unwrap_err().to_string();
    assert!(text.contains("disk on fire") && text.contains("\"b\""), "{text}");
    assert_eq!(node.calls(), ["bad DEL-eth1", "good DEL-eth0"]);
    assert_eq!(node.cached(), 1);
    fs::remove_file(node.dir.path().join("broken")).unwrap();
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["bad DEL-eth1"]);
    // A program that is gone at DEL is an error that says where it was looked for.
    networks.attach(&pod).await.unwrap();
    fs::remove_file(node.config.bin_dirs[0].join("bad")).unwrap();
    let text = networks.detach(&pod).await.unwrap_err().to_string();
    assert!(text.contains("/bin") && text.contains("\"bad\""), "{text}");
}

#[tokio::test]
async fn garbage_and_silence_are_no_result() {
    for script in ["echo garbage", "true", "echo null", r#"echo '{"ips":[{"address":"here"}]}'"#] {
        let node = Node::new();
        node.plugin("first", script);
        node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
        let error = Networks::watch(node.config.clone()).attach(&node.pod()).await.unwrap_err();
        assert!(matches!(error, NetworkError::BadResult { .. }), "{script}: {error:?}");
    }
    let node = Node::new();
    node.plugin("first", "echo '{}'");
    node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
    let error = Networks::watch(node.config.clone()).attach(&node.pod()).await.unwrap_err();
    assert!(matches!(error, NetworkError::NoAddress { .. }), "{error:?}");
}

#[tokio::test]
async fn a_hanging_plugin_ends_at_its_deadline_and_lets_detach_go_on() {
    let mut node = Node::new();
    node.config.plugin_timeout = Duration::from_millis(500);
    node.plugin("first", "[ $CNI_COMMAND != ADD ] || sleep 600");
    node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    let error = networks.attach(&pod).await.unwrap_err();
    assert!(matches!(error, NetworkError::Timeout { .. }), "{error:?}");
    networks.detach(&pod).await.unwrap();
    assert_eq!(node.calls(), ["first ADD-eth0", "first DEL-eth0"]);
}

#[tokio::test]
async fn an_orphan_of_a_dead_daemon_ends_before_del() {
    let node = Node::new();
    node.plugin(
        "first",
        "[ $CNI_COMMAND != DEL ] || { [ -e late ] && echo after >>order; echo del >>order; }",
    );
    node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
    let networks = Networks::watch(node.config.clone());
    let pod = node.pod();
    // As a killed daemon leaves it: a process that holds the lock and is still at work.
    let lock = pod_lock::take(&pod.lock_path).await.unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "sleep 0.5; touch late"]).current_dir(node.dir.path());
    crate::linux::lock::inherit(&mut command, lock.clone());
    let mut orphan = command.spawn().unwrap();
    drop((command, lock));
    networks.detach(&pod).await.unwrap();
    orphan.wait().unwrap();
    assert_eq!(fs::read_to_string(node.dir.path().join("order")).unwrap(), "after\ndel\n");
}

#[tokio::test]
async fn status_says_what_is_missing_and_asks_new_plugins() {
    let node = Node::new();
    let networks = Networks::watch(node.config.clone());
    let error = networks.status().await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Unavailable);
    assert!(error.to_string().contains("net.d"), "{error}");
    node.network(
        "10.conflist",
        json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]}),
    );
    assert!(matches!(networks.status().await.unwrap_err(), NetworkError::PluginMissing { .. }));
    node.plugin("first", r#"[ -e ready ] || { echo '{"code":50,"msg":"agent is down"}'; exit 1; }"#);
    let error = networks.status().await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Unavailable);
    assert!(error.to_string().contains("agent is down"), "{error}");
    fs::write(node.dir.path().join("ready"), "").unwrap();
    networks.status().await.unwrap();
    assert_eq!(node.calls(), ["first STATUS-", "first STATUS-"]);
    let described = networks.describe();
    assert_eq!(networks.last_load(), "OK");
    assert_eq!(described["Networks"][0]["IFName"], "eth0");
}

#[tokio::test]
async fn a_pod_that_cannot_be_named_is_refused_before_any_plugin() {
    let node = Node::new();
    node.plugin("first", ONE_ADDRESS);
    node.network("10.conf", json!({"cniVersion": "0.4.0", "name": "net", "type": "first"}));
    let networks = Networks::watch(node.config.clone());
    for name in ["a;K8S_POD_UID=x", "a\0b"] {
        let pod = PodNetwork { name: name.into(), ..node.pod() };
        let error = networks.attach(&pod).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::InvalidArgument);
        networks.detach(&pod).await.unwrap();
    }
    let pod = PodNetwork { netns: None, ..node.pod() };
    assert!(matches!(networks.attach(&pod).await.unwrap_err(), NetworkError::NoNamespace { .. }));
    assert_eq!(node.calls(), Vec::<String>::new());
}

#[test]
fn the_preferred_family_comes_first() {
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    let mixed = ips(&["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]);
    let first = |preference| preferred_first(mixed.clone(), preference);
    assert_eq!(first(IpPreference::Ipv4), ips(&["10.0.0.1", "fd00::1", "fd00::2", "10.0.0.2"]));
    assert_eq!(first(IpPreference::Ipv6), mixed);
    assert_eq!(first(IpPreference::Cni), mixed);
    assert_eq!(preferred_first(ips(&["10.0.0.1"]), IpPreference::Ipv6), ips(&["10.0.0.1"]));
}

/// Debian's plugins, those of the lab or the machine's own, on a bridge and a subnet of the test's own.
fn real_node() -> Node {
    let mut node = Node::new();
    let lab = std::env::var_os("CRIDGE_LAB").map(|lab| PathBuf::from(lab).join("cni"));
    let places = lab.into_iter().chain(["/usr/lib/cni", "/opt/cni/bin"].map(PathBuf::from));
    let found = places.into_iter().find(|place| place.join("bridge").exists());
    node.config.bin_dirs =
        vec![found.expect("install containernetworking-plugins, or set CRIDGE_LAB: hack/lab cni")];
    let data = node.dir.path().join("ipam");
    node.network(
        "10.conflist",
        json!({"cniVersion": "1.0.0", "name": "crtest", "plugins": [
            {"type": "bridge", "bridge": "crtest0", "isGateway": true, "ipMasq": false, "ipam": {
                "type": "host-local", "dataDir": data, "ranges": [[{"subnet": "10.213.77.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]}),
    );
    node
}

#[tokio::test]
async fn real_plugins_connect_two_pods_and_give_their_addresses_back() {
    require_root();
    let node = real_node();
    let networks = Networks::watch(node.config.clone());
    networks.status().await.unwrap();
    let mut pods = Vec::new();
    for host_port in [38_471, 38_472] {
        let path = netns::choose_path(&node.config.netns_dir);
        netns::create(&path).await.unwrap();
        let ports =
            vec![PortMapping { host_port, container_port: 80, protocol: "tcp", host_ip: "127.0.0.1".into() }];
        pods.push(PodNetwork { netns: Some(path), port_mappings: ports, ..node.pod() });
    }
    let attached = join_all(pods.iter().map(|pod| networks.attach(pod))).await;
    let reached = match &attached[..] {
        [Ok(a), Ok(b)] => Some(reaches(&pods, a.ips[0], b.ips[0]).await),
        _ => None,
    };
    let held = || fs::read_dir(node.dir.path().join("ipam/crtest")).unwrap();
    let addresses = |name: &str| held().flatten().any(|f| f.file_name().to_str() == Some(name));
    let mut freed = Vec::new();
    for (pod, attachment) in pods.iter().zip(&attached) {
        let detached = networks.detach(pod).await;
        netns::remove(pod.netns.as_deref().unwrap()).await.unwrap();
        // The kernel's namespace is gone: a second DEL must do.
        let again = networks.detach(pod).await;
        let still = attachment.as_ref().is_ok_and(|a| addresses(&a.ips[0].to_string()));
        freed.push(detached.is_ok() && again.is_ok() && !still);
    }
    std::process::Command::new("ip").args(["link", "del", "crtest0"]).status().unwrap();
    assert_eq!(reached, Some(true), "{attached:?}");
    assert_eq!(freed, [true, true]);
    let interfaces = &attached[0].as_ref().unwrap().result["Interfaces"];
    assert_eq!(interfaces["eth0"]["Sandbox"], json!(pods[0].netns));
    assert_eq!(interfaces["lo"]["IPConfigs"][0]["IP"], "127.0.0.1");
    assert_eq!(interfaces["eth0"]["IPConfigs"][0]["Gateway"], "10.213.77.1");
    assert_eq!(node.cached(), 0);
}

/// Whether the first pod reaches a server in the second by its address.
async fn reaches(pods: &[PodNetwork], from: IpAddr, to: IpAddr) -> bool {
    let netns = |n: usize| pods[n].netns.clone().unwrap();
    let listener = netns::run(&netns(1), move || TcpListener::bind((to, 80)).unwrap()).await.unwrap();
    let connect = move || TcpStream::connect_timeout(&(to, 80).into(), Duration::from_secs(30));
    let client = netns::run(&netns(0), connect).await.unwrap();
    client.is_ok_and(|c| c.local_addr().unwrap().ip() == from && listener.accept().is_ok())
}
