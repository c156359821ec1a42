//! AppArmor: whether a profile is loaded, and the default profile for containers, loaded when first needed.
//!
//! The profile has the name and the rules that containers of the built-in plugin run under, so that neither side sees
//! a difference when a node changes hands.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::LinuxError;

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const PARSERS: [&str; 2] = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];

/// Whether this node can confine containers: the kernel does, and there is a parser to load profiles with.
pub fn is_usable() -> bool {
    std::fs::read_to_string(ENABLED).is_ok_and(|on| on.starts_with('Y')) && parser().is_some()
}

/// Whether the kernel knows the profile.
pub fn is_loaded(profile: &str) -> Result<bool, LinuxError> {
    let list = std::fs::read_to_string(LOADED).map_err(|source| failed("read", LOADED, source))?;
    Ok(lists(&list, profile))
}

/// Loads the default profile under `name`, replacing one of that name.
pub fn load_default(name: &str) -> Result<(), LinuxError> {
    let parser = parser().ok_or_else(|| failed("find", PARSERS[0], std::io::ErrorKind::NotFound.into()))?;
    parse(&parser, &["-Kr"], &default_profile(name, Path::new("/etc/apparmor.d")))
}

fn parser() -> Option<PathBuf> {
    PARSERS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Feeds a profile to the parser.
fn parse(parser: &Path, flags: &[&str], profile: &str) -> Result<(), LinuxError> {
    let called = |source| failed("run", &parser.display().to_string(), source);
    let mut child = Command::new(parser)
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(called)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(profile.as_bytes()).map_err(called)?;
    }
    let output = child.wait_with_output().map_err(called)?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
    Err(called(std::io::Error::other(said)))
}

/// Each line of the kernel's list reads `name (mode)`.
fn lists(list: &str, profile: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile))
}

/// The rules. The distribution's includes are used where they are installed.
fn default_profile(name: &str, installed: &Path) -> String {
    let include = |file: &str| {
        if installed.join(file).exists() { format!("#include <{file}>\n") } else { String::new() }
    };
    let tunables = match include("tunables/global") {
        missing if missing.is_empty() => "@{PROC}=/proc/\n".to_owned(),
        found => found,
    };
    format!(
        r#"{tunables}
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  {base}
  network,
  capability,
  file,
  umount,

  # The node's processes and the runtime may signal the container; its own processes may signal each other.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer={name},
  ptrace (trace,read,tracedby,readby) peer={name},

  # Nothing of /proc outside the processes' own folders and the sysctls that namespaces make safe.
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/mem rwklx,
  deny @{{PROC}}/kmem rwklx,
  deny @{{PROC}}/kcore rwklx,

  deny mount,

  # Of /sys only the cgroups may be written.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"#,
        base = include("abstractions/base"),
    )
}

fn failed(action: &'static str, object: &str, source: std::io::Error) -> LinuxError {
    LinuxError::Call { action, object: object.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_whole_name() {
        let list = "docker-default (enforce)\ncri-containerd.apparmor.d (enforce)\nsnap.x (complain)\n";
        assert!(lists(list, "cri-containerd.apparmor.d"));
        assert!(lists(list, "snap.x"));
        assert!(!lists(list, "docker"));
    }

    #[test]
    fn the_default_profile_carries_its_name_and_needs_no_includes() {
        let nowhere = tempfile::tempdir().unwrap();
        let profile = default_profile("cri-test", nowhere.path());
        assert!(profile.contains("profile cri-test flags="));
        assert!(profile.contains("peer=cri-test"));
        assert!(!profile.contains("#include"));
    }

    #[test]
    fn the_default_profile_is_one_that_the_parser_takes() {
        let Some(parser) = parser() else {
            println!("SKIPPED: apparmor_parser is not installed here");
            return;
        };
        for installed in [Path::new("/etc/apparmor.d"), Path::new("/nonexistent")] {
            let profile = default_profile("cri-test", installed);
            parse(&parser, &["--skip-kernel-load", "--skip-cache"], &profile).unwrap();
        }
    }
}
