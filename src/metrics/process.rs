//! What the kernel says of this process (proc(5)), by the names that all of Prometheus' libraries have for it.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::family;
use super::page::Page;

/// The unit of times in /proc, a second's part: USER_HZ, which the kernel's ABI has fixed (proc_pid_stat(5)).
const TICKS: f64 = 100.0;

/// What is in /proc/self/stat.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    /// Since the machine was started.
    began_seconds: f64,
    virtual_bytes: u64,
}

/// Writes what can be read; what cannot is left out.
pub fn write(page: &mut Page) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| stat(&text)) {
        page.single(&family::CPU, stat.cpu_seconds);
        page.single(&family::VIRTUAL_MEMORY, stat.virtual_bytes);
        page.single(&family::THREADS, stat.threads);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text)) {
            page.single(&family::START_TIME, boot + stat.began_seconds);
        }
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text)) {
        page.single(&family::MEMORY, bytes);
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        // Less the one that is reading.
        page.single(&family::FDS, fds.count().saturating_sub(1));
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) => page.single(&family::MAX_FDS, limit),
        None => page.single(&family::MAX_FDS, "+Inf"),
    }
}

/// The fields after the command's name, which may contain anything. Counted from the third of the file.
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    #[allow(clippy::cast_precision_loss)] // hundredths of seconds
    let seconds = |field| Some(number(field)? as f64 / TICKS);
    Some(Stat {
        cpu_seconds: seconds(14)? + seconds(15)?,
        threads: number(20)?,
        began_seconds: seconds(22)?,
        virtual_bytes: number(23)?,
    })
}

/// When the machine was started, in seconds since 1970.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1234 4096000 80 1 1\n";
        let expected = Stat { cpu_seconds: 3.0, threads: 9, began_seconds: 12.34, virtual_bytes: 4_096_000 };
        assert_eq!(stat(text), Some(expected));
        assert_eq!(stat("7 (a) S 1"), None);
    }

    #[test]
    fn all_of_it_is_told_on_this_machine() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.text();
        let values = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.split_once(' ').unwrap();
            (name, value.parse::<f64>().unwrap())
        });
        let values: std::collections::BTreeMap<_, _> = values.collect();
        assert_eq!(values.len(), 7, "{text}");
        assert!(values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"], "{text}");
        let age = crate::time::Timestamp::now().nanos() as f64 / 1e9 - values["process_start_time_seconds"];
        assert!((-1.0..86_400.0).contains(&age), "{age}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (stat(&text), boot_time(&text), resident(&text));
        }
    }
}
