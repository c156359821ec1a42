use proptest::prelude::*;

use super::*;

fn v1_mounts(root: &str) -> Vec<MountInfo> {
    let file = format!(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
         32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         36 31 0:32 /other /var/elsewhere rw - cgroup cgroup rw,memory\n\
         40 31 0:37 {root} /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    );
    crate::linux::mountinfo::parse(file.as_bytes()).unwrap()
}

fn folders_in(hierarchies: &[Hierarchy], path: &str) -> Vec<String> {
    let path = CgroupsPath::parse(path);
    path.iter().flat_map(|path| hierarchies.iter().map(|h| h.folder_of(path).display().to_string())).collect()
}

#[test]
fn every_v1_hierarchy_has_a_folder() {
    let own = "9:name=systemd:/\n4:memory:/own\n1:cpu,cpuacct:/\n0::/\n";
    let init = "4:memory:/init.scope\n1:cpu,cpuacct:/\n";
    let hierarchies = hierarchies_of(&v1_mounts("/"), own, init);
    assert_eq!(
        folders_in(&hierarchies, "/kubepods/pod1/abc"),
        [
            "/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/abc",
            "/sys/fs/cgroup/memory/kubepods/pod1/abc",
            "/sys/fs/cgroup/systemd/kubepods/pod1/abc"
        ]
    );
    assert_eq!(folders_in(&hierarchies, "rel/x")[1], "/sys/fs/cgroup/memory/own/rel/x");
    assert_eq!(
        folders_in(&hierarchies, "kubepods-burstable-pod_1.slice:cri-containerd:abc")[1],
        "/sys/fs/cgroup/memory/kubepods.slice/kubepods-burstable.slice/\
         kubepods-burstable-pod_1.slice/cri-containerd-abc.scope"
    );
}

#[test]
fn a_node_that_is_itself_a_container_sees_its_own_part_only() {
    let own = "4:memory:/docker/abc/kubelet\n1:cpu,cpuacct:/docker/abc\n";
    let hierarchies = hierarchies_of(&v1_mounts("/docker/abc"), own, own);
    assert_eq!(folders_in(&hierarchies, "rel")[1], "/sys/fs/cgroup/memory/kubelet/rel");
    assert_eq!(folders_in(&hierarchies, "/k8s.io/x")[1], "/sys/fs/cgroup/memory/k8s.io/x");
}

#[test]
fn slices_nest_and_bad_ones_are_refused() {
    let slices = |s: &str| expand_slice(s).map(|p| p.display().to_string());
    assert_eq!(slices("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
    assert_eq!(slices("system.slice").unwrap(), "system.slice");
    assert_eq!(slices("-.slice").unwrap(), "");
    for bad in ["a--b.slice", "-a.slice", "a-.slice", ".slice", "a.scope", ""] {
        assert_eq!(slices(bad), None, "{bad:?}");
    }
}

#[test]
fn units_are_named_as_runc_names_them() {
    assert_eq!(unit_name("cri-containerd", "id"), "cri-containerd-id.scope");
    assert_eq!(unit_name("", "id"), "id.scope");
    assert_eq!(unit_name("p", "id.slice"), "id.slice");
    assert!(matches!(CgroupsPath::parse(":p:n"), Some(CgroupsPath::Systemd { slices, .. })
        if slices == Path::new("system.slice")));
}

#[test]
fn oom_kills_are_counted_in_both_forms() {
    assert_eq!(count_of("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n", "oom_kill"), Some(1));
    assert_eq!(count_of("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    assert_eq!(count_of("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"), None);
}

#[test]
fn this_nodes_root_can_be_asked_and_a_missing_cgroup_is_not_found() {
    assert!(!controllers().is_empty());
    assert!(!folders("/cridge-test-missing").is_empty());
    assert_eq!(oom_kills("/cridge-test-missing").unwrap_err().kind(), crate::error::Kind::NotFound);
    assert_eq!(oom_kills("").unwrap_err().kind(), crate::error::Kind::NotFound);
}

proptest! {
    #[test]
    fn no_path_leads_out_of_the_tree(path in any::<String>()) {
        for folder in folders(&path) {
            prop_assert!(folder.starts_with(ROOT), "{folder:?}");
            prop_assert!(!folder.components().any(|c| c == std::path::Component::ParentDir), "{folder:?}");
        }
    }

    #[test]
    fn climbing_paths_stay(path in "[/.a:]{0,20}(\\.slice)?") {
        for folder in folders(&path) {
            prop_assert!(folder.starts_with(ROOT) && !folder.to_string_lossy().contains("/../"), "{folder:?}");
        }
    }
}

#[test]
fn a_controller_has_its_own_folder_on_v1_and_shares_one_on_v2() {
    let own = "4:memory:/own\n1:cpu,cpuacct:/\n0::/me\n";
    let legacy = Trees(Mounted::Legacy(hierarchies_of(&v1_mounts("/"), own, own)));
    let folder = |trees: &Trees, path: &str, controller: &str| {
        trees.of(path)?.of(controller).map(|folder| folder.display().to_string())
    };
    assert_eq!(folder(&legacy, "/a/b", "cpuacct").unwrap(), "/sys/fs/cgroup/cpu,cpuacct/a/b");
    assert_eq!(folder(&legacy, "/a/b", "memory").unwrap(), "/sys/fs/cgroup/memory/a/b");
    assert_eq!(folder(&legacy, "/a/b", "hugetlb"), None);
    assert_eq!(folder(&legacy, "", "memory"), None);
    let unified = Trees(Mounted::Unified { own: "me".into() });
    assert_eq!(folder(&unified, "/a/b", "memory").unwrap(), "/sys/fs/cgroup/a/b");
    assert_eq!(folder(&unified, "a/b", "io").unwrap(), "/sys/fs/cgroup/me/a/b");
    assert_eq!(folder(&unified, "a.slice:p:n", "io").unwrap(), "/sys/fs/cgroup/a.slice/p-n.scope");
}

#[test]
fn a_pods_slice_is_found_by_its_name_alone() {
    let trees = Trees(Mounted::Unified { own: "me".into() });
    let of = |parent: &str| match trees.of_parent(parent) {
        Some(CgroupFolders::Unified(folder)) => folder.display().to_string(),
        other => format!("{other:?}"),
    };
    let slice = "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice";
    assert_eq!(of("kubepods-pod1.slice"), slice);
    assert_eq!(of("/kubepods.slice/kubepods-pod1.slice"), slice);
    assert_eq!(of("/kubepods/pod1"), "/sys/fs/cgroup/kubepods/pod1");
    assert_eq!(of(""), "None");
    assert_eq!(of("/a--b.slice"), "None");
}

#[test]
fn a_cgroup_of_somebody_else_is_not_cleared() {
    // The root has this very process, or all of the node's.
    assert!(clear("/", "0123").is_ok());
    assert!(Path::new(ROOT).is_dir());
    assert!(clear("/no/such/0123", "0123").is_ok());
}
