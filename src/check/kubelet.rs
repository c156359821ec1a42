//! The kubelet of this node: which CRI socket it uses.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What it uses where nobody says (Kubernetes, pkg/kubelet/apis/config/v1beta1).
const USUAL: &str = "unix:///run/containerd/containerd.sock";
/// Where kubeadm keeps its arguments and its configuration.
pub const ARGUMENTS: &str = "var/lib/kubelet/kubeadm-flags.env";
pub const CONFIG: &str = "var/lib/kubelet/config.yaml";

/// A kubelet's socket, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    pub socket: PathBuf,
    pub source: String,
    /// A flag says so, which counts more than the file.
    pub by_flag: bool,
    /// Its configuration file.
    pub config: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    #[serde(default)]
    container_runtime_endpoint: String,
}

/// The kubelet that runs, else the one that kubeadm has set up.
pub fn find(root: &Path) -> Option<Kubelet> {
    running(root).or_else(|| set_up(root))
}

fn running(root: &Path) -> Option<Kubelet> {
    let proc = root.join("proc");
    // That of a node within this one, as kind makes them, is not ours.
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let ours = namespace(&proc.join("self"));
    let processes = fs::read_dir(&proc).ok()?.flatten().map(|entry| entry.path());
    let mut kubelets = processes.filter(|process| {
        let name = fs::read_to_string(process.join("comm"));
        name.is_ok_and(|name| name.trim_end() == "kubelet") && namespace(process) == ours
    });
    let process = kubelets.next()?;
    let arguments = fs::read(process.join("cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    let arguments: Vec<&str> = arguments.split('\0').collect();
    let pid = process.file_name()?.display().to_string();
    Some(by_arguments(root, &arguments, &format!("the running kubelet's (pid {pid})")))
}

fn set_up(root: &Path) -> Option<Kubelet> {
    let text = fs::read_to_string(root.join(ARGUMENTS)).ok();
    if text.is_none() && !root.join(CONFIG).exists() {
        return None;
    }
    let text = text.unwrap_or_default();
    let arguments = text.split_once("KUBELET_KUBEADM_ARGS=").map_or("", |(_, arguments)| arguments);
    let mut arguments: Vec<&str> = arguments.split(['"', '\'', ' ', '\n']).collect();
    arguments.extend(["--config", "/var/lib/kubelet/config.yaml"]);
    Some(by_arguments(root, &arguments, "kubeadm's"))
}

/// A flag counts more than the file.
fn by_arguments(root: &Path, arguments: &[&str], whose: &str) -> Kubelet {
    let flag = |name: &str| {
        let found = arguments.iter().enumerate().rev().find_map(|(place, argument)| {
            let rest = argument.strip_prefix("--")?.strip_prefix(name)?;
            if rest.is_empty() { arguments.get(place + 1).copied() } else { rest.strip_prefix('=') }
        });
        found.filter(|value| !value.is_empty())
    };
    let file = flag("config").map(|file| root.join(file.trim_start_matches('/')));
    if let Some(endpoint) = flag("container-runtime-endpoint") {
        let source = format!("{whose} --container-runtime-endpoint");
        return Kubelet { socket: socket(endpoint), source, by_flag: true, config: file };
    }
    let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let endpoint =
        serde_saphyr::from_str::<Configuration>(&text).map(|config| config.container_runtime_endpoint);
    let (endpoint, source) = match (endpoint, &file) {
        (Ok(endpoint), Some(file)) if !endpoint.is_empty() => {
            (endpoint, format!("containerRuntimeEndpoint in {}", file.display()))
        }
        _ => (USUAL.to_owned(), format!("{whose} default")),
    };
    Kubelet { socket: socket(&endpoint), source, by_flag: false, config: file }
}

fn socket(endpoint: &str) -> PathBuf {
    endpoint.strip_prefix("unix://").unwrap_or(endpoint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_counts_more_than_a_file_and_a_process_more_than_both() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || find(dir.path()).map(|kubelet| kubelet.socket.display().to_string());
        assert_eq!(found(), None);
        write(CONFIG, "kind: KubeletConfiguration\nstaticPodPath: /x\n");
        assert_eq!(found().as_deref(), Some("/run/containerd/containerd.sock"));
        write(CONFIG, "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix:///run/file.sock\n");
        assert_eq!(found().as_deref(), Some("/run/file.sock"));
        write(
            ARGUMENTS,
            "KUBELET_KUBEADM_ARGS=\"--node-ip=1.2.3.4 --container-runtime-endpoint=unix:///run/flag.sock --x\"\n",
        );
        assert_eq!(found().as_deref(), Some("/run/flag.sock"));
        write("proc/7/comm", "bash\n");
        write("proc/8/comm", "kubelet\n");
        write("proc/8/cmdline", "/usr/bin/kubelet\0--config=/etc/k.yaml\0--v=2\0");
        write("etc/k.yaml", "containerRuntimeEndpoint: \"/run/process.sock\"\n");
        assert_eq!(found().as_deref(), Some("/run/process.sock"));
        write("proc/8/cmdline", "kubelet\0--container-runtime-endpoint\0unix:///run/two.sock\0");
        let kubelet = find(dir.path()).unwrap();
        assert_eq!(kubelet.socket, Path::new("/run/two.sock"));
        assert_eq!(kubelet.source, "the running kubelet's (pid 8) --container-runtime-endpoint");
    }
}
