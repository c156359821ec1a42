use std::fs;

use super::*;
use crate::stats::detail::{self, HugePages};
use crate::stats::parse::{Device, Stall};

/// A cgroup of files in a folder that goes with it.
struct Fake {
    folder: tempfile::TempDir,
    folders: CgroupFolders,
}

const LEGACY: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb"];

impl Fake {
    fn legacy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let one = |controller: &str| {
            let own = folder.path().join(controller);
            fs::create_dir(&own).unwrap();
            (vec![controller.to_owned()], own)
        };
        let folders = CgroupFolders::Legacy(LEGACY.iter().map(|controller| one(controller)).collect());
        let fake = Self { folder, folders };
        fake.write("cpuacct", "cpuacct.usage", "1500000000\n");
        fake.write("memory", "memory.usage_in_bytes", "1000000\n");
        fake.write("memory", "memory.limit_in_bytes", "3000000\n");
        fake.write("memory", "memory.memsw.limit_in_bytes", "3500000\n");
        fake.write(
            "memory",
            "memory.stat",
            "pgfault 5\npgmajfault 1\ninactive_file 9\ntotal_cache 700\ntotal_rss 600000\ntotal_swap 4096\n\
             total_inactive_file 100000\ntotal_active_file 42\ntotal_pgfault 50\ntotal_pgmajfault 10\n",
        );
        fake
    }

    fn unified() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folders = CgroupFolders::Unified(folder.path().to_owned());
        let fake = Self { folder, folders };
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 7\nnr_throttled 3\nthrottled_usec 20\n",
            ),
            ("memory.current", "1000000\n"),
            ("memory.max", "3000000\n"),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.max", "8192\n"),
            (
                "memory.stat",
                "anon 600000\nfile 700\nkernel_stack 16\nslab 32\ninactive_file 100000\nactive_file 42\npgfault 50\npgmajfault 10\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.00 avg60=2.00 avg300=3.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
            ),
        ] {
            fake.write("", file, text);
        }
        fake
    }

    fn path(&self, controller: &str, file: &str) -> PathBuf {
        self.folders.of(controller).unwrap().join(file)
    }

    fn write(&self, controller: &str, file: &str, text: &str) {
        fs::write(self.path(controller, file), text).unwrap();
    }

    fn remove(&self, controller: &str, file: &str) {
        fs::remove_file(self.path(controller, file)).unwrap();
    }
}

#[test]
fn both_versions_tell_the_same() {
    for fake in [Fake::legacy(), Fake::unified()] {
        let read = usage(&fake.folders).unwrap();
        assert_eq!(read.cpu_ns, Some(1_500_000_000));
        let memory = Memory {
            usage: 1_000_000,
            working_set: 900_000,
            available: Some(2_100_000),
            rss: 600_000,
            page_faults: 50,
            major_page_faults: 10,
        };
        assert_eq!(read.memory, Some(memory));
        assert!(read.at.is_set());
    }
}

#[test]
fn swap_is_limited_together_with_memory_on_v1_and_by_itself_on_v2() {
    let swap = |fake: &Fake| usage(&fake.folders).unwrap().swap;
    let (legacy, unified) = (Fake::legacy(), Fake::unified());
    assert_eq!(swap(&legacy), Some(Swap { usage: 4096, available: Some(495_904) }));
    assert_eq!(swap(&unified), Some(Swap { usage: 4096, available: Some(4096) }));
    legacy.write("memory", "memory.memsw.limit_in_bytes", "9223372036854771712\n");
    unified.write("", "memory.swap.max", "max\n");
    for fake in [legacy, unified] {
        assert_eq!(swap(&fake), Some(Swap { usage: 4096, available: None }));
    }
    let without = Fake::unified();
    without.remove("", "memory.swap.current");
    assert_eq!(swap(&without), None);
}

#[test]
fn without_a_limit_nothing_is_said_to_be_available() {
    let (legacy, unified) = (Fake::legacy(), Fake::unified());
    legacy.write("memory", "memory.limit_in_bytes", "9223372036854771712\n");
    unified.write("", "memory.max", "max\n");
    for fake in [legacy, unified] {
        let memory = usage(&fake.folders).unwrap().memory.unwrap();
        assert_eq!((memory.working_set, memory.available), (900_000, None));
    }
}

#[test]
fn a_working_set_is_never_negative() {
    let fake = Fake::unified();
    fake.write("", "memory.current", "5\n");
    assert_eq!(usage(&fake.folders).unwrap().memory.unwrap().working_set, 0);
}

#[test]
fn pressure_is_told_where_the_kernel_counts_it() {
    let read = usage(&Fake::unified().folders).unwrap();
    assert_eq!(read.cpu_pressure.unwrap().some, Stall { total_ns: 9000, averages: [1.0, 2.0, 3.0] });
    assert_eq!(read.memory_pressure, None);
    assert_eq!(usage(&Fake::legacy().folders).unwrap().cpu_pressure, None);
}

#[test]
fn a_cgroup_that_is_gone_says_nothing() {
    for fake in [Fake::legacy(), Fake::unified()] {
        fs::remove_dir_all(fake.folder.path()).unwrap();
        assert_eq!(usage(&fake.folders), None);
        assert!(processes(&fake.folders).is_empty());
    }
    // The controllers' folders go one after the other.
    for controller in ["cpuacct", "memory", "pids"] {
        let half = Fake::legacy();
        fs::remove_dir_all(half.path(controller, "")).unwrap();
        assert_eq!(usage(&half.folders), None, "{controller}");
    }
    assert_eq!(usage(&CgroupFolders::Legacy(Vec::new())), None);
}

#[test]
fn a_part_that_is_not_accounted_for_is_left_out() {
    let fake = Fake::unified();
    fake.remove("", "memory.current");
    let read = usage(&fake.folders).unwrap();
    assert_eq!((read.memory, read.cpu_ns), (None, Some(1_500_000_000)));
}

#[test]
fn a_sum_has_no_limit_of_its_own() {
    let one = usage(&Fake::unified().folders).unwrap();
    let without_memory = Usage { memory: None, ..one.clone() };
    let sum = Usage::sum([&one, &one, &without_memory].into_iter()).unwrap();
    assert_eq!(sum.cpu_ns, Some(4_500_000_000));
    let memory = sum.memory.unwrap();
    assert_eq!((memory.usage, memory.working_set, memory.available), (2_000_000, 1_800_000, None));
    assert_eq!(sum.swap, Some(Swap { usage: 12_288, available: None }));
    assert_eq!(sum.cpu_pressure, None);
    assert_eq!(Usage::sum([&one].into_iter()).unwrap().memory.unwrap().available, None);
    assert_eq!(Usage::sum(std::iter::empty()), None);
}

#[test]
fn processes_below_count_too() {
    for fake in [Fake::legacy(), Fake::unified()] {
        fake.write("pids", "cgroup.procs", "12\n13\n");
        let below = fake.path("pids", "init.scope");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), "14\n").unwrap();
        let mut pids = processes(&fake.folders);
        pids.sort_unstable();
        assert_eq!(pids, [12, 13, 14]);
    }
}

#[test]
fn a_container_with_many_cgroups_is_not_followed_for_ever() {
    let fake = Fake::unified();
    for n in 0..MAX_CHILDREN + 10 {
        let below = fake.path("", &n.to_string());
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), "1\n").unwrap();
    }
    assert_eq!(processes(&fake.folders).len(), MAX_CHILDREN);
}

#[test]
fn details_of_v1() {
    let fake = Fake::legacy();
    for (controller, file, text) in [
        ("cpu", "cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 20000\n"),
        ("cpu", "cpu.cfs_quota_us", "-1\n"),
        ("cpu", "cpu.shares", "102\n"),
        ("cpuacct", "cpuacct.stat", "user 100\nsystem 50\n"),
        ("memory", "memory.failcnt", "4\n"),
        ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("pids", "pids.current", "6\n"),
        ("pids", "pids.max", "max\n"),
        (
            "blkio",
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
        ),
        ("blkio", "blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
        ("hugetlb", "hugetlb.2MB.usage_in_bytes", "2097152\n"),
        ("hugetlb", "hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
        ("hugetlb", "hugetlb.2MB.failcnt", "9\n"),
        ("hugetlb", "hugetlb.2MB.rsvd.usage_in_bytes", "1\n"),
    ] {
        fake.write(controller, file, text);
    }
    let read = detail::detail(&fake.folders);
    assert_eq!((read.user_ns, read.system_ns), (Some(1_000_000_000), Some(500_000_000)), "in ticks");
    fake.write("cpuacct", "cpuacct.usage_user", "1000000001\n");
    assert_eq!(detail::detail(&fake.folders).user_ns, Some(1_000_000_001), "finer than in ticks");
    assert_eq!((read.periods, read.throttled_periods, read.throttled_ns), (Some(7), Some(3), Some(20_000)));
    assert_eq!(read.limits.cpu_quota, Some(Limit::Unlimited));
    assert_eq!((read.limits.cpu_shares, read.limits.memory), (Some(102), Some(Limit::Of(3_000_000))));
    assert_eq!((read.memory.failures, read.memory.oom_kills), (Some(4), Some(2)));
    assert_eq!(read.memory.page_faults, [Some(5), Some(50)]);
    assert_eq!(read.memory.cache, Some(700));
    assert_eq!((read.threads, read.threads_max), (Some(6), Some(Limit::Unlimited)));
    let [disk] = &read.disks[..] else { panic!("{:?}", read.disks) };
    assert_eq!(disk.device, Device { major: 8, minor: 0 });
    assert_eq!(disk.bytes, [("Read".into(), 10), ("Write".into(), 20), ("Total".into(), 30)]);
    assert_eq!(disk.requests, [("Read".into(), 1), ("Write".into(), 2)]);
    let pages = HugePages { size: "2MB".into(), usage: 2 << 20, max_usage: Some(4 << 20), failures: Some(9) };
    assert_eq!(read.huge_pages, [pages]);
}

#[test]
fn details_of_v2() {
    let fake = Fake::unified();
    for (file, text) in [
        ("cpu.max", "50000 100000\n"),
        ("memory.peak", "2000000\n"),
        ("memory.events", "low 0\nhigh 8\nmax 4\noom 3\noom_kill 2\n"),
        ("memory.low", "0\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("pids.current", "6\n"),
        ("pids.max", "100\n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.rsvd.current", "1\n"),
        ("hugetlb.2MB.events", "max 9\n"),
    ] {
        fake.write("", file, text);
    }
    let read = detail::detail(&fake.folders);
    assert_eq!((read.user_ns, read.system_ns), (Some(1_000_000_000), Some(500_000_000)));
    assert_eq!((read.periods, read.throttled_periods, read.throttled_ns), (Some(7), Some(3), Some(20_000)));
    assert_eq!((read.limits.cpu_quota, read.limits.cpu_period), (Some(Limit::Of(50_000)), Some(100_000)));
    assert_eq!((read.limits.swap, read.limits.reservation), (Some(Limit::Of(8192)), Some(Limit::Of(0))));
    assert_eq!(read.limits.cpu_shares, None);
    let memory = &read.memory;
    assert_eq!((memory.kernel, memory.cache, memory.max_usage), (Some(48), Some(700), Some(2_000_000)));
    assert_eq!((memory.failures, memory.high_events, memory.oom_kills), (Some(4), Some(8), Some(2)));
    assert_eq!(memory.major_page_faults, [Some(10); 2]);
    assert_eq!((read.threads, read.threads_max), (Some(6), Some(Limit::Of(100))));
    let [disk] = &read.disks[..] else { panic!("{:?}", read.disks) };
    assert_eq!(disk.bytes, [("Read".into(), 10), ("Write".into(), 20), ("Discard".into(), 0)]);
    assert_eq!(disk.requests, [("Read".into(), 1), ("Write".into(), 2), ("Discard".into(), 0)]);
    let pages = HugePages { size: "2MB".into(), usage: 2 << 20, max_usage: None, failures: Some(9) };
    assert_eq!(read.huge_pages, [pages]);
}

#[test]
fn nothing_is_made_up_of_empty_files() {
    for fake in [Fake::legacy(), Fake::unified()] {
        for entry in fs::read_dir(fake.folder.path()).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
                fs::create_dir(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        // A controller that has no files any more is on its way out, and the cgroup with it.
        if let Some(read) = usage(&fake.folders) {
            assert!(matches!(fake.folders, CgroupFolders::Unified(_)));
            assert_eq!((read.cpu_ns, read.memory, read.swap), (None, None, None));
        }
        assert_eq!(detail::detail(&fake.folders), detail::Detail::default());
    }
}

#[test]
fn one_that_is_half_gone_is_gone() {
    let unified = Fake::unified();
    unified.write("memory", "cgroup.controllers", "cpu memory pids\n");
    for (fake, controller, gone) in [
        (Fake::legacy(), "memory", "memory.stat"),
        (Fake::legacy(), "cpuacct", "cpuacct.usage"),
        (unified, "memory", "memory.current"),
    ] {
        assert!(usage(&fake.folders).is_some());
        fake.remove(controller, gone);
        assert_eq!(usage(&fake.folders), None, "{gone}");
    }
}
