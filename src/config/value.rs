//! Readers of single values: each knows what it takes and says so, range included, when it gets something else.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::model::MetricsAddress;

/// A value, or the sentence that says what it must be.
pub(super) type Read<T> = Result<T, String>;

/// Longest path of a unix socket in bytes: `sun_path` of unix(7), less its final NUL.
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn text(value: &DeValue<'_>) -> Read<String> {
    match value.as_str() {
        Some("") => Err("must not be empty".into()),
        Some(text) => Ok(text.to_owned()),
        None => Err("must be a string in quotes".into()),
    }
}

pub(super) fn truth(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| "must be true or false".into())
}

/// A whole number within the range.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Read<T>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |value| {
        value
            .as_integer()
            .and_then(|number| i128::from_str_radix(number.as_str(), number.radix()).ok())
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A duration within the range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        value
            .as_str()
            .and_then(|text| humantime::parse_duration(text).ok())
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let [from, to] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
                format!("must be a duration from \"{from}\" to \"{to}\"")
            })
    }
}

/// A number of bytes within the range: a whole number, or a string with a unit.
pub(super) fn size<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let bytes = match value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(text) => parse_size(text),
            _ => None,
        };
        bytes.filter(|bytes| range.contains(bytes)).and_then(|bytes| T::try_from(bytes).ok()).ok_or_else(
            || {
                let [from, to] = [range.start(), range.end()].map(|end| print_size(*end));
                format!("must be a size from \"{from}\" to \"{to}\", or that in bytes")
            },
        )
    }
}

/// Units of sizes, the longest spelling of each first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads `16KiB`, `64 GB`, `512B` or `512`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The same size in the largest binary unit that divides it.
fn print_size(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(name, unit)| name.ends_with("iB") && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) if bytes > 0 => format!("{}{name}", bytes / unit),
        _ => format!("{bytes}B"),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning).ok_or_else(
            || {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("must be one of {}", words.join(", "))
            },
        )
    }
}

/// Makes a key's value present where absence is the default.
pub(super) fn some<T>(read: impl Fn(&DeValue<'_>) -> Read<T>) -> impl Fn(&DeValue<'_>) -> Read<Option<T>> {
    move |value| read(value).map(Some)
}

/// Applies a check of plain text, one that flags share.
pub(super) fn by<T>(parse: impl Fn(&str) -> Read<T>) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| parse(&text(value)?)
}

/// An absolute path without `..`.
///
/// # Errors
/// The sentence that says so.
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if path.is_absolute() && !climbs && !text.contains('\0') {
        Ok(path.to_owned())
    } else {
        Err("must be an absolute path without \"..\"".into())
    }
}

/// The path of a unix socket, with or without `unix://` before it.
///
/// # Errors
/// The sentence that says what it must be.
pub fn socket_path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.len() > SOCKET_PATH_MAX || path.ends_with('/') {
        return Err(format!("must be a socket's absolute path of at most {SOCKET_PATH_MAX} bytes"));
    }
    absolute_path(path).map_err(|_| {
        "must be a socket's absolute path without \"..\", with or without unix:// before it".into()
    })
}

/// The address of one of the node's interfaces.
pub(super) fn ip_address(text: &str) -> Read<IpAddr> {
    let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
    address.ok_or_else(|| "must be an IP address of this node".into())
}

/// Where figures are told: `IP:PORT`, or a unix socket.
pub(super) fn metrics_address(text: &str) -> Read<MetricsAddress> {
    if text.starts_with("unix://") {
        return socket_path(text).map(MetricsAddress::Unix);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err("must name a port: 1 to 65535".into()),
        Ok(address) => Ok(MetricsAddress::Tcp(address)),
        Err(_) => {
            Err("must be an IP address and a port, as in \"127.0.0.1:9464\", or unix:// and a socket's \
                       absolute path"
                .into())
        }
    }
}

/// Where a collector of traces takes OTLP over gRPC, without TLS as kubelets do.
pub(super) fn collector(text: &str) -> Read<String> {
    let parts = text.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'));
    let is_host = |host: &str| {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(name),
        }
    };
    match parts {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(format!("http://{host}:{port}"))
        }
        _ => Err("must be \"http://\", a host and a port, as in \"http://127.0.0.1:4317\"".into()),
    }
}

/// A name that containerd takes for a namespace (its identifiers: letters and digits, joined by single `.`, `_`
/// or `-`, at most 76).
pub(super) fn containerd_name(text: &str) -> Read<String> {
    let parts = || text.split(['.', '_', '-']);
    let plain = parts().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if plain && text.len() <= 76 {
        Ok(text.to_owned())
    } else {
        Err("must be letters and digits, joined by single \".\", \"_\" or \"-\", at most 76".into())
    }
}

/// A seccomp profile as the CRI's older string fields name it.
pub(super) fn seccomp_profile(text: &str) -> Read<String> {
    let local = text.strip_prefix("localhost/").is_some_and(|path| absolute_path(path).is_ok());
    if local || ["runtime/default", "unconfined"].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err("must be \"runtime/default\", \"unconfined\" or \"localhost/\" and an absolute path".into())
    }
}

/// Filter directives for the log: a level, or `module=level`, separated by commas. tracing itself would take a
/// misspelt level for a module.
///
/// # Errors
/// The sentence that says what it must be.
pub fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        LEVELS.contains(&level.trim())
    };
    if text.split(',').all(known) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be one of {}, or several as module=level, with commas between", LEVELS.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        let cases = [
            ("16KiB", Some(16 << 10)),
            ("64 GB", Some(64_000_000_000)),
            ("7", Some(7)),
            ("7B", Some(7)),
            ("20000000TiB", None),
            ("KiB", None),
            ("1.5GiB", None),
            ("-1KiB", None),
            ("1QiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        for text in ["http://127.0.0.1:4317", "http://[::1]:4317", "http://otel-collector.monitoring:1"] {
            assert_eq!(collector(text).as_deref(), Ok(text));
            assert_eq!(collector(&format!("{text}/")).as_deref(), Ok(text));
        }
        for text in [
            "127.0.0.1:4317",
            "https://127.0.0.1:4317",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://:4317",
            "http://::1:4317",
            "http://[::1]",
            "http://user:password@127.0.0.1:4317",
            "http://127.0.0.1:4317/v1/traces",
            "http://127.0.0.1:4317?a=b",
        ] {
            assert!(collector(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(bytes in any::<u64>(), shift in 0..40u32) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&print_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (parse_size(&text), socket_path(&text), log_level(&text), containerd_name(&text));
            let _ = collector(&text);
        }
    }
}
