//! Looks up what the node is and allows: once at start, and again whenever containerd came back.

use crate::containerd::Containerd;
use crate::linux::{LinuxError, apparmor, caps, cgroup, mount, process};
use crate::spec::NodeFacts;

/// CAP_SYS_RESOURCE, without which no score below one's own can be given (proc_pid_oom_score_adj(5)).
const MAY_LOWER_OOM_SCORE: &str = "CAP_SYS_RESOURCE";
const LOWEST_OOM_SCORE: i32 = -1000;
/// From 1.7 on containerd looks at `Container.sandbox`: it connects a container to the pause's shim without running the
/// shim's program again. 1.7 leaves the bundle behind when such a start is cut off, and its own plugin does not look into
/// its sandbox store.
const KNOWS_SANDBOXES: (u32, u32) = (2, 0);

/// The facts, as far as they can be read. What "all capabilities" and the lowest OOM score are is asked of
/// containerd's own process: the pods are its children, not ours.
pub async fn load_facts(containerd: &Containerd) -> Result<NodeFacts, LinuxError> {
    let pid = containerd.server_pid().await?;
    let containerd_caps = caps::effective(pid)?;
    let oom_score_floor = if containerd_caps.has(MAY_LOWER_OOM_SCORE) {
        LOWEST_OOM_SCORE
    } else {
        let own = process::oom_score_adj(pid)?;
        tracing::warn!(
            "containerd may not give an OOM score below its own, {own}: lower ones are raised to it"
        );
        own
    };
    let controllers = cgroup::controllers();
    Ok(NodeFacts {
        hostname: process::hostname(),
        cgroup_mode: cgroup::mode(),
        swap_controller: can_limit_swap(),
        controllers,
        cgroup2_options: cgroup2_options()?,
        kernel: process::kernel_version(),
        containerd_caps,
        oom_score_floor,
        apparmor: apparmor::is_usable(),
        selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        seccomp: std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        knows_sandboxes: knows_sandboxes(containerd).await,
    })
}

/// Not known is no: every release takes records that name no sandbox.
async fn knows_sandboxes(containerd: &Containerd) -> bool {
    containerd.version().await.is_ok_and(|version| version.number() >= KNOWS_SANDBOXES)
}

/// Options of the host's cgroup2 mount that a new mount would drop for the whole host.
fn cgroup2_options() -> Result<Vec<String>, LinuxError> {
    const KEPT: [&str; 2] = ["nsdelegate", "memory_recursiveprot"];
    let mounts = mount::mounts()?;
    let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
    let options = unified.map(|mount| mount.super_options.as_slice()).unwrap_or_default();
    Ok(options.iter().filter(|option| KEPT.contains(&option.as_str())).cloned().collect())
}

/// Whether memory and swap together can be bounded. The v2 file is not in the root, only in its children.
fn can_limit_swap() -> bool {
    let root = std::path::Path::new("/sys/fs/cgroup");
    if cgroup::mode() == cgroup::CgroupMode::Legacy {
        return root.join("memory/memory.memsw.limit_in_bytes").exists();
    }
    let children = std::fs::read_dir(root).into_iter().flatten().flatten();
    children.into_iter().any(|child| child.path().join("memory.swap.max").exists())
}
