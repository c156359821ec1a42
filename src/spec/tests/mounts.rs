//! Mounts and devices.

use super::*;

#[test]
fn the_configs_mounts_win_and_come_after_those_above_them() {
    let mut bench = Bench::new();
    for path in ["/a/b/c", "/dev", "/a//b/", "/z", "/etc/hosts/", "/proc"] {
        bench.mount(path);
    }
    let spec = bench.container().unwrap();
    let paths: Vec<_> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    // No default mounts below the given /dev, but the generated shm; the generated hosts is hidden.
    let expected = [
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/z",
        "/proc",
        "/data",
        "/a/b",
        "/etc/hosts",
        "/dev/shm",
        "/a/b/c",
    ];
    assert_eq!(paths, expected);
    assert_eq!(mount_at(&spec, "/etc/hosts").unwrap()["source"], "/src");
}

#[test]
fn container_paths_must_be_absolute() {
    for path in ["", "rel", "/a/../b", "..", "/", "/a\0b"] {
        let mut bench = Bench::new();
        bench.mount("/fine");
        bench.mount(path);
        let error = bench.refused("config.mounts[1].container_path");
        assert_eq!(error.kind(), crate::error::Kind::InvalidArgument);
    }
}

#[test]
fn propagation_needs_a_source_that_propagates() {
    use MountPropagation::{
        PropagationBidirectional as Both, PropagationHostToContainer as In, PropagationPrivate as No,
    };
    use Propagation::{Private, Shared, SharedSlave, Slave};
    for (asked, source, option, root) in [
        (No, Private, Some("rprivate"), Value::Null),
        (In, Private, None, Value::Null),
        (In, Slave, Some("rslave"), json!("rslave")),
        (In, Shared, Some("rslave"), json!("rslave")),
        (Both, Private, None, Value::Null),
        (Both, Slave, None, Value::Null),
        (Both, SharedSlave, Some("rshared"), json!("rshared")),
    ] {
        let mut bench = Bench::new();
        let prepared = bench.mount("/m");
        prepared.mount.propagation = asked.into();
        prepared.source_propagation = source;
        match option {
            Some(option) => {
                let spec = bench.container().unwrap();
                assert_eq!(options(&spec, "/m"), json!(["rbind", option, "rw"]));
                assert_eq!(spec["linux"]["rootfsPropagation"], root);
            }
            None => assert_eq!(
                bench.refused("config.mounts[0].propagation").kind(),
                crate::error::Kind::FailedPrecondition
            ),
        }
    }
    let mut bench = Bench::new();
    for propagation in [Both, In] {
        let prepared = bench.mount("/m");
        prepared.mount.propagation = propagation.into();
        prepared.source_propagation = Shared;
    }
    assert_eq!(bench.container().unwrap()["linux"]["rootfsPropagation"], "rshared");
    bench.mount("/n").mount.propagation = 9;
    bench.refused("config.mounts[2].propagation");
}

#[test]
fn read_only_mounts_are_what_the_handler_can_do() {
    let mut bench = Bench::new();
    let mount = &mut bench.mount("/m").mount;
    mount.readonly = true;
    mount.mount_options = vec!["noexec".into(), "nodev".into()];
    assert_eq!(
        options(&bench.container().unwrap(), "/m"),
        json!(["rbind", "rprivate", "ro", "noexec", "nodev"])
    );

    bench.mounts[0].mount.mount_options = vec!["noexec".into(), "suid".into()];
    bench.refused("config.mounts[0].mount_options[1]");
    bench.mounts[0].mount.mount_options.clear();

    let field = "config.mounts[0].recursive_read_only";
    bench.mounts[0].mount.recursive_read_only = true;
    let error = bench.refused(field);
    assert!(error.to_string().starts_with("RROUnsupported: "), "{error}");
    bench.recursive_read_only = true;
    assert_eq!(options(&bench.container().unwrap(), "/m"), json!(["rbind", "rprivate", "rro"]));
    bench.mounts[0].mount.propagation = 1;
    bench.mounts[0].source_propagation = Propagation::Shared;
    bench.refused(field);
    bench.mounts[0].mount.readonly = false;
    bench.refused(field);
}

#[test]
fn images_are_mounted_read_only_and_without_a_host_path() {
    let mut bench = Bench::new();
    let mount = &mut bench.mount("/m").mount;
    mount.image = Some(Default::default());
    mount.readonly = true;
    bench.refused("config.mounts[0].host_path");
    bench.mounts[0].mount.host_path.clear();
    assert_eq!(mount_at(&bench.container().unwrap(), "/m").unwrap()["source"], "/src");
    bench.mounts[0].mount.readonly = false;
    bench.refused("config.mounts[0].readonly");
}

#[test]
fn a_read_only_root_covers_the_pods_files_but_not_volumes_and_shm() {
    let mut bench = Bench::new();
    bench.security().readonly_rootfs = true;
    let spec = bench.container().unwrap();
    assert_eq!(spec["root"]["readonly"], true);
    for (path, access) in [("/etc/hosts", "ro"), ("/dev/shm", "rw"), ("/data", "rw")] {
        assert_eq!(options(&spec, path), json!(["rbind", "rprivate", access]), "{path}");
    }
}

#[test]
fn a_source_that_json_cannot_carry_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bench = Bench::new();
    bench.mount("/m").source = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
    bench.refused("config.mounts[0].host_path");
}

#[test]
fn devices_come_with_their_rules() {
    let mut bench = Bench::new();
    bench
        .devices
        .push(PreparedDevice { nodes: vec![fuse("/dev/a"), fuse("/dev/b")], permissions: "rw".into() });
    bench.security().run_as_user = Some(cri::Int64Value { value: 33 });
    let spec = bench.container().unwrap();
    let node = |path| json!({"path": path, "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2});
    assert_eq!(spec["linux"]["devices"], json!([node("/dev/a"), node("/dev/b")]));
    let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"});
    let none = json!({"allow": false, "access": "rwm"});
    assert_eq!(spec["linux"]["resources"]["devices"], json!([none, rule, rule]));

    bench.runtime.device_ownership_from_security_context = true;
    let spec = bench.container().unwrap();
    assert_eq!(
        (&spec["linux"]["devices"][0]["uid"], &spec["linux"]["devices"][0]["gid"]),
        (&json!(33), &json!(2))
    );

    for permissions in ["", "rwx", "RW"] {
        bench.devices[0].permissions = permissions.into();
        bench.refused("config.devices[0].permissions");
    }
}
