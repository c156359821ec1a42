//! What no table of examples holds: files of any version in any order, with any value for any key.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;
use toml::{Table, Value};

use super::*;
use crate::config::Loaded;

/// Keys of the plugin's, and of others that its pods depend on, each without its section.
const KEYS: [&str; 44] = [
    "enable_selinux",
    "selinux_category_range",
    "max_container_log_line_size",
    "drain_exec_sync_io_timeout",
    "unset_seccomp_profile",
    "netns_mounts_under_state_dir",
    "enable_unprivileged_ports",
    "cdi_spec_dirs",
    "disable_cgroup",
    "ignore_deprecation_warnings",
    "stats_collect_period",
    "sandbox_image",
    "snapshotter",
    "max_concurrent_downloads",
    "image_pull_progress_timeout",
    "pinned_images.sandbox",
    "pinned_images.other",
    "runtime_platforms.vm.snapshotter",
    "registry.config_path",
    "registry.headers.X-A",
    "registry.mirrors.*.endpoint",
    "registry.mirrors.docker/../io.endpoint",
    "registry.configs.a:5.tls.ca_file",
    "registry.configs.a:5.auth.password",
    "registry.auths.a.auth",
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming.tls_cert_file",
    "x509_key_pair_streaming.tls_key_file",
    "cni.bin_dir",
    "cni.bin_dirs",
    "cni.max_conf_num",
    "cni.ip_pref",
    "containerd.default_runtime_name",
    "containerd.snapshotter",
    "containerd.default_runtime.runtime_type",
    "containerd.runtimes.runc.runtime_type",
    "containerd.runtimes.runc.options.SystemdCgroup",
    "containerd.runtimes.vm.runtime_type",
    "containerd.runtimes.vm.options.a.b",
    "containerd.runtimes.vm.sandboxer",
];
const SECTIONS: [&str; 5] =
    ["cri", sections::CRI, sections::RUNTIME, sections::IMAGES, "io.containerd.nri.v1.nri"];
const VALUES: [&str; 19] = [
    "true",
    "false",
    "0",
    "-1",
    "9223372036854775807",
    "1.5",
    "nan",
    "''",
    "'runc'",
    "'vm'",
    "'io.containerd.runc.v2'",
    "'/a'",
    "'10s'",
    "'0s'",
    "'http://u:secret@h/x'",
    "\"a\\nb\\u0001\"",
    "[]",
    "['/a', 'x']",
    "{ a = 1 }",
];

/// One file of these keys; where one would have to be a table and a value at once the first stays.
fn file(name: &str, version: u32, keys: &[(&str, &str, &str)]) -> File {
    let mut table = Table::new();
    for (section, key, value) in keys {
        let document: Table = format!("v = {value}").parse().unwrap();
        let path: Vec<&str> = ["plugins", section].into_iter().chain(key.split('.')).collect();
        let mut place = Some(&mut table);
        for part in &path[..path.len() - 1] {
            place = place.and_then(|place| {
                place.entry(*part).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
            });
        }
        if let Some(place) = place {
            place.entry(path[path.len() - 1]).or_insert(document["v"].clone());
        }
    }
    File { path: PathBuf::from(name), version, table }
}

/// How many values there are below the plugin's sections.
fn count(value: &Value) -> usize {
    value.as_table().map_or(1, |table| table.values().map(count).sum())
}

proptest! {
    #[test]
    fn whatever_the_keys_say_each_has_its_line_and_cridge_takes_the_rest(
        version in 1..=4u32,
        release in select(vec![Release(1, 6), Release(1, 7), Release(2, 0), Release(2, 1), Release(2, 4)]),
        keys in prop::collection::vec((select(&SECTIONS[..]), select(&KEYS[..]), select(&VALUES[..])), 0..12),
        more in prop::collection::vec((select(&SECTIONS[..]), select(&KEYS[..]), select(&VALUES[..])), 0..6),
    ) {
        let files = [file("/a.toml", version, &keys), file("/b.toml", version, &more)];
        let keys = files[0].table.get("plugins").map_or(0, count);
        match translated(Path::new("/a.toml"), files[..1].to_vec(), release) {
            Ok((migration, _)) => {
                prop_assert!(migration.report.items.len() >= keys, "{keys} keys:\n{}", migration.report);
                if let Some(config) = migration.config {
                    prop_assert!(Loaded::parse(&config).is_ok_and(|loaded| loaded.unknown.is_empty()), "{config}");
                }
            }
            Err(error) => prop_assert!(matches!(error, MigrateError::Contradiction { .. }), "{error}"),
        }
        let _ = translated(Path::new("/a.toml"), files.to_vec(), release);
    }

    #[test]
    fn no_text_panics(text in "(?s)[\\PC\n]{0,80}") {
        let _ = files::parse(Path::new("/a.toml"), &text);
    }
}

#[test]
fn the_release_is_told_or_asked_or_guessed_by_the_version() {
    let files = |version| vec![file("/a.toml", version, &[])];
    for (version, told, running, expected) in [
        (2, Some(Release(1, 6)), Some(Release(2, 1)), Release(1, 6)),
        (2, None, Some(Release(2, 1)), Release(2, 1)),
        (2, None, None, Release(1, 7)),
        (3, None, None, Release(2, 1)),
        (4, None, None, Release(2, 3)),
        // 1.x reads no version 3: whoever runs, or is told, it is another.
        (3, None, Some(Release(1, 7)), Release(2, 1)),
        (3, Some(Release(1, 7)), Some(Release(2, 4)), Release(2, 4)),
    ] {
        assert_eq!(release_of(&files(version), told, running).0, expected, "{version} {told:?} {running:?}");
    }
    for (text, expected) in
        [("1.7", Some(Release(1, 7))), ("2.1.9", Some(Release(2, 1))), ("1.5", None), ("2", None)]
    {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
}
