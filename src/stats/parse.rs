//! The formats of the kernel's accounting files. Pure: text in, numbers out; what is not understood is not there.

use std::collections::HashMap;

/// A file of `key value` lines: memory.stat, cpu.stat, memory.events, memory.oom_control.
pub(super) struct Table<'a>(HashMap<&'a str, u64>);

impl<'a> Table<'a> {
    pub fn of(text: &'a str) -> Self {
        let row = |line: &'a str| {
            let (key, value) = line.split_once(' ')?;
            Some((key, value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(row).collect())
    }

    pub fn value(&self, key: &str) -> Option<u64> {
        self.0.get(key).copied()
    }
}

/// A file of one number.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// What v1 writes where there is no limit: the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

/// A limit: a number, or none at all (`max`, -1, v1's huge number).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Unlimited,
    Of(u64),
}

impl Limit {
    pub(super) fn of(text: &str) -> Option<Self> {
        match text.trim() {
            "max" | "-1" => Some(Self::Unlimited),
            text => text.parse().ok().map(Self::of_number),
        }
    }

    pub(super) fn of_number(number: u64) -> Self {
        match number {
            NO_LIMIT.. => Self::Unlimited,
            limit => Self::Of(limit),
        }
    }

    /// What is left of it after `used`; nothing to tell where there is no limit.
    pub fn left(self, used: u64) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Of(limit) => Some(limit.saturating_sub(used)),
        }
    }

    /// As cAdvisor's metrics write it: zero is none.
    pub fn or_zero(self) -> u64 {
        match self {
            Self::Unlimited => 0,
            Self::Of(limit) => limit,
        }
    }
}

/// `cpu.max`: quota and period in microseconds.
pub(super) fn cpu_max(text: &str) -> Option<(Limit, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((Limit::of(quota)?, number(period)?))
}

/// Pressure stall information of one resource (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited at once.
    pub full: Stall,
}

/// How much was waited: nanoseconds in all, and the percentage of the last 10, 60 and 300 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    pub total_ns: u64,
    pub averages: [f64; 3],
}

/// A `*.pressure` file. Kernels before 5.13 have no line `full` for CPU, which then never stalls fully.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let field = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let percent = |key| field(key)?.parse().ok().filter(|value: &f64| value.is_finite());
        let total: u64 = field("total")?.trim().parse().ok()?;
        let averages = [percent("avg10")?, percent("avg60")?, percent("avg300")?];
        Some(Stall { total_ns: total.saturating_mul(1000), averages })
    };
    Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
}

/// A block device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl Device {
    fn of(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// v2's io.stat: each device's counters by key (`rbytes`, `wios`, …), in the kernel's order.
pub(super) fn io_stat(text: &str) -> Vec<(Device, Vec<(&str, u64)>)> {
    let counter = |word| {
        let (key, value) = str::split_once(word, '=')?;
        Some((key, value.parse().ok()?))
    };
    let row = |line: &'_ str| Device::of(line.split(' ').next()?);
    let rows = text.lines().filter_map(|line| Some((row(line)?, line)));
    rows.map(|(device, line)| (device, line.split(' ').skip(1).filter_map(counter).collect())).collect()
}

/// v1's blkio.* files: device, operation (`Read`, `Write`, …), count. The last line, a sum, has no device.
pub(super) fn blkio(text: &str) -> Vec<(Device, &str, u64)> {
    let row = |line| {
        let mut words = str::split(line, ' ');
        Some((Device::of(words.next()?)?, words.next()?, number(words.next()?)?))
    };
    text.lines().filter_map(row).collect()
}

/// Counters of one network interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub received: Traffic,
    pub sent: Traffic,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// /proc/PID/net/dev, without the loopback interface.
pub(super) fn net_dev(text: &str) -> Vec<Interface> {
    let row = |line: &str| {
        // A name may hold a colon itself; the counters do not.
        let (name, counters) = line.rsplit_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let traffic = |at: usize| {
            let [bytes, packets, errors, dropped] = *counters.get(at..at + 4)? else { return None };
            Some(Traffic { bytes, packets, errors, dropped })
        };
        Some(Interface { name: name.trim().to_owned(), received: traffic(0)?, sent: traffic(8)? })
    };
    text.lines().filter_map(row).filter(|interface| interface.name != "lo").collect()
}

/// The soft limit of open files in /proc/PID/limits.
pub(super) fn max_open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
