//! Limits and weights.

use super::*;

#[test]
fn resources_are_set_where_given() {
    let mut bench = Bench::new();
    *bench.resources() = cri::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 512,
        memory_limit_in_bytes: 64,
        oom_score_adj: -900,
        cpuset_cpus: "0-1,3".into(),
        cpuset_mems: "0".into(),
        hugepage_limits: vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 8 }],
        ..Default::default()
    };
    bench.node.oom_score_floor = -500;
    let found = |bench: &Bench| bench.container().unwrap()["linux"]["resources"].clone();
    let cpu = json!({"shares": 512, "quota": -1, "period": 100000, "cpus": "0-1,3", "mems": "0"});
    let rules = json!([{"allow": false, "access": "rwm"}]);
    // Huge pages are off by default; swap defaults to the memory limit.
    let expected = json!({"devices": rules, "cpu": cpu, "memory": {"limit": 64, "swap": 64}});
    assert_eq!(found(&bench), expected);
    assert_eq!(bench.container().unwrap()["process"]["oomScoreAdj"], -500);

    bench.node.swap_controller = false;
    assert_eq!(found(&bench)["memory"], json!({"limit": 64}));
    bench.node.swap_controller = true;
    bench.resources().memory_swap_limit_in_bytes = 128;
    assert_eq!(found(&bench)["memory"], json!({"limit": 64, "swap": 128}));

    bench.runtime.disable_hugetlb_controller = false;
    assert_eq!(found(&bench)["hugepageLimits"], Value::Null);
    bench.runtime.tolerate_missing_hugetlb_controller = false;
    bench.refused("config.linux.resources.hugepage_limits");
    bench.node.controllers.push("hugetlb".into());
    assert_eq!(found(&bench)["hugepageLimits"], json!([{"pageSize": "2MB", "limit": 8}]));

    bench.resources().unified = [("memory.high".to_owned(), "5".to_owned())].into();
    bench.refused("config.linux.resources.unified");
    bench.node.cgroup_mode = CgroupMode::Unified;
    assert_eq!(found(&bench)["unified"], json!({"memory.high": "5"}));
}

#[test]
fn resources_that_cannot_be_are_refused() {
    type Set = fn(&mut cri::LinuxContainerResources);
    let cases: [(&str, Set); 13] = [
        ("cpu_period", |r| r.cpu_period = -1),
        ("cpu_quota", |r| r.cpu_quota = -2),
        ("cpu_shares", |r| r.cpu_shares = -5),
        ("memory_limit_in_bytes", |r| r.memory_limit_in_bytes = -2),
        ("memory_swap_limit_in_bytes", |r| r.memory_swap_limit_in_bytes = i64::MIN),
        ("memory_swap_limit_in_bytes", |r| (r.memory_limit_in_bytes, r.memory_swap_limit_in_bytes) = (9, 8)),
        ("oom_score_adj", |r| r.oom_score_adj = 1001),
        ("oom_score_adj", |r| r.oom_score_adj = i64::MIN),
        ("cpuset_cpus", |r| r.cpuset_cpus = "a".into()),
        ("cpuset_mems", |r| r.cpuset_mems = "0\0".into()),
        ("unified[\"a/b\"]", |r| r.unified = [("a/b".to_owned(), "1".to_owned())].into()),
        ("hugepage_limits[0].page_size", |r| {
            r.hugepage_limits = vec![cri::HugepageLimit { page_size: "../2MB".into(), limit: 1 }];
        }),
        ("hugepage_limits[0].limit", |r| {
            r.hugepage_limits = vec![cri::HugepageLimit { page_size: "2MB".into(), limit: u64::MAX }];
        }),
    ];
    for (field, set) in cases {
        let mut bench = Bench::new();
        bench.node.cgroup_mode = CgroupMode::Unified;
        bench.node.controllers.push("hugetlb".into());
        bench.runtime.disable_hugetlb_controller = false;
        set(bench.resources());
        bench.refused(&format!("config.linux.resources.{field}"));
    }
}

#[test]
fn classes_are_in_the_spec() {
    let mut bench = Bench::new();
    let linux = |bench: &Bench| bench.container().unwrap()["linux"].clone();
    assert_eq!(
        (&linux(&bench)["intelRdt"], &linux(&bench)["resources"]["blockIO"]),
        (&Value::Null, &Value::Null)
    );
    let mut block_io = oci_spec::runtime::LinuxBlockIo::default();
    block_io.set_weight(Some(80));
    (bench.block_io, bench.rdt_class) = (Some(block_io), Some("gold".into()));
    assert_eq!(linux(&bench)["resources"]["blockIO"], json!({"weight": 80}));
    assert_eq!(linux(&bench)["intelRdt"], json!({"closID": "gold"}));
}
