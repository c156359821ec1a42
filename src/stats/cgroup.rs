//! What the files of one cgroup say of it, in either version's words.
//!
//! Invariant: a cgroup that goes while it is read says nothing, rather than half.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::parse::{self, Limit, Pressure, Table};
use crate::linux::cgroup::{CgroupFolders, members_of};
use crate::time::Timestamp;

/// Cgroups looked into below one container's own: a container may make as many as it likes.
const MAX_CHILDREN: usize = 512;

/// What was used, as of one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    pub at: Timestamp,
    /// The same instant, for differences.
    pub taken: Instant,
    /// CPU time since the start, all cores together.
    pub cpu_ns: Option<u64>,
    pub memory: Option<Memory>,
    /// Where swap is accounted for.
    pub swap: Option<Swap>,
    /// v2 only.
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
}

/// Bytes, and faults since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub usage: u64,
    /// The usage less inactive file pages, as cAdvisor counts it: what the kubelet evicts by.
    pub working_set: u64,
    /// The limit less the working set; unknown without a limit.
    pub available: Option<u64>,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    pub usage: u64,
    /// Unknown without a limit.
    pub available: Option<u64>,
}

/// Reads the files of a cgroup. Missing ones are no error: the kernel's version and configuration decide.
pub(super) struct Files<'a>(pub &'a CgroupFolders);

impl Files<'_> {
    pub fn text(&self, controller: &str, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.of(controller)?.join(file)).ok()
    }

    pub fn number(&self, controller: &str, file: &str) -> Option<u64> {
        parse::number(&self.text(controller, file)?)
    }

    pub fn limit(&self, controller: &str, file: &str) -> Option<Limit> {
        Limit::of(&self.text(controller, file)?)
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        parse::pressure(&self.text("", file)?)
    }

    /// Whether that controller counts here.
    fn counts(&self, controller: &str) -> bool {
        match self.0 {
            CgroupFolders::Legacy(_) => self.0.of(controller).is_some(),
            CgroupFolders::Unified(_) => {
                let there = self.text("", "cgroup.controllers").unwrap_or_default();
                there.split_whitespace().any(|name| name == controller)
            }
        }
    }

    /// Whether it is whole: v1 takes a cgroup's folders away one by one.
    pub fn is_there(&self) -> bool {
        match self.0 {
            CgroupFolders::Unified(folder) => folder.is_dir(),
            CgroupFolders::Legacy(_) => {
                let mounted = ["cpuacct", "memory", "pids"].into_iter().filter_map(|c| self.0.of(c));
                let mut mounted = mounted.peekable();
                mounted.peek().is_some() && mounted.all(Path::is_dir)
            }
        }
    }
}

/// What a cgroup uses; `None` when it is gone.
pub fn usage(folders: &CgroupFolders) -> Option<Usage> {
    let files = Files(folders);
    let (at, taken) = (Timestamp::now(), Instant::now());
    let usage = match folders {
        CgroupFolders::Legacy(_) => {
            let (memory, swap) = legacy_memory(&files);
            let cpu_ns = files.number("cpuacct", "cpuacct.usage");
            let (cpu_pressure, memory_pressure, io_pressure) = (None, None, None);
            Usage { at, taken, cpu_ns, memory, swap, cpu_pressure, memory_pressure, io_pressure }
        }
        CgroupFolders::Unified(_) => {
            let (memory, swap) = unified_memory(&files);
            let cpu = files.text("cpu", "cpu.stat");
            let cpu_us = cpu.and_then(|text| Table::of(&text).value("usage_usec"));
            Usage {
                at,
                taken,
                cpu_ns: cpu_us.map(|us| us.saturating_mul(1000)),
                memory,
                swap,
                cpu_pressure: files.pressure("cpu.pressure"),
                memory_pressure: files.pressure("memory.pressure"),
                io_pressure: files.pressure("io.pressure"),
            }
        }
    };
    // A controller's files go before the folder does.
    let is_half =
        usage.cpu_ns.is_none() && files.counts("cpuacct") || usage.memory.is_none() && files.counts("memory");
    (files.is_there() && !is_half).then_some(usage)
}

fn legacy_memory(files: &Files) -> (Option<Memory>, Option<Swap>) {
    let read = || {
        let text = files.text("memory", "memory.stat")?;
        let stat = Table::of(&text);
        let usage = files.number("memory", "memory.usage_in_bytes")?;
        let limit = files.limit("memory", "memory.limit_in_bytes")?;
        let memory =
            Memory::new(usage, stat.value("total_inactive_file")?, limit, &stat, "total_rss", "total_");
        // There is no such line where the kernel does not account for swap.
        let swap = stat.value("total_swap").map(|usage| Swap {
            usage,
            available: match (files.limit("memory", "memory.memsw.limit_in_bytes"), limit) {
                // That limit is memory's and swap's together.
                (Some(Limit::Of(both)), Limit::Of(memory)) => {
                    Limit::Of(both.saturating_sub(memory)).left(usage)
                }
                _ => None,
            },
        });
        Some((memory, swap))
    };
    read().map_or((None, None), |(memory, swap)| (Some(memory), swap))
}

fn unified_memory(files: &Files) -> (Option<Memory>, Option<Swap>) {
    let memory = || {
        let text = files.text("memory", "memory.stat")?;
        let stat = Table::of(&text);
        let usage = files.number("memory", "memory.current")?;
        let limit = files.limit("memory", "memory.max")?;
        Some(Memory::new(usage, stat.value("inactive_file")?, limit, &stat, "anon", ""))
    };
    let swap = || {
        let usage = files.number("memory", "memory.swap.current")?;
        Some(Swap { usage, available: files.limit("memory", "memory.swap.max")?.left(usage) })
    };
    (memory(), swap())
}

impl Memory {
    fn new(usage: u64, inactive_file: u64, limit: Limit, stat: &Table, rss: &str, prefix: &str) -> Self {
        let working_set = usage.saturating_sub(inactive_file);
        let count = |key: &str| stat.value(&format!("{prefix}{key}")).unwrap_or_default();
        Self {
            usage,
            working_set,
            available: limit.left(working_set),
            rss: stat.value(rss).unwrap_or_default(),
            page_faults: count("pgfault"),
            major_page_faults: count("pgmajfault"),
        }
    }
}

impl Usage {
    /// Of several cgroups together, which have no limit and no pressure in common; `None` of none.
    pub fn sum<'a>(parts: impl Iterator<Item = &'a Usage>) -> Option<Usage> {
        let without_limit = |usage: &Usage| Usage {
            memory: usage.memory.map(|memory| Memory { available: None, ..memory }),
            swap: usage.swap.map(|swap| Swap { available: None, ..swap }),
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
            ..usage.clone()
        };
        parts.map(without_limit).reduce(|sum, part| Usage {
            cpu_ns: both(sum.cpu_ns, part.cpu_ns, u64::saturating_add),
            memory: both(sum.memory, part.memory, Memory::plus),
            swap: both(sum.swap, part.swap, |a, b| Swap {
                usage: a.usage.saturating_add(b.usage),
                available: None,
            }),
            ..sum
        })
    }
}

impl Memory {
    fn plus(self, other: Self) -> Self {
        Self {
            usage: self.usage.saturating_add(other.usage),
            working_set: self.working_set.saturating_add(other.working_set),
            available: None,
            rss: self.rss.saturating_add(other.rss),
            page_faults: self.page_faults.saturating_add(other.page_faults),
            major_page_faults: self.major_page_faults.saturating_add(other.major_page_faults),
        }
    }
}

fn both<T>(one: Option<T>, other: Option<T>, plus: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(plus(one, other)),
        (one, other) => one.or(other),
    }
}

/// The processes of a cgroup, and of those that the container made below it.
pub fn processes(folders: &CgroupFolders) -> Vec<u32> {
    let controllers = ["pids", "memory", "cpuacct", "freezer"];
    let Some(own) = controllers.into_iter().find_map(|controller| folders.of(controller)) else {
        return Vec::new();
    };
    let mut pids = Vec::new();
    let mut open: Vec<PathBuf> = vec![own.to_owned()];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        pids.extend(members_of(&folder));
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for child in folders.take(MAX_CHILDREN - seen) {
            seen += 1;
            open.push(child.path());
        }
    }
    pids
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
