//! A stored spec read back in the CRI's words, for ContainerStatus.

use oci_spec::runtime::Spec;

use crate::proto::cri;

/// The user that a spec's process runs as (CRI `ContainerUser`).
pub fn user_of(spec: &Spec) -> Option<cri::ContainerUser> {
    let user = spec.process().as_ref()?.user();
    let groups = user.additional_gids().iter().flatten();
    Some(cri::ContainerUser {
        linux: Some(cri::LinuxContainerUser {
            uid: user.uid().into(),
            gid: user.gid().into(),
            supplemental_groups: groups.map(|&gid| gid.into()).collect(),
        }),
    })
}

/// The resources in a spec (CRI `ContainerResources`). What the spec leaves alone is zero.
pub fn resources_of(spec: &Spec) -> Option<cri::ContainerResources> {
    let linux = spec.linux().as_ref()?;
    let mut out = cri::LinuxContainerResources {
        oom_score_adj: spec
            .process()
            .as_ref()
            .and_then(|process| process.oom_score_adj())
            .unwrap_or(0)
            .into(),
        ..Default::default()
    };
    if let Some(resources) = linux.resources() {
        if let Some(cpu) = resources.cpu() {
            // Beyond what the CRI can say is beyond what it could have asked for.
            let signed =
                |value: Option<u64>| value.map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX));
            out.cpu_period = signed(cpu.period());
            out.cpu_quota = cpu.quota().unwrap_or(0);
            out.cpu_shares = signed(cpu.shares());
            out.cpuset_cpus = cpu.cpus().clone().unwrap_or_default();
            out.cpuset_mems = cpu.mems().clone().unwrap_or_default();
        }
        if let Some(memory) = resources.memory() {
            out.memory_limit_in_bytes = memory.limit().unwrap_or(0);
            out.memory_swap_limit_in_bytes = memory.swap().unwrap_or(0);
        }
        let pages = resources.hugepage_limits().iter().flatten();
        out.hugepage_limits = pages
            .map(|page| cri::HugepageLimit {
                page_size: page.page_size().clone(),
                limit: u64::try_from(page.limit()).unwrap_or(0),
            })
            .collect();
        out.unified = resources.unified().clone().unwrap_or_default();
    }
    Some(cri::ContainerResources { linux: Some(out), windows: None })
}

/// Where the process' cgroup is, as the spec names it (`cgroupsPath`); empty where it does not.
pub fn cgroups_path_of(spec: &Spec) -> String {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// The SELinux label of the container's files (`mountLabel`); empty where there is none.
pub fn mount_label_of(spec: &Spec) -> String {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
    label.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_back() {
        let spec: Spec = serde_json::from_str(
            r#"{"process":{"cwd":"/","user":{"uid":1,"gid":2,"additionalGids":[2,3]},"oomScoreAdj":-5},
                "linux":{"resources":{"cpu":{"shares":2,"quota":-1,"period":100000,"cpus":"0-1","mems":"0"},
                "memory":{"limit":64,"swap":128},"hugepageLimits":[{"pageSize":"2MB","limit":4}],
                "unified":{"memory.high":"5"}}}}"#,
        )
        .unwrap();
        let user = user_of(&spec).unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1, 2, vec![2, 3]));
        let found = resources_of(&spec).unwrap().linux.unwrap();
        let expected = cri::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 2,
            memory_limit_in_bytes: 64,
            oom_score_adj: -5,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 4 }],
            unified: [("memory.high".to_owned(), "5".to_owned())].into(),
            memory_swap_limit_in_bytes: 128,
        };
        assert_eq!(found, expected);

        let labelled: Spec = serde_json::from_str(r#"{"linux":{"mountLabel":"a:b:c"}}"#).unwrap();
        assert_eq!((mount_label_of(&labelled).as_str(), mount_label_of(&spec).as_str()), ("a:b:c", ""));
        let bare: Spec = serde_json::from_str("{}").unwrap();
        assert_eq!((user_of(&bare), resources_of(&bare)), (None, None));
    }
}
