//! The files that a pod's containers share: hostname, hosts, resolv.conf, /dev/shm.

use std::io;
use std::path::{Path, PathBuf};

use super::check::IpcKind;
use super::{NetworkHold, Rootfs, Sandbox, SandboxError, Sandboxes};
use crate::id::PodId;
use crate::linux::{file, mount};
use crate::proto::cri;
use crate::spec::UserNamespace;

/// Size of a pod's /dev/shm in bytes, as the built-in plugin has it.
const SHM_BYTES: u64 = 64 << 20;

/// Writes the pod's files and mounts its /dev/shm. Blocking.
pub(super) fn write(
    sandboxes: &Sandboxes,
    id: &PodId,
    config: &cri::PodSandboxConfig,
    ipc: IpcKind,
    users: Option<UserNamespace>,
) -> Result<(), SandboxError> {
    let root = sandboxes.root_dir(id);
    let hostname = match config.hostname.as_str() {
        "" => sandboxes.node().hostname.clone(),
        given => given.to_owned(),
    };
    write_file(&root.join("hostname"), format!("{hostname}\n").as_bytes())?;
    write_file(&root.join("hosts"), &host_file("/etc/hosts")?)?;
    let resolv_conf = match config.dns_config.as_ref().map(resolv_conf) {
        Some(text) if !text.is_empty() => text.into_bytes(),
        _ => host_file("/etc/resolv.conf")?,
    };
    write_file(&root.join("resolv.conf"), &resolv_conf)?;
    if ipc == IpcKind::Pod {
        let shm = shm_dir(sandboxes, id);
        make_dir(&shm)?;
        let root = users.map_or((0, 0), |users| (users.ids.uids.outside, users.ids.gids.outside));
        mount::tmpfs(&shm, SHM_BYTES, 0o1777, root).map_err(|source| SandboxError::Linux {
            step: "mount /dev/shm",
            id: id.clone(),
            source,
        })?;
    }
    Ok(())
}

impl Sandboxes {
    /// What an earlier daemon has left of a pod's network, as far as it wrote that down.
    pub fn network_left(&self, id: &PodId) -> NetworkHold {
        if going_mark(self, id).exists() { NetworkHold::Going } else { NetworkHold::Held }
    }

    /// What a sandbox's containers get for /dev/shm.
    pub fn shm_of(&self, sandbox: &Sandbox) -> PathBuf {
        let facts = sandbox.facts();
        let linux = facts.metadata.config.linux.as_ref();
        let options = linux
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|context| context.namespace_options.as_ref());
        match options.map(cri::NamespaceOption::ipc) {
            Some(cri::NamespaceMode::Node) => "/dev/shm".into(),
            _ => shm_dir(self, &sandbox.id),
        }
    }
}

/// Where the pod's /dev/shm is mounted.
pub(super) fn shm_dir(sandboxes: &Sandboxes, id: &PodId) -> PathBuf {
    sandboxes.state_dir(id).join("shm")
}

/// Where the pod's user namespace is pinned: the built-in plugin's place.
pub(super) fn userns_pin(sandboxes: &Sandboxes, id: &PodId) -> PathBuf {
    sandboxes.state_dir(id).join("pinned-namespaces/user")
}

/// Is there from the first DEL on: whoever takes the pod in after this daemon's death must not show its address.
fn going_mark(sandboxes: &Sandboxes, id: &PodId) -> PathBuf {
    sandboxes.state_dir(id).join("network-goes")
}

/// Writes down that the pod's network goes. Blocking.
pub(super) fn mark_going(sandboxes: &Sandboxes, id: &PodId) -> Result<(), SandboxError> {
    make_dir(&sandboxes.state_dir(id))?;
    write_file(&going_mark(sandboxes, id), b"")
}

/// Unmounts what the state folder of a sandbox holds. Blocking; nothing there is fine.
pub(super) fn unmount(sandboxes: &Sandboxes, id: &PodId) -> Result<(), SandboxError> {
    let failed = |step| move |source| SandboxError::Linux { step, id: id.clone(), source };
    mount::unmount_all(&shm_dir(sandboxes, id)).map_err(failed("unmount /dev/shm"))?;
    mount::unmount_all(&userns_pin(sandboxes, id)).map_err(failed("unpin the user namespace"))?;
    Rootfs::unmount(&sandboxes.state_dir(id)).map_err(failed("unmount the layers"))
}

/// Removes a sandbox' folders. Blocking; call only after [`unmount`].
pub(super) fn remove(sandboxes: &Sandboxes, id: &PodId) -> Result<(), SandboxError> {
    let failed = |path| move |source| SandboxError::File { action: "remove", path, source };
    let folders = [sandboxes.state_dir(id), sandboxes.root_dir(id)];
    folders.into_iter().try_for_each(|path| file::remove_tree(&path).map_err(failed(path)))
}

/// A resolver configuration (resolv.conf(5)); empty where the config asks for nothing.
fn resolv_conf(dns: &cri::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// A file of the host's; one that is missing reads as empty.
fn host_file(path: &str) -> Result<Vec<u8>, SandboxError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| SandboxError::File { action: "read", path: path.into(), source }),
    }
}

/// Makes a folder and those above it. A few system calls: not worth a thread.
pub(super) fn make_dir(path: &Path) -> Result<(), SandboxError> {
    std::fs::create_dir_all(path).map_err(|source| SandboxError::File {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    std::fs::write(path, bytes).map_err(|source| SandboxError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_files_follow_resolv_conf_5() {
        let dns = cri::DnsConfig {
            servers: vec!["10.0.0.10".into(), "fd00::10".into()],
            searches: vec!["default.svc.cluster.local".into(), "cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search default.svc.cluster.local cluster.local\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&cri::DnsConfig::default()), "");
    }
}
