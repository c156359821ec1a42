//! Realistic configurations of every version, beside the files that come of them and what is told.

use std::fs;
use std::path::{Path, PathBuf};

use cridge::config::Loaded;
use cridge::migrate::{Migration, Release, translate};

/// Each folder with the release that reads it.
const CASES: [(&str, Release); 8] = [
    ("docker", Release(1, 7)),
    ("version-1", Release(1, 6)),
    ("mirrors-1.6", Release(1, 6)),
    ("kubeadm-1.7", Release(1, 7)),
    ("kind", Release(2, 1)),
    ("drop-ins-2.1", Release(2, 1)),
    ("newest", Release(2, 4)),
    ("replaced-1.7", Release(1, 7)),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate/golden").join(name)
}

fn migrated(name: &str, release: Release) -> Migration {
    translate(&folder(name).join("config.toml"), release).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn configurations_become_what_they_became_before() {
    let mut differences = Vec::new();
    for (name, release) in CASES {
        let migration = migrated(name, release);
        let report = migration.report.to_string();
        let config = migration.config.unwrap_or_default();
        for (file, text) in [("cridge.toml", config), ("report.txt", report)] {
            // Where the repository lies is not what is tested.
            let text = text.replace(&folder(name).display().to_string(), "/etc/containerd");
            let path = folder(name).join(file);
            if std::env::var_os("CRIDGE_GOLDEN_WRITE").is_some() {
                fs::write(&path, text).unwrap();
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                differences.push(format!("{}:\n{text}", path.display()));
            }
        }
    }
    let differences = differences.join("\n");
    assert!(differences.is_empty(), "CRIDGE_GOLDEN_WRITE=1 writes what comes now:\n{differences}");
}

#[test]
fn every_folder_is_a_case() {
    let there =
        fs::read_dir(folder(".")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<_> = there.collect();
    let mut cases: Vec<_> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    there.sort();
    cases.sort();
    assert_eq!(there, cases);
}

#[test]
fn what_comes_out_is_taken_by_cridge() {
    for (name, release) in CASES {
        let migration = migrated(name, release);
        let Some(config) = migration.config else {
            assert!(migration.report.is_refused(), "{name}");
            continue;
        };
        let loaded =
            Loaded::parse(&config).unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}\n{config}"));
        assert!(loaded.unknown.is_empty(), "{name}: {:?}", loaded.unknown);
    }
}

#[test]
fn no_secret_is_told() {
    for (name, release) in CASES {
        let report = migrated(name, release).report;
        let told = format!("{report}{}", serde_json::to_string(&report).unwrap());
        assert!(!told.contains("secret-") && !told.contains("c2VjcmV0"), "{name}: {told}");
    }
}
