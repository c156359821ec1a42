//! What the built-in CRI plugin does on this node and cridge does not do yet: told before pods miss it.

use std::fs;
use std::path::Path;

use super::Finding;
use super::containerd::Seen;
use crate::containerd::Plugin;
use crate::linux::process::is_executable;

/// Where NRI starts plugins from, and their settings (containerd, docs/NRI.md).
const NRI_PLUGINS: &str = "/opt/nri/plugins";
const NRI_SETTINGS: &str = "/etc/nri/conf.d";
/// Programs that judge every image before it is used (containerd, docs/image-verification.md).
const VERIFIERS: &str = "/opt/image-verifier/bin";

pub fn findings(seen: &Seen) -> Vec<Finding> {
    vec![nri(Path::new(NRI_PLUGINS), Path::new(NRI_SETTINGS), &seen.plugins), verifiers(Path::new(VERIFIERS))]
}

fn nri(plugins: &Path, settings: &Path, loaded: &[Plugin]) -> Finding {
    const NAME: &str = "NRI plugins";
    let found: Vec<_> = entries(plugins, is_executable).chain(entries(settings, Path::is_file)).collect();
    if found.is_empty() {
        return Finding::ok(NAME, "none on this node");
    }
    let text = format!("cridge cannot run {} yet", found.join(", "));
    let fix =
        format!("remove them from {} and {} if no pod needs them", plugins.display(), settings.display());
    // 1.x has no such plugin of its own, or has it off.
    let on = loaded.iter().any(|plugin| plugin.kind == "io.containerd.nri.v1" && plugin.is_loaded());
    if loaded.is_empty() || on {
        return Finding::fail(NAME, text, fix);
    }
    Finding::warn(NAME, format!("{text}; containerd does not run them either"), fix)
}

fn verifiers(folder: &Path) -> Finding {
    const NAME: &str = "image verifiers";
    let found: Vec<_> = entries(folder, is_executable).collect();
    if found.is_empty() {
        return Finding::ok(NAME, "none on this node");
    }
    let text = format!("cridge does not ask {} yet: images would go unverified", found.join(", "));
    let fix = format!("stay with the built-in plugin, or empty {} if they are not needed", folder.display());
    Finding::fail(NAME, text, fix)
}

fn entries(folder: &Path, is_one: impl Fn(&Path) -> bool) -> impl Iterator<Item = String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<_> =
        found.filter(|path| is_one(path)).map(|path| path.display().to_string()).collect();
    names.sort();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Outcome;
    use super::*;

    #[test]
    fn what_cridge_lacks_fails_where_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let none = Path::new("/nonexistent");
        assert_eq!(verifiers(dir.path()).outcome, Outcome::Ok);
        assert_eq!(nri(dir.path(), none, &[]).outcome, Outcome::Ok);
        let program = dir.path().join("10-x");
        fs::write(&program, "").unwrap();
        assert_eq!(verifiers(dir.path()).outcome, Outcome::Ok);
        assert_eq!(nri(none, dir.path(), &[]).outcome, Outcome::Fail);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(verifiers(dir.path()).outcome, Outcome::Fail);
        let plugin = |init_error: Option<&str>| Plugin {
            kind: "io.containerd.nri.v1".into(),
            id: "nri".into(),
            exports: Default::default(),
            capabilities: Vec::new(),
            platforms: Vec::new(),
            init_error: init_error.map(str::to_owned),
        };
        assert_eq!(nri(dir.path(), none, &[plugin(None)]).outcome, Outcome::Fail);
        assert_eq!(nri(dir.path(), none, &[plugin(Some("disabled"))]).outcome, Outcome::Warn);
    }
}
