//! AppArmor, SELinux and seccomp.

use super::*;

#[test]
fn apparmor_profiles_are_refused_where_there_is_none() {
    let default = json!(DEFAULT_APPARMOR_PROFILE);
    let profile =
        |kind: i32, name: &str| cri::SecurityProfile { profile_type: kind, localhost_ref: name.into() };
    for (asked, privileged, expected) in [
        (None, false, default.clone()),
        (None, true, Value::Null),
        (Some(profile(0, "")), false, default.clone()),
        (Some(profile(0, "")), true, Value::Null),
        (Some(profile(1, "")), false, Value::Null),
        (Some(profile(2, "localhost/mine")), false, json!("mine")),
        (Some(profile(2, "mine")), true, json!("mine")),
    ] {
        let mut bench = Bench::new();
        bench.pod_security().privileged = true;
        bench.security().privileged = privileged;
        bench.security().apparmor = asked.clone();
        bench.node.apparmor = true;
        assert_eq!(bench.container().unwrap()["process"]["apparmorProfile"], expected, "{asked:?}");

        bench.node.apparmor = false;
        match asked {
            Some(profile) if profile.profile_type != 1 => {
                let error = bench.refused(&format!("{CONTEXT}.apparmor"));
                assert_eq!(error.kind(), crate::error::Kind::FailedPrecondition);
            }
            _ => assert_eq!(bench.container().unwrap()["process"]["apparmorProfile"], Value::Null),
        }
    }
}

#[test]
fn labels_are_set_where_the_node_has_selinux() {
    let mut bench = Bench::new();
    for (selinux, process, mount) in
        [(false, Value::Null, Value::Null), (true, json!("process_label"), json!("mount_label"))]
    {
        bench.node.selinux = selinux;
        for spec in [bench.pause().unwrap(), bench.container().unwrap()] {
            assert_eq!((&spec["process"]["selinuxLabel"], &spec["linux"]["mountLabel"]), (&process, &mount));
        }
    }
}

/// The rules of a filter that name a system call.
fn rules<'a>(spec: &'a Value, call: &str) -> Vec<&'a Value> {
    let all = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    all.iter().filter(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call)).collect()
}

#[test]
fn the_default_filter_depends_on_the_capabilities() {
    let mut bench = Bench::new();
    bench.security().seccomp = Some(Default::default());
    let spec = bench.container().unwrap();
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(rules(&spec, "mount"), [] as [&Value; 0]);
    assert_eq!(rules(&spec, "chroot").len(), 1);
    assert_eq!(rules(&spec, "read").len(), 1);
    let no_namespaces =
        json!([{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
    assert_eq!(rules(&spec, "clone")[0]["args"], no_namespaces);
    assert_eq!(
        (&rules(&spec, "clone3")[0]["action"], &rules(&spec, "clone3")[0]["errnoRet"]),
        (&json!("SCMP_ACT_ERRNO"), &json!(38))
    );
    assert_eq!(rules(&spec, "socket").len(), 7);
    assert_eq!(rules(&spec, "personality").len(), 5);
    assert_eq!(rules(&spec, "ptrace").len(), 1);

    bench.node.kernel = (4, 4);
    bench.security().capabilities =
        Some(cri::Capability { add_capabilities: vec!["SYS_ADMIN".into()], ..Default::default() });
    let spec = bench.container().unwrap();
    assert_eq!(rules(&spec, "ptrace").len(), 0);
    assert_eq!(rules(&spec, "mount").len(), 1);
    assert_eq!((rules(&spec, "clone").len(), &rules(&spec, "clone")[0]["args"]), (1, &Value::Null));
}

#[test]
fn seccomp_is_what_was_asked_for_last() {
    let mut bench = Bench::new();
    let filtered = |bench: &Bench| {
        [bench.pause(), bench.container()].map(|spec| !spec.unwrap()["linux"]["seccomp"].is_null())
    };
    assert_eq!(filtered(&bench), [false, false]);
    bench.runtime.unset_seccomp_profile = Some("runtime/default".into());
    assert_eq!(filtered(&bench), [true, true]);
    #[allow(deprecated)]
    {
        bench.security().seccomp_profile_path = "unconfined".into();
        bench.pod_security().seccomp_profile_path = "unconfined".into();
    }
    assert_eq!(filtered(&bench), [false, false]);
    bench.security().seccomp = Some(Default::default());
    bench.pod_security().seccomp = Some(Default::default());
    assert_eq!(filtered(&bench), [true, true]);
    bench.node.seccomp = false;
    bench.refused(&format!("{CONTEXT}.seccomp"));
    bench.pause_refused(&format!("{CONTEXT}.seccomp"));
}

#[test]
fn a_profile_of_the_node_is_read_from_what_the_caller_found() {
    let mut bench = Bench::new();
    let profile = cri::SecurityProfile { profile_type: 2, localhost_ref: "localhost//p.json".into() };
    bench.security().seccomp = Some(profile);
    assert_eq!(seccomp_path(&bench.config, &bench.runtime), Ok(Some("/p.json")));
    assert_eq!(pause_seccomp_path(&bench.pod, &bench.runtime), Ok(None));
    bench.refused(&format!("{CONTEXT}.seccomp"));
    bench.security().seccomp.as_mut().unwrap().localhost_ref = "p.json".into();
    bench.profile = Some("{}".into());
    assert!(bench.refused(&format!("{CONTEXT}.seccomp")).to_string().contains("absolute"));
    bench.security().seccomp.as_mut().unwrap().localhost_ref = "/p.json".into();
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"defaultAction":"SCMP_ACT_NONE"}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}"#,
    ] {
        bench.profile = Some(bad.into());
        let error = bench.refused(&format!("{CONTEXT}.seccomp"));
        assert!(error.to_string().contains("/p.json"), "{error}");
    }
    // An OCI document, as Go writes one.
    let oci = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "flags": null,
        "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": null}],
    });
    bench.profile = Some(oci.to_string().into());
    let spec = bench.container().unwrap();
    assert_eq!(rules(&spec, "chmod"), [&json!({"names": ["chmod"], "action": "SCMP_ACT_ERRNO"})]);
    assert_eq!(spec["linux"]["seccomp"]["architectures"], json!(["SCMP_ARCH_X86_64"]));
}

#[test]
fn the_conditions_of_dockers_profiles_hold() {
    let mut bench = Bench::new();
    bench.security().seccomp = Some(cri::SecurityProfile { profile_type: 2, localhost_ref: "/p".into() });
    let rule = |name: &str, includes: Value, excludes: Value| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], "includes": includes, "excludes": excludes});
    let none = || json!({});
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [
            rule("always", none(), none()),
            rule("admin", json!({"caps": ["CAP_SYS_ADMIN"]}), none()),
            rule("chown", json!({"caps": ["CAP_CHOWN"]}), none()),
            rule("no_chown", none(), json!({"caps": ["CAP_CHOWN"]})),
            rule("new", json!({"minKernel": "4.8"}), none()),
            rule("newer", json!({"minKernel": "6.2"}), none()),
            rule("other", json!({"arches": ["s390x"]}), none()),
            rule("this", json!({"arches": ["amd64", "arm64"]}), none()),
            {"name": "single", "action": "SCMP_ACT_ALLOW", "args": null},
        ],
    });
    bench.profile = Some(profile.to_string().into());
    let spec = bench.container().unwrap();
    let found: Vec<_> = spec["linux"]["seccomp"]["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["names"][0].as_str().unwrap())
        .collect();
    assert_eq!(found, ["always", "chown", "new", "this", "single"]);
    assert_eq!(spec["linux"]["seccomp"]["architectures"].as_array().unwrap().len(), 2);
}
