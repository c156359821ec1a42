//! Limits and weights, and the OOM killer's preference.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use super::field;
use super::{NodeFacts, SpecError};
use crate::config::RuntimeConfig;
use crate::linux::cgroup::CgroupMode;
use crate::proto::cri;

/// Longest list of processors or memory nodes taken: single numbers of all that Linux can have (NR_CPUS is 8192).
const MAX_LIST: usize = 64 << 10;

/// Checks resources that nothing is made of.
///
/// # Errors
/// As a container's would be refused.
pub fn check_resources(
    at: &'static str,
    resources: &cri::LinuxContainerResources,
    runtime: &RuntimeConfig,
    node: &NodeFacts,
) -> Result<(), SpecError> {
    let wanted = Wanted { at, resources, runtime, node };
    wanted.apply(&mut LinuxResources::default())?;
    wanted.oom_score_adj().map(drop)
}

/// Resources that a request asks for, and what decides whether they can be had.
pub(super) struct Wanted<'a> {
    /// Where they are within the request, for errors.
    pub at: &'static str,
    pub resources: &'a cri::LinuxContainerResources,
    pub runtime: &'a RuntimeConfig,
    pub node: &'a NodeFacts,
}

impl Wanted<'_> {
    /// Sets what is given; zero and empty leave a setting as it is.
    ///
    /// Without a swap limit, memory and swap together may not exceed the memory limit, so that nothing swaps.
    ///
    /// # Errors
    /// For values that no cgroup can have, and for v2 files or huge pages on a node without them.
    pub fn apply(&self, resources: &mut LinuxResources) -> Result<(), SpecError> {
        resources.set_cpu(Some(self.cpu(resources.cpu().clone().unwrap_or_default())?));
        resources.set_memory(Some(self.memory((*resources.memory()).unwrap_or_default())?));
        self.hugepages(resources)?;
        self.unified(resources)
    }

    /// The OOM killer's preference, raised to the lowest that containerd may give: asking for less would fail the start.
    pub fn oom_score_adj(&self) -> Result<i32, SpecError> {
        match i32::try_from(self.resources.oom_score_adj) {
            Ok(score @ -1000..=1000) => Ok(score.max(self.node.oom_score_floor)),
            _ => Err(self.wrong(
                "oom_score_adj",
                format!("{} is not between -1000 and 1000", self.resources.oom_score_adj),
            )),
        }
    }

    fn cpu(&self, mut cpu: LinuxCpu) -> Result<LinuxCpu, SpecError> {
        let wanted = self.resources;
        if let Some(period) = self.natural("cpu_period", wanted.cpu_period)? {
            cpu.set_period(Some(period));
        }
        if let Some(quota) = self.at_least_unlimited("cpu_quota", wanted.cpu_quota)? {
            cpu.set_quota(Some(quota));
        }
        if let Some(shares) = self.natural("cpu_shares", wanted.cpu_shares)? {
            cpu.set_shares(Some(shares));
        }
        for (name, value) in [("cpuset_cpus", &wanted.cpuset_cpus), ("cpuset_mems", &wanted.cpuset_mems)] {
            let list = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b' '));
            if !list || value.len() > MAX_LIST {
                let shown: String = value.chars().take(80).collect();
                return Err(self.wrong(name, format!("{shown:?} is no list like 0-3,7")));
            }
        }
        if !wanted.cpuset_cpus.is_empty() {
            cpu.set_cpus(Some(wanted.cpuset_cpus.clone()));
        }
        if !wanted.cpuset_mems.is_empty() {
            cpu.set_mems(Some(wanted.cpuset_mems.clone()));
        }
        Ok(cpu)
    }

    fn memory(&self, mut memory: LinuxMemory) -> Result<LinuxMemory, SpecError> {
        const SWAP: &str = "memory_swap_limit_in_bytes";
        let limit = self.at_least_unlimited("memory_limit_in_bytes", self.resources.memory_limit_in_bytes)?;
        let swap = self.at_least_unlimited(SWAP, self.resources.memory_swap_limit_in_bytes)?;
        if let (Some(limit), Some(swap)) = (limit.or(memory.limit()), swap)
            && swap != -1
            && (limit == -1 || swap < limit)
        {
            return Err(self.wrong(
                SWAP,
                format!(
                    "{swap} counts memory and swap together, so it cannot be below the memory limit {limit}"
                ),
            ));
        }
        if limit.is_some() {
            memory.set_limit(limit);
        }
        if let Some(swap) = swap.or(limit).filter(|_| self.node.swap_controller) {
            memory.set_swap(Some(swap));
        }
        Ok(memory)
    }

    fn hugepages(&self, resources: &mut LinuxResources) -> Result<(), SpecError> {
        const NAME: &str = "hugepage_limits";
        if self.resources.hugepage_limits.is_empty() || self.runtime.disable_hugetlb_controller {
            return Ok(());
        }
        if !self.node.controllers.iter().any(|controller| controller == "hugetlb") {
            return match self.runtime.tolerate_missing_hugetlb_controller {
                true => Ok(()),
                false => Err(SpecError::unsupported(
                    format!("{}.{NAME}", self.at),
                    "the node has no hugetlb cgroup controller; set tolerate_missing_hugetlb_controller to go \
                     without",
                )),
            };
        }
        let mut limits = resources.hugepage_limits().clone().unwrap_or_default();
        for (n, wanted) in self.resources.hugepage_limits.iter().enumerate() {
            let Ok(bytes) = i64::try_from(wanted.limit) else {
                return Err(
                    self.wrong(&format!("{NAME}[{n}].limit"), format!("{} is too large", wanted.limit))
                );
            };
            if !is_page_size(&wanted.page_size) {
                let why = format!("{:?} is no size like 2MB", wanted.page_size);
                return Err(self.wrong(&format!("{NAME}[{n}].page_size"), why));
            }
            let mut limit = LinuxHugepageLimit::default();
            limit.set_page_size(wanted.page_size.clone());
            limit.set_limit(bytes);
            limits.retain(|old| old.page_size() != limit.page_size());
            limits.push(limit);
        }
        resources.set_hugepage_limits(Some(limits));
        Ok(())
    }

    fn unified(&self, resources: &mut LinuxResources) -> Result<(), SpecError> {
        let unified = &self.resources.unified;
        if unified.is_empty() {
            return Ok(());
        }
        if self.node.cgroup_mode != CgroupMode::Unified {
            return Err(SpecError::unsupported(
                format!("{}.unified", self.at),
                "names files of cgroup v2, but this node runs cgroup v1",
            ));
        }
        for (file, value) in unified {
            let name = format!("{}.unified[{file:?}]", self.at);
            if file.is_empty() || file.contains('/') {
                return Err(SpecError::invalid(name, "is not the name of a cgroup file"));
            }
            field::text(&name, file)?;
            field::text(&name, value)?;
        }
        let all = resources.unified_mut().get_or_insert_default();
        all.extend(unified.iter().map(|(file, value)| (file.clone(), value.clone())));
        Ok(())
    }

    /// A value that counts something; zero is none.
    fn natural(&self, name: &str, value: i64) -> Result<Option<u64>, SpecError> {
        match u64::try_from(value) {
            Ok(value) => Ok(Some(value).filter(|&value| value != 0)),
            Err(_) => Err(self.wrong(name, format!("{value} is negative"))),
        }
    }

    /// A limit, -1 for none; zero is none given.
    fn at_least_unlimited(&self, name: &str, value: i64) -> Result<Option<i64>, SpecError> {
        match value {
            0 => Ok(None),
            -1.. => Ok(Some(value)),
            _ => Err(self.wrong(name, format!("{value} is below -1 (no limit)"))),
        }
    }

    fn wrong(&self, name: &str, why: String) -> SpecError {
        SpecError::invalid(format!("{}.{name}", self.at), why)
    }
}

/// `2MB`, `1GB`: as runtimes name the kernel's sizes (OCI `hugepageLimits.pageSize`).
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
