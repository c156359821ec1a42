//! A spec that containerd keeps, and its change: UpdateContainerResources. Pure.
//!
//! What is not to be changed stays as whoever wrote it had it, known here or not.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxResources, Spec};
use serde::de::Error as _;
use serde_json::Value;

use super::base::parsed;
use super::resources::Wanted;
use super::{NodeFacts, SpecError, resources_of};
use crate::config::RuntimeConfig;
use crate::linux::cgroup::CgroupMode;
use crate::proto::cri;

/// Where UpdateContainerResources has the new values.
const AT: &str = "linux";

/// Of `cpu.shares`, and microseconds of `cpu.cfs_period_us` (Documentation/scheduler/sched-bwc.rst).
const DEFAULT_SHARES: u64 = 1024;
const DEFAULT_PERIOD: u64 = 100_000;
/// No limit, in bytes or microseconds.
const UNLIMITED: i64 = -1;

/// A container's spec out of its record.
#[derive(Clone, Debug)]
pub struct StoredSpec {
    json: Value,
    spec: Spec,
}

impl StoredSpec {
    /// # Errors
    /// Bytes that are no OCI spec.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let json: Value = serde_json::from_slice(json)?;
        // Also taken for a struct: a list of its fields, which no spec is.
        for part in ["", "/linux", "/process"] {
            if !matches!(json.pointer(part), None | Some(Value::Object(_))) {
                return Err(serde_json::Error::custom(format!("{part:?} of it is no object")));
            }
        }
        Ok(Self { spec: serde_json::from_value(json.clone())?, json })
    }

    /// The spec with the given resources in place of its own; zero and empty values leave them.
    ///
    /// # Errors
    /// Values that cannot be, or not on this node.
    pub fn with(
        &self,
        resources: &cri::LinuxContainerResources,
        runtime: &RuntimeConfig,
        node: &NodeFacts,
    ) -> Result<Self, SpecError> {
        let wanted = Wanted { at: AT, resources, runtime, node };
        let mut changed = self.clone();
        let mut all = self.resources();
        wanted.apply(&mut all)?;
        changed.json["linux"]["resources"] = json_of(&all);
        changed.spec.linux_mut().get_or_insert_with(|| parsed("{}")).set_resources(Some(all));
        let score = wanted.oom_score_adj()?;
        if let Some(process) = changed.spec.process_mut()
            && resources.oom_score_adj != 0
        {
            process.set_oom_score_adj(Some(score));
            changed.json["process"]["oomScoreAdj"] = score.into();
        }
        Ok(changed)
    }

    /// The bytes for the record.
    pub fn to_json(&self) -> Vec<u8> {
        self.json.to_string().into_bytes()
    }

    /// What a running task is to be told, where its spec was `before`: everything, since runc sets what it is told and
    /// forgets the rest. Huge pages, which it passes over, become files of cgroup v2.
    ///
    /// # Errors
    /// For huge pages on cgroup v1.
    pub fn for_task(&self, before: &Self, node: &NodeFacts) -> Result<Vec<u8>, SpecError> {
        let mut resources = self.resources();
        let pages = resources.hugepage_limits().clone().unwrap_or_default();
        if self.resources().hugepage_limits() != before.resources().hugepage_limits() {
            if node.cgroup_mode != CgroupMode::Unified {
                return Err(SpecError::unsupported(
                    format!("{AT}.hugepage_limits"),
                    "cannot be changed while the container runs: runtimes do that on cgroup v2 only",
                ));
            }
            let files: HashMap<_, _> = pages
                .iter()
                .map(|page| (format!("hugetlb.{}.max", page.page_size()), page.limit().to_string()))
                .collect();
            resources.unified_mut().get_or_insert_default().extend(files);
        }
        Ok(json_of(&resources).to_string().into_bytes())
    }

    /// What a task is to be told that was on its way from this spec to `after` and broke down: runc leaves what it had
    /// set. Where this spec says nothing, the kernel's own default, so far as there is one.
    pub fn for_task_again(&self, after: &Self) -> Vec<u8> {
        let mut resources = self.resources();
        let tried = after.resources();
        let (mut cpu, tried_cpu) =
            (resources.cpu().clone().unwrap_or_default(), tried.cpu().clone().unwrap_or_default());
        cpu.set_shares(cpu.shares().or(tried_cpu.shares().map(|_| DEFAULT_SHARES)));
        cpu.set_quota(cpu.quota().or(tried_cpu.quota().map(|_| UNLIMITED)));
        cpu.set_period(cpu.period().or(tried_cpu.period().map(|_| DEFAULT_PERIOD)));
        let (mut memory, tried_memory) =
            (resources.memory().unwrap_or_default(), tried.memory().unwrap_or_default());
        memory.set_limit(memory.limit().or(tried_memory.limit().map(|_| UNLIMITED)));
        memory.set_swap(memory.swap().or(tried_memory.swap().map(|_| UNLIMITED)));
        resources.set_cpu(Some(cpu));
        resources.set_memory(Some(memory));
        json_of(&resources).to_string().into_bytes()
    }

    /// The OOM killer's preference, where the spec has one.
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.spec.process().as_ref().and_then(|process| process.oom_score_adj())
    }

    /// The resources in the CRI's words.
    pub fn report(&self) -> Option<cri::ContainerResources> {
        resources_of(&self.spec)
    }

    fn resources(&self) -> LinuxResources {
        let linux = self.spec.linux().as_ref();
        linux.and_then(|linux| linux.resources().clone()).unwrap_or_default()
    }
}

fn json_of(resources: &LinuxResources) -> Value {
    serde_json::to_value(resources).expect("resources have only string keys")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(cgroup_mode: CgroupMode) -> NodeFacts {
        NodeFacts {
            hostname: "node".into(),
            cgroup_mode,
            controllers: vec!["memory".into(), "hugetlb".into()],
            swap_controller: true,
            cgroup2_options: Vec::new(),
            kernel: (6, 1),
            containerd_caps: crate::linux::caps::CapSet(0),
            oom_score_floor: -500,
            apparmor: false,
            selinux: false,
            seccomp: true,
            knows_sandboxes: false,
        }
    }

    fn runtime() -> RuntimeConfig {
        RuntimeConfig { disable_hugetlb_controller: false, ..Default::default() }
    }

    /// With keys that only a newer writer knows.
    fn stored() -> Value {
        json!({
            "ociVersion": "9.9", "novel": {"a": [1]},
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 7, "novel": true},
            "linux": {
                "novel": 18446744073709551615u64,
                "resources": {
                    "devices": [{"allow": false, "access": "rwm"}],
                    "cpu": {"shares": 512, "quota": 20000, "period": 100000, "cpus": "0-3"},
                    "memory": {"limit": 64, "swap": 128},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 4}, {"pageSize": "1GB", "limit": 8}],
                    "unified": {"memory.high": "5", "pids.max": "9"}
                }
            }
        })
    }

    fn whole() -> StoredSpec {
        StoredSpec::parse(stored().to_string().as_bytes()).unwrap()
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    /// Checks the whole outcome: the stored spec, but for what is at these places.
    #[track_caller]
    fn changes(wanted: cri::LinuxContainerResources, expected: &[(&str, Value)]) {
        let changed = whole().with(&wanted, &runtime(), &node(CgroupMode::Unified)).unwrap();
        let mut whole = stored();
        for (place, value) in expected {
            *whole.pointer_mut(place).unwrap() = value.clone();
        }
        assert_eq!(json(&changed.to_json()), whole, "{wanted:?}");
    }

    #[test]
    fn what_is_given_changes_and_all_else_stays() {
        let nothing = cri::LinuxContainerResources::default;
        let with = |set: fn(&mut cri::LinuxContainerResources)| {
            let mut wanted = nothing();
            set(&mut wanted);
            wanted
        };
        changes(nothing(), &[]);
        // As the kubelet's CPU manager sends it.
        changes(with(|r| r.cpuset_cpus = "1".into()), &[("/linux/resources/cpu/cpus", json!("1"))]);
        changes(with(|r| r.cpu_quota = -1), &[("/linux/resources/cpu/quota", json!(-1))]);
        changes(
            with(|r| (r.cpu_shares, r.cpu_period) = (2, 50000)),
            &[("/linux/resources/cpu/shares", json!(2)), ("/linux/resources/cpu/period", json!(50000))],
        );
        // A new limit brings its own swap limit: none beyond it.
        changes(
            with(|r| r.memory_limit_in_bytes = 256),
            &[("/linux/resources/memory", json!({"limit": 256, "swap": 256}))],
        );
        changes(
            with(|r| r.memory_swap_limit_in_bytes = -1),
            &[("/linux/resources/memory", json!({"limit": 64, "swap": -1}))],
        );
        changes(
            with(|r| r.hugepage_limits = vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 6 }]),
            &[(
                "/linux/resources/hugepageLimits",
                json!([{"pageSize": "1GB", "limit": 8}, {"pageSize": "2MB", "limit": 6}]),
            )],
        );
        changes(
            with(|r| r.unified = [("memory.high".to_owned(), "max".to_owned())].into()),
            &[("/linux/resources/unified", json!({"memory.high": "max", "pids.max": "9"}))],
        );
        changes(with(|r| r.oom_score_adj = 900), &[("/process/oomScoreAdj", json!(900))]);
        // No lower than containerd may give.
        changes(with(|r| r.oom_score_adj = -997), &[("/process/oomScoreAdj", json!(-500))]);
    }

    #[test]
    fn a_spec_without_resources_gets_them() {
        let wanted =
            cri::LinuxContainerResources { memory_limit_in_bytes: 5, oom_score_adj: 3, ..Default::default() };
        let bare = br#"{"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}}}"#;
        let bare = StoredSpec::parse(bare).unwrap();
        let changed = bare.with(&wanted, &runtime(), &node(CgroupMode::Legacy)).unwrap();
        let found = changed.report().unwrap().linux.unwrap();
        assert_eq!((found.memory_limit_in_bytes, found.oom_score_adj), (5, 3));
        assert_eq!(StoredSpec::parse(&changed.to_json()).unwrap().report(), changed.report());
    }

    #[test]
    fn a_swap_limit_below_the_memory_limit_that_stays_is_refused() {
        let wanted = cri::LinuxContainerResources { memory_swap_limit_in_bytes: 63, ..Default::default() };
        let error = whole().with(&wanted, &runtime(), &node(CgroupMode::Unified)).unwrap_err();
        assert!(error.to_string().starts_with("linux.memory_swap_limit_in_bytes: 63 "), "{error}");
    }

    #[test]
    fn a_task_is_told_everything() {
        let told = |mode, wanted: &cri::LinuxContainerResources| {
            let changed = whole().with(wanted, &runtime(), &node(mode)).unwrap();
            changed.for_task(&whole(), &node(mode)).map(|bytes| json(&bytes))
        };
        let mut wanted = cri::LinuxContainerResources { cpuset_cpus: "2".into(), ..Default::default() };
        let mut expected = stored()["linux"]["resources"].clone();
        expected["cpu"]["cpus"] = "2".into();
        assert_eq!(told(CgroupMode::Legacy, &wanted), Ok(expected.clone()));

        wanted.hugepage_limits = vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 6 }];
        let error = told(CgroupMode::Legacy, &wanted).unwrap_err();
        assert!(error.to_string().starts_with("linux.hugepage_limits: "), "{error}");
        let told = told(CgroupMode::Unified, &wanted).unwrap();
        assert_eq!(told["unified"]["hugetlb.2MB.max"], "6");
        assert_eq!(told["unified"]["hugetlb.1GB.max"], "8");
        assert_eq!(told["unified"]["pids.max"], "9");
    }

    #[test]
    fn a_task_is_told_what_it_had() {
        let wanted = cri::LinuxContainerResources {
            cpu_quota: 5000,
            cpu_shares: 9,
            memory_limit_in_bytes: 256,
            ..Default::default()
        };
        let node = node(CgroupMode::Legacy);
        let after = whole().with(&wanted, &runtime(), &node).unwrap();
        assert_eq!(json(&whole().for_task_again(&after)), stored()["linux"]["resources"]);

        let bare = StoredSpec::parse(b"{}").unwrap();
        let after = bare.with(&wanted, &runtime(), &node).unwrap();
        let expected = json!({"cpu": {"shares": 1024, "quota": -1}, "memory": {"limit": -1, "swap": -1}});
        assert_eq!(json(&bare.for_task_again(&after)), expected);
    }

    #[test]
    fn what_is_no_spec_is_an_error() {
        for bytes in ["", "{", "[]", "3", r#"{"linux": 3}"#, r#"{"linux": []}"#, r#"{"process": null}"#] {
            assert!(StoredSpec::parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
