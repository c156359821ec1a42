//! A node's power fails. What is on its disk stays, and what is in memory does not.

use std::fs;
use std::path::Path;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use super::{Node, leaks, processes, until};

/// Where runc keeps what it knows of containers; of all nodes here.
const RUNC: &str = "/run/containerd/runc/k8s.io";

impl Node {
    /// Ends both daemons and all that runs, without a word to anybody, and takes away what a reboot wipes: mounts,
    /// network namespaces with their interfaces, cgroups, and the folders that are in /run elsewhere.
    pub async fn lose_power(&self) {
        self.end(Signal::KILL).await;
        self.end_containerd(Signal::KILL).await;
        let tasks = fs::read_dir(self.dir.join("state/io.containerd.runtime.v2.task/k8s.io"));
        let ids = tasks.into_iter().flatten().flatten().map(|task| task.file_name().into_string().unwrap());
        let ids: Vec<String> = ids.collect();
        until("all processes have ended", || async {
            let shims = processes::shims(self).into_iter().map(|shim| shim.pid);
            let living: Vec<u32> =
                shims.chain(ids.iter().flat_map(|id| processes::of_container(id))).collect();
            living.iter().for_each(|pid| processes::signal(*pid, Signal::KILL));
            living.is_empty().then_some(())
        })
        .await;
        // The last one is on top.
        for place in leaks::mounts(self).into_iter().rev() {
            unmount(&place, UnmountFlags::DETACH).unwrap_or_else(|why| panic!("{place}: {why}"));
        }
        for group in leaks::cgroups().into_iter().filter(|group| ids.iter().any(|id| group.ends_with(id))) {
            until(format!("{} goes", group.display()), || async {
                let _ = fs::remove_dir(&group);
                (!group.exists()).then_some(())
            })
            .await;
        }
        for id in &ids {
            let _ = fs::remove_dir_all(Path::new(RUNC).join(id));
        }
        for folder in ["state", "cridge/state", "netns"] {
            fs::remove_dir_all(self.dir.join(folder)).expect("a folder without mounts");
        }
    }
}
