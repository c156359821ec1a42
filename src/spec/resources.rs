//! Limits and weights, and the OOM killer's preference.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use super::field;
use super::{NodeFacts, SpecError};
use crate::config::RuntimeConfig;
use crate::linux::cgroup::CgroupMode;
use crate::proto::cri;

const RESOURCES: &str = "config.linux.resources";

/// Sets what the config gives; zero and empty leave a setting as it is.
///
/// Without a swap limit, memory and swap together may not exceed the memory limit, so that nothing swaps.
///
/// # Errors
/// For values that no cgroup can have, and for v2 files or huge pages on a node without them.
pub(super) fn apply(
    resources: &mut LinuxResources,
    wanted: &cri::LinuxContainerResources,
    runtime: &RuntimeConfig,
    node: &NodeFacts,
) -> Result<(), SpecError> {
    resources.set_cpu(Some(cpu(resources.cpu().clone().unwrap_or_default(), wanted)?));
    resources.set_memory(Some(memory((*resources.memory()).unwrap_or_default(), wanted, node)?));
    if !wanted.hugepage_limits.is_empty() && !runtime.disable_hugetlb_controller {
        hugepages(resources, wanted, runtime, node)?;
    }
    unified(resources, wanted, node)
}

fn cpu(mut cpu: LinuxCpu, wanted: &cri::LinuxContainerResources) -> Result<LinuxCpu, SpecError> {
    if let Some(period) = natural("cpu_period", wanted.cpu_period)? {
        cpu.set_period(Some(period));
    }
    if wanted.cpu_quota != 0 {
        cpu.set_quota(Some(wanted.cpu_quota));
    }
    if let Some(shares) = natural("cpu_shares", wanted.cpu_shares)? {
        cpu.set_shares(Some(shares));
    }
    for (name, value) in [("cpuset_cpus", &wanted.cpuset_cpus), ("cpuset_mems", &wanted.cpuset_mems)] {
        let list = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b' '));
        if !list {
            return Err(SpecError::invalid(
                format!("{RESOURCES}.{name}"),
                format!("{value:?} is no list like 0-3,7"),
            ));
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

fn memory(
    mut memory: LinuxMemory,
    wanted: &cri::LinuxContainerResources,
    node: &NodeFacts,
) -> Result<LinuxMemory, SpecError> {
    let limit = at_least_unlimited("memory_limit_in_bytes", wanted.memory_limit_in_bytes)?;
    let swap = at_least_unlimited("memory_swap_limit_in_bytes", wanted.memory_swap_limit_in_bytes)?;
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap != -1
        && (limit == -1 || swap < limit)
    {
        return Err(SpecError::invalid(
            format!("{RESOURCES}.memory_swap_limit_in_bytes"),
            format!("{swap} counts memory and swap together, so it cannot be below the memory limit {limit}"),
        ));
    }
    if limit.is_some() {
        memory.set_limit(limit);
    }
    if let Some(swap) = swap.or(limit).filter(|_| node.swap_controller) {
        memory.set_swap(Some(swap));
    }
    Ok(memory)
}

fn hugepages(
    resources: &mut LinuxResources,
    wanted: &cri::LinuxContainerResources,
    runtime: &RuntimeConfig,
    node: &NodeFacts,
) -> Result<(), SpecError> {
    let name = format!("{RESOURCES}.hugepage_limits");
    if !node.controllers.iter().any(|controller| controller == "hugetlb") {
        return match runtime.tolerate_missing_hugetlb_controller {
            true => Ok(()),
            false => Err(SpecError::unsupported(
                name,
                "the node has no hugetlb cgroup controller; set tolerate_missing_hugetlb_controller to go without",
            )),
        };
    }
    let mut limits = resources.hugepage_limits().clone().unwrap_or_default();
    for (n, wanted) in wanted.hugepage_limits.iter().enumerate() {
        let Ok(bytes) = i64::try_from(wanted.limit) else {
            return Err(SpecError::invalid(
                format!("{name}[{n}].limit"),
                format!("{} is too large", wanted.limit),
            ));
        };
        let mut limit = LinuxHugepageLimit::default();
        limit.set_page_size(field::text(&format!("{name}[{n}].page_size"), &wanted.page_size)?.into());
        limit.set_limit(bytes);
        limits.retain(|old| old.page_size() != limit.page_size());
        limits.push(limit);
    }
    resources.set_hugepage_limits(Some(limits));
    Ok(())
}

fn unified(
    resources: &mut LinuxResources,
    wanted: &cri::LinuxContainerResources,
    node: &NodeFacts,
) -> Result<(), SpecError> {
    if wanted.unified.is_empty() {
        return Ok(());
    }
    if node.cgroup_mode != CgroupMode::Unified {
        return Err(SpecError::unsupported(
            format!("{RESOURCES}.unified"),
            "names files of cgroup v2, but this node runs cgroup v1",
        ));
    }
    for (file, value) in &wanted.unified {
        let name = format!("{RESOURCES}.unified[{file:?}]");
        if file.is_empty() || file.contains('/') {
            return Err(SpecError::invalid(name, "is not the name of a cgroup file"));
        }
        field::text(&name, file)?;
        field::text(&name, value)?;
    }
    let all = resources.unified_mut().get_or_insert_default();
    all.extend(wanted.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    Ok(())
}

/// A value that counts something; zero is none.
fn natural(name: &str, value: i64) -> Result<Option<u64>, SpecError> {
    match u64::try_from(value) {
        Ok(value) => Ok(Some(value).filter(|&value| value != 0)),
        Err(_) => Err(SpecError::invalid(format!("{RESOURCES}.{name}"), format!("{value} is negative"))),
    }
}

/// A limit in bytes, -1 for no limit; zero is none given.
fn at_least_unlimited(name: &str, value: i64) -> Result<Option<i64>, SpecError> {
    match value {
        0 => Ok(None),
        -1.. => Ok(Some(value)),
        _ => {
            Err(SpecError::invalid(format!("{RESOURCES}.{name}"), format!("{value} is below -1 (no limit)")))
        }
    }
}

/// The OOM killer's preference, raised to the lowest that containerd may give: asking for less would fail the start.
pub(super) fn oom_score_adj(wanted: i64, node: &NodeFacts) -> Result<i32, SpecError> {
    match i32::try_from(wanted) {
        Ok(score @ -1000..=1000) => Ok(score.max(node.oom_score_floor)),
        _ => Err(SpecError::invalid(
            format!("{RESOURCES}.oom_score_adj"),
            format!("{wanted} is not between -1000 and 1000"),
        )),
    }
}
