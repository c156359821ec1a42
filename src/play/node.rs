//! What the node adds to every pod: its name servers, its memory, its processors.

use std::fs;

use super::translate::Node;
use crate::proto::cri::DnsConfig;

impl Node {
    /// Reads it all; what is not there is left out, as on a node without name servers.
    pub fn load() -> Self {
        Self {
            dns: parse_resolv_conf(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
            memory: memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            thermal: thermal_files(),
        }
    }
}

/// resolv.conf(5): of several `search` or `options` lines the last counts.
fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next()),
            Some("search" | "domain") => dns.searches = words.collect(),
            Some("options") => dns.options = words.collect(),
            _ => {}
        }
    }
    dns
}

/// MemTotal in bytes.
fn memory(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The kubelet hides these where they are; naming one that is not there makes some runtimes fail.
fn thermal_files() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let numbered = cpus.filter(|entry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    let mut files: Vec<_> = numbered
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_by_its_last_words() {
        let text = "# c\nnameserver 10.0.0.1\nsearch a\nsearch b c\nnameserver ::1\noptions ndots:2 edns0\n";
        let expected = DnsConfig {
            servers: vec!["10.0.0.1".into(), "::1".into()],
            searches: vec!["b".into(), "c".into()],
            options: vec!["ndots:2".into(), "edns0".into()],
        };
        assert_eq!(parse_resolv_conf(text), expected);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1 << 20);
        assert_eq!(memory(""), 0);
    }
}
