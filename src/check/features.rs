//! What the built-in CRI plugin does on this node and cridge does not do yet: told before pods miss it.

use std::fs;
use std::path::Path;

use super::Finding;
use super::containerd::Seen;
use crate::containerd::Plugin;
use crate::linux::process::is_executable;

/// Where NRI starts plugins from, their settings, and where those that start by themselves connect to (containerd,
/// docs/NRI.md).
pub const NRI_PLUGINS: &str = "/opt/nri/plugins";
pub const NRI_SETTINGS: &str = "/etc/nri/conf.d";
pub const NRI_SOCKET: &str = "/var/run/nri/nri.sock";
/// Programs that judge every image before it is used (containerd, docs/image-verification.md).
pub const VERIFIERS: &str = "/opt/containerd/image-verifier/bin";
/// The kernel's list of unix sockets (proc_net(5)); in the sixth column, those that are connected.
const SOCKETS: &str = "/proc/net/unix";
const CONNECTED: &str = "03";

pub fn findings(seen: &Seen) -> Vec<Finding> {
    let plugins = nri_plugins_in(Path::new(NRI_PLUGINS), Path::new(NRI_SETTINGS), Path::new(NRI_SOCKET));
    vec![nri(&plugins, &seen.plugins), verifiers(&verifiers_in(Path::new(VERIFIERS)))]
}

/// What shows that NRI plugins are in use, for these places of theirs.
pub fn nri_plugins_in(plugins: &Path, settings: &Path, socket: &Path) -> Vec<String> {
    let connected = connections(&fs::read_to_string(SOCKETS).unwrap_or_default(), socket);
    let connected = (connected > 0).then(|| format!("{connected} connected to {}", socket.display()));
    entries(plugins, is_executable).chain(entries(settings, Path::is_file)).chain(connected).collect()
}

/// The image verifiers of this folder.
pub fn verifiers_in(folder: &Path) -> Vec<String> {
    entries(folder, is_executable).collect()
}

fn connections(sockets: &str, path: &Path) -> usize {
    let path = path.display().to_string();
    // The path is the eighth column, and has blanks of its own.
    let is_one = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(5) == Some(&CONNECTED) && columns.get(7..).is_some_and(|rest| rest.join(" ") == path)
    };
    sockets.lines().filter(is_one).count()
}

fn nri(found: &[String], loaded: &[Plugin]) -> Finding {
    const NAME: &str = "NRI plugins";
    if found.is_empty() {
        return Finding::ok(NAME, "none on this node");
    }
    let text = format!("cridge cannot run {} yet", found.join(", "));
    let fix = "stay with the built-in plugin, or remove them if no pod needs them";
    // 1.x has no such plugin of its own, or has it off.
    let on = loaded.iter().any(|plugin| plugin.kind == "io.containerd.nri.v1" && plugin.is_loaded());
    if loaded.is_empty() || on {
        return Finding::fail(NAME, text, fix);
    }
    Finding::warn(NAME, format!("{text}; containerd does not run them either"), fix)
}

fn verifiers(found: &[String]) -> Finding {
    const NAME: &str = "image verifiers";
    if found.is_empty() {
        return Finding::ok(NAME, "none on this node");
    }
    let text = format!("cridge does not ask {} yet: images would go unverified", found.join(", "));
    Finding::fail(NAME, text, "stay with the built-in plugin, or remove them if they are not needed")
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
        let program = dir.path().join("10-x");
        fs::write(&program, "").unwrap();
        assert_eq!(verifiers_in(dir.path()), [""; 0]);
        assert_eq!(nri_plugins_in(dir.path(), none, none), [""; 0]);
        assert_eq!(nri_plugins_in(none, dir.path(), none), [program.display().to_string()]);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(nri_plugins_in(dir.path(), none, none), [program.display().to_string()]);
        let found = verifiers_in(dir.path());
        assert_eq!(verifiers(&found).outcome, Outcome::Fail);
        assert_eq!(verifiers(&[]).outcome, Outcome::Ok);
        let plugin = |init_error: Option<&str>| Plugin {
            kind: "io.containerd.nri.v1".into(),
            id: "nri".into(),
            exports: Default::default(),
            capabilities: Vec::new(),
            platforms: Vec::new(),
            init_error: init_error.map(str::to_owned),
        };
        assert_eq!(nri(&[], &[plugin(None)]).outcome, Outcome::Ok);
        assert_eq!(nri(&found, &[]).outcome, Outcome::Fail);
        assert_eq!(nri(&found, &[plugin(None)]).outcome, Outcome::Fail);
        assert_eq!(nri(&found, &[plugin(Some("disabled"))]).outcome, Outcome::Warn);
    }

    #[test]
    fn plugins_that_connect_by_themselves_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (none, path) = (Path::new("/nonexistent"), dir.path().join("a b.sock"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(nri_plugins_in(none, none, &path), [""; 0]);
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let _server = listener.accept().unwrap();
        assert_eq!(nri_plugins_in(none, none, &path), [format!("1 connected to {}", path.display())]);
    }
}
