//! What a container shares with its pod and its node, and what its handler adds.

use super::*;

#[test]
fn a_privileged_container_has_all_that_containerd_has() {
    let mut bench = Bench::new();
    bench.security().privileged = true;
    bench.refused("config.linux.security_context.privileged");

    bench.pod_security().privileged = true;
    bench.node.selinux = true;
    let security = bench.security();
    security.masked_paths = vec!["/proc/kcore".into()];
    security.seccomp = Some(Default::default());
    security.capabilities =
        Some(cri::Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() });
    let spec = bench.container().unwrap();
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]));
    assert_eq!(options(&spec, "/sys"), json!(["nosuid", "noexec", "nodev", "rw"]));
    assert_eq!(options(&spec, "/sys/fs/cgroup"), json!(["nosuid", "noexec", "nodev", "relatime", "rw"]));
    assert_eq!((&spec["linux"]["maskedPaths"], &spec["linux"]["readonlyPaths"]), (&json!([]), &json!([])));
    assert_eq!(spec["linux"]["seccomp"], Value::Null);
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    let fuse = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2}]);
    assert_eq!(spec["linux"]["devices"], fuse);
    assert_eq!(spec["process"]["selinuxLabel"], Value::Null);
    assert_eq!(spec["linux"]["mountLabel"], "mount_label");

    let none = json!([{"allow": false, "access": "rwm"}]);
    for (all_allowed, rules) in [(false, none), (true, json!([{"allow": true, "access": "rwm"}]))] {
        bench.handler.privileged_without_host_devices = true;
        bench.handler.privileged_without_host_devices_all_devices_allowed = all_allowed;
        let spec = bench.container().unwrap();
        assert_eq!(
            (&spec["linux"]["devices"], &spec["linux"]["resources"]["devices"]),
            (&Value::Null, &rules)
        );
    }

    let pause = bench.pause().unwrap();
    assert_eq!(options(&pause, "/sys"), json!(["nosuid", "noexec", "nodev", "rw"]));
    assert_eq!(pause["process"]["selinuxLabel"], Value::Null);
}

#[test]
fn on_cgroup_v2_only_privileged_containers_see_the_whole_tree() {
    let mut bench = Bench::new();
    bench.node.cgroup_mode = CgroupMode::Unified;
    bench.pod_security().privileged = true;
    for (privileged, writable, own, expected) in [
        (false, false, true, json!(["nosuid", "noexec", "nodev", "relatime", "ro"])),
        (false, true, true, json!(["nosuid", "noexec", "nodev", "relatime", "rw"])),
        (true, false, false, json!(["nosuid", "noexec", "nodev", "relatime", "rw", "nsdelegate"])),
    ] {
        bench.security().privileged = privileged;
        bench.handler.cgroup_writable = writable;
        let spec = bench.container().unwrap();
        assert_eq!(namespace(&spec, "cgroup").is_some(), own);
        assert_eq!(options(&spec, "/sys/fs/cgroup"), expected);
    }
}

#[test]
fn the_nodes_namespaces_are_left_out_of_the_pause() {
    let mut bench = Bench::new();
    let node = i32::from(NamespaceMode::Node);
    bench.host_network = true;
    bench.pod_security().namespace_options =
        Some(cri::NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() });
    let spec = bench.pause().unwrap();
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}]));
    assert_eq!((&spec["hostname"], &spec["linux"]["sysctl"]), (&Value::Null, &json!({})));

    bench.pid = PidNamespace::Node;
    let spec = bench.container().unwrap();
    assert_eq!(namespace(&spec, "network").unwrap(), "/proc/42/ns/net");
    assert_eq!(namespace(&spec, "pid"), None);

    for (mode, field) in [(3, "network"), (1, "ipc"), (9, "pid")] {
        let mut options = cri::NamespaceOption::default();
        *match field {
            "network" => &mut options.network,
            "ipc" => &mut options.ipc,
            _ => &mut options.pid,
        } = mode;
        bench.pod_security().namespace_options = Some(options);
        bench.pause_refused(&format!("{CONTEXT}.namespace_options.{field}"));
    }
}

#[test]
fn a_user_namespace_is_made_by_the_pause_and_joined_by_its_containers() {
    let mut bench = Bench::new();
    let ids = vec![cri::IdMapping { host_id: 65536, container_id: 0, length: 65536 }];
    let options = cri::NamespaceOption {
        userns_options: Some(cri::UserNamespace { mode: 0, uids: ids.clone(), gids: ids }),
        ..Default::default()
    };
    bench.security().namespace_options = Some(options.clone());
    bench.refused(&format!("{CONTEXT}.namespace_options.userns_options"));
    bench.pod_security().namespace_options = Some(options.clone());

    let (pause, container) = (bench.pause().unwrap(), bench.container().unwrap());
    assert_eq!(namespace(&pause, "user").unwrap(), "/state/pinned/user");
    assert_eq!(namespace(&container, "user").unwrap(), "/proc/42/ns/user");
    let mappings = json!([{"hostID": 65536, "containerID": 0, "size": 65536}]);
    for spec in [&pause, &container] {
        assert_eq!((&spec["linux"]["uidMappings"], &spec["linux"]["gidMappings"]), (&mappings, &mappings));
    }
    assert_eq!(mount_at(&container, "/etc/hosts").unwrap()["uidMappings"], mappings);
    assert_eq!(mount_at(&container, "/data").unwrap()["uidMappings"], mappings);
    assert_eq!(mount_at(&container, "/dev/shm").unwrap()["uidMappings"], Value::Null);
    assert_eq!(pause["linux"]["sysctl"], json!({"net.ipv4.ip_unprivileged_port_start": "0"}));

    bench.host_network = true;
    bench.pod_security().namespace_options = Some(cri::NamespaceOption { network: 2, ..options });
    for spec in [bench.pause().unwrap(), bench.container().unwrap()] {
        assert_eq!(options_of_sys(&spec), json!(["rbind", "rro", "nosuid", "nodev", "noexec"]));
    }
}

fn options_of_sys(spec: &Value) -> Value {
    options(spec, "/sys")
}

#[test]
fn annotations_pass_by_the_handlers_patterns_and_never_hide_the_pods() {
    let mut bench = Bench::new();
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    bench.pod.annotations =
        map(&[("run.oci/a", "pod"), ("other/a", "x"), ("io.kubernetes.cri.sandbox-id", "fake")]);
    bench.config.annotations = map(&[("run.oci/a", "container"), ("run.oci/b", "y")]);
    bench.handler.pod_annotations = vec!["run.oci/*".into(), "io.*".into()];
    bench.handler.container_annotations = vec!["run.oci/[ab]".into()];
    let (pause, container) = (bench.pause().unwrap(), bench.container().unwrap());
    assert_eq!(pause["annotations"]["run.oci/a"], "pod");
    assert_eq!(
        (&container["annotations"]["run.oci/a"], &container["annotations"]["run.oci/b"]),
        (&json!("container"), &json!("y"))
    );
    for spec in [pause, container] {
        assert_eq!(spec["annotations"]["other/a"], Value::Null);
        assert_eq!(spec["annotations"]["io.kubernetes.cri.sandbox-id"], "a".repeat(64));
    }
    bench.pod_linux().resources =
        Some(cri::LinuxContainerResources { cpu_quota: -1, memory_limit_in_bytes: 7, ..Default::default() });
    let pause = bench.pause().unwrap();
    for (key, value) in [("cpu-period", "0"), ("cpu-quota", "-1"), ("cpu-shares", "0"), ("memory", "7")] {
        assert_eq!(pause["annotations"][format!("io.kubernetes.cri.sandbox-{key}")], value);
    }
}

#[test]
fn a_handlers_base_spec_takes_the_defaults_place() {
    let mut bench = Bench::new();
    bench.base = Some(
        serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {}, "env": ["BASE=1"], "capabilities": {"bounding": ["CAP_KILL"]},
                        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 9}], "apparmorProfile": "of-base"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/run", "type": "tmpfs"}],
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG"}, "maskedPaths": ["/x"]},
        }))
        .unwrap(),
    );
    let spec = bench.container().unwrap();
    assert_eq!(spec["ociVersion"], "1.0.2");
    assert_eq!(spec["process"]["env"][0], "BASE=1");
    assert_eq!(spec["process"]["rlimits"][0]["hard"], 9);
    assert_eq!(spec["process"]["apparmorProfile"], "of-base");
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_KILL"]));
    assert_eq!(spec["linux"]["seccomp"], json!({"defaultAction": "SCMP_ACT_LOG"}));
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    assert!(mount_at(&spec, "/run").is_none() && mount_at(&spec, "/proc").is_some());
    assert_eq!(namespace(&spec, "network").unwrap(), "/proc/42/ns/net");

    bench.pod_security().privileged = true;
    bench.security().privileged = true;
    let spec = bench.container().unwrap();
    assert_eq!(
        (&spec["process"]["apparmorProfile"], &spec["linux"]["seccomp"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn an_empty_request_makes_a_spec_or_a_named_error_but_no_panic() {
    let mut bench = Bench::new();
    bench.pod = Default::default();
    bench.config = Default::default();
    assert_eq!(bench.pause().unwrap()["linux"]["cgroupsPath"], format!("/k8s.io/{}", "a".repeat(64)));
    assert_eq!(bench.container().unwrap()["process"]["env"][1], "HOSTNAME=node");
    bench.image = ImageConfig::default();
    bench.refused("config.command");
    bench.pause_refused("pause image");
}

#[test]
fn a_pauses_names_and_settings_are_checked() {
    let mut bench = Bench::new();
    for hostname in ["a".repeat(65), "a\0".into()] {
        bench.pod.hostname = hostname;
        bench.pause_refused("config.hostname");
    }
    bench.pod.hostname.clear();
    assert_eq!(bench.pause().unwrap()["hostname"], Value::Null);
    bench.pod_linux().sysctls = [("vm.swappiness".to_owned(), "1".to_owned())].into();
    bench.pause_refused("config.linux.sysctls[\"vm.swappiness\"]");
    // A VM has a kernel of its own.
    bench.handler.runtime_type = "io.containerd.kata.v2".into();
    assert_eq!(bench.pause().unwrap()["linux"]["sysctl"]["vm.swappiness"], "1");

    bench.pod_security().run_as_group = Some(cri::Int64Value { value: 5 });
    bench.pause_refused(&format!("{CONTEXT}.run_as_group"));
    bench.pod_security().run_as_user = Some(cri::Int64Value { value: 7 });
    bench.pod_security().supplemental_groups = vec![9];
    let user = json!({"uid": 7, "gid": 5, "additionalGids": [5, 9]});
    assert_eq!(bench.pause().unwrap()["process"]["user"], user);
}
