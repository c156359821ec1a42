//! What real containerds print as their default: every key of theirs is known.

use std::path::Path;
use std::process::Command;

use cridge::config::Loaded;
use cridge::migrate::{Outcome, Release, translate};

/// Each release of the lab with its number.
const RELEASES: [(&str, Release); 4] =
    [("1.6", Release(1, 6)), ("1.7", Release(1, 7)), ("2.x", Release(2, 1)), ("2.4", Release(2, 4))];

fn printed(command: &mut Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_default_of_every_release_is_carried_over_or_named() {
    let cache = printed(Command::new("hack/lab").arg("path"));
    let dir = tempfile::tempdir().unwrap();
    for (name, release) in RELEASES {
        printed(Command::new("hack/lab").args(["containerd", name]));
        let program = Path::new(cache.trim()).join("containerd").join(name).join("bin/containerd");
        let default = printed(Command::new(program).args(["config", "default"]));
        let file = dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, &default).unwrap();
        let migration = translate(&file, release).unwrap();
        let report = migration.report.to_string();
        assert!(!migration.report.is_refused(), "{name}:\n{report}");
        let unknown: Vec<_> =
            migration.report.items.iter().filter(|item| item.text.contains("no such key")).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:#?}");
        // A default is what cridge does as well, but for what nobody can give back.
        let left = migration.report.items.iter().filter(|item| item.outcome == Outcome::Left);
        let left: Vec<_> = left.map(|item| item.key.rsplit('.').next().unwrap()).collect();
        assert!(
            left.iter().all(|key| ["drain_exec_sync_io_timeout", "key_model"].contains(key)),
            "{name}: {left:?}"
        );
        // Every key of the plugin's has its line.
        let lines = migration.report.items.len();
        assert!(lines > 50, "{name}: {lines} lines\n{report}");
        Loaded::parse(&migration.config.unwrap()).unwrap();
    }
}
