//! What a cgroup's files say beyond its usage: the figures that only metrics show.

use super::cgroup::Files;
use super::parse::{self, Device, Limit, Table};
use crate::linux::cgroup::CgroupFolders;

/// Clock ticks per second in v1's cpuacct.stat: the same on every Linux.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Absent is what this kernel does not tell. Bytes, nanoseconds, and counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled_ns: Option<u64>,
    pub memory: MemoryDetail,
    pub disks: Vec<Disk>,
    pub threads: Option<u64>,
    pub threads_max: Option<Limit>,
    pub huge_pages: Vec<HugePages>,
    pub limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryDetail {
    pub cache: Option<u64>,
    pub kernel: Option<u64>,
    pub mapped_file: Option<u64>,
    pub max_usage: Option<u64>,
    pub active_file: Option<u64>,
    pub inactive_file: Option<u64>,
    /// How often the limit was in the way.
    pub failures: Option<u64>,
    /// v2: how often memory was reclaimed because of `memory.high`.
    pub high_events: Option<u64>,
    pub oom_kills: Option<u64>,
    /// The cgroup's own, then with those below it; v2 knows only the latter.
    pub page_faults: [Option<u64>; 2],
    pub major_page_faults: [Option<u64>; 2],
}

/// One block device's traffic by operation: `Read`, `Write`, `Discard`, and what else v1 tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub device: Device,
    pub bytes: Vec<(String, u64)>,
    pub requests: Vec<(String, u64)>,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel writes it: `2MB`.
    pub size: String,
    pub usage: u64,
    /// v1 only.
    pub max_usage: Option<u64>,
    pub failures: Option<u64>,
}

/// What may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of each period.
    pub cpu_quota: Option<Limit>,
    /// v1 only: v2's weight is no number of shares.
    pub cpu_shares: Option<u64>,
    pub memory: Option<Limit>,
    pub reservation: Option<Limit>,
    /// v1: memory and swap together. v2: swap alone.
    pub swap: Option<Limit>,
}

/// Everything of a cgroup that its usage does not tell already.
pub fn detail(folders: &CgroupFolders) -> Detail {
    let files = Files(folders);
    match folders {
        CgroupFolders::Legacy(_) => legacy(&files),
        CgroupFolders::Unified(_) => unified(&files),
    }
}

fn legacy(files: &Files) -> Detail {
    let cpu = files.text("cpu", "cpu.stat").unwrap_or_default();
    let cpu = Table::of(&cpu);
    let ticks = files.text("cpuacct", "cpuacct.stat").unwrap_or_default();
    let ticks = Table::of(&ticks);
    // Kernels before 4.7 count in ticks alone.
    let time = |file, key| {
        let in_ticks = || Some(ticks.value(key)?.saturating_mul(NANOS_PER_TICK));
        files.number("cpuacct", file).or_else(in_ticks)
    };
    Detail {
        user_ns: time("cpuacct.usage_user", "user"),
        system_ns: time("cpuacct.usage_sys", "system"),
        periods: cpu.value("nr_periods"),
        throttled_periods: cpu.value("nr_throttled"),
        throttled_ns: cpu.value("throttled_time"),
        memory: legacy_memory(files),
        disks: legacy_disks(files),
        threads: files.number("pids", "pids.current"),
        threads_max: files.limit("pids", "pids.max"),
        huge_pages: huge_pages(files, ".usage_in_bytes"),
        limits: Limits {
            cpu_period: files.number("cpu", "cpu.cfs_period_us"),
            cpu_quota: files.limit("cpu", "cpu.cfs_quota_us"),
            cpu_shares: files.number("cpu", "cpu.shares"),
            memory: files.limit("memory", "memory.limit_in_bytes"),
            reservation: files.limit("memory", "memory.soft_limit_in_bytes"),
            swap: files.limit("memory", "memory.memsw.limit_in_bytes"),
        },
    }
}

fn legacy_memory(files: &Files) -> MemoryDetail {
    let stat = files.text("memory", "memory.stat").unwrap_or_default();
    let stat = Table::of(&stat);
    let oom = files.text("memory", "memory.oom_control").unwrap_or_default();
    MemoryDetail {
        cache: stat.value("total_cache"),
        kernel: files.number("memory", "memory.kmem.usage_in_bytes"),
        mapped_file: stat.value("total_mapped_file"),
        max_usage: files.number("memory", "memory.max_usage_in_bytes"),
        active_file: stat.value("total_active_file"),
        inactive_file: stat.value("total_inactive_file"),
        failures: files.number("memory", "memory.failcnt"),
        high_events: None,
        oom_kills: Table::of(&oom).value("oom_kill"),
        page_faults: [stat.value("pgfault"), stat.value("total_pgfault")],
        major_page_faults: [stat.value("pgmajfault"), stat.value("total_pgmajfault")],
    }
}

fn legacy_disks(files: &Files) -> Vec<Disk> {
    let mut disks = Vec::new();
    for (file, part) in [
        ("blkio.throttle.io_service_bytes_recursive", (|disk| &mut disk.bytes) as Part),
        ("blkio.throttle.io_serviced_recursive", |disk| &mut disk.requests),
    ] {
        for (device, operation, count) in parse::blkio(&files.text("blkio", file).unwrap_or_default()) {
            part(disk_of(&mut disks, device)).push((operation.to_owned(), count));
        }
    }
    disks
}

type Part = fn(&mut Disk) -> &mut Vec<(String, u64)>;

fn disk_of(disks: &mut Vec<Disk>, device: Device) -> &mut Disk {
    let at = disks.iter().position(|disk| disk.device == device).unwrap_or_else(|| {
        disks.push(Disk { device, bytes: Vec::new(), requests: Vec::new() });
        disks.len() - 1
    });
    &mut disks[at]
}

fn unified(files: &Files) -> Detail {
    let cpu = files.text("cpu", "cpu.stat").unwrap_or_default();
    let cpu = Table::of(&cpu);
    let nanos = |key| Some(cpu.value(key)?.saturating_mul(1000));
    let cpu_max = files.text("cpu", "cpu.max").and_then(|text| parse::cpu_max(&text));
    Detail {
        user_ns: nanos("user_usec"),
        system_ns: nanos("system_usec"),
        periods: cpu.value("nr_periods"),
        throttled_periods: cpu.value("nr_throttled"),
        throttled_ns: nanos("throttled_usec"),
        memory: unified_memory(files),
        disks: unified_disks(files),
        threads: files.number("pids", "pids.current"),
        threads_max: files.limit("pids", "pids.max"),
        huge_pages: huge_pages(files, ".current"),
        limits: Limits {
            cpu_period: cpu_max.map(|(_, period)| period),
            cpu_quota: cpu_max.map(|(quota, _)| quota),
            cpu_shares: None,
            memory: files.limit("memory", "memory.max"),
            reservation: files.limit("memory", "memory.low"),
            swap: files.limit("memory", "memory.swap.max"),
        },
    }
}

fn unified_memory(files: &Files) -> MemoryDetail {
    let stat = files.text("memory", "memory.stat").unwrap_or_default();
    let stat = Table::of(&stat);
    let events = files.text("memory", "memory.events").unwrap_or_default();
    let events = Table::of(&events);
    MemoryDetail {
        cache: stat.value("file"),
        // Kernels before 5.18 tell only its parts.
        kernel: stat.value("kernel").or_else(|| {
            let parts = ["kernel_stack", "pagetables", "percpu", "sock", "slab"];
            parts.into_iter().filter_map(|part| stat.value(part)).reduce(u64::saturating_add)
        }),
        mapped_file: stat.value("file_mapped"),
        max_usage: files.number("memory", "memory.peak"),
        active_file: stat.value("active_file"),
        inactive_file: stat.value("inactive_file"),
        failures: events.value("max"),
        high_events: events.value("high"),
        oom_kills: events.value("oom_kill"),
        page_faults: [stat.value("pgfault"); 2],
        major_page_faults: [stat.value("pgmajfault"); 2],
    }
}

fn unified_disks(files: &Files) -> Vec<Disk> {
    let text = files.text("io", "io.stat").unwrap_or_default();
    let disk = |(device, counters): (Device, Vec<(&str, u64)>)| {
        let pick = |keys: [(&str, &str); 3]| {
            let count = |key| counters.iter().find(|(known, _)| *known == key).map(|(_, count)| *count);
            keys.into_iter().filter_map(|(name, key)| Some((name.to_owned(), count(key)?))).collect()
        };
        Disk {
            device,
            bytes: pick([("Read", "rbytes"), ("Write", "wbytes"), ("Discard", "dbytes")]),
            requests: pick([("Read", "rios"), ("Write", "wios"), ("Discard", "dios")]),
        }
    };
    parse::io_stat(&text).into_iter().map(disk).collect()
}

/// One entry for each size: v1's `hugetlb.2MB.usage_in_bytes`, v2's `hugetlb.2MB.current`; not those of reservations.
fn huge_pages(files: &Files, ending: &str) -> Vec<HugePages> {
    let folder = files.0.of("hugetlb");
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let size = |name: &str| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(ending)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let mut sizes: Vec<_> = entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect();
    sizes.sort_unstable();
    let read = |size: String| {
        let number = |file: &str| files.number("hugetlb", &format!("hugetlb.{size}.{file}"));
        let events = || {
            let text = files.text("hugetlb", &format!("hugetlb.{size}.events"))?;
            Table::of(&text).value("max")
        };
        let usage = files.number("hugetlb", &format!("hugetlb.{size}{ending}"))?;
        let (max_usage, failures) = (number("max_usage_in_bytes"), number("failcnt").or_else(events));
        Some(HugePages { size, usage, max_usage, failures })
    };
    sizes.into_iter().filter_map(read).collect()
}
