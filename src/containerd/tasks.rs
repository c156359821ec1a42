//! Tasks: the running side of a container, one shim call each.

use std::path::PathBuf;

use super::{Containerd, ContainerdError, SnapshotMount, TypedBlob};
use crate::signal::Signal;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// The FIFO paths of a task or exec; absent ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdioPaths {
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
    pub terminal: bool,
}

/// A task to create.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub container_id: String,
    pub rootfs: Vec<SnapshotMount>,
    pub stdio: StdioPaths,
    /// An absolute shim binary.
    pub runtime_path: Option<PathBuf>,
}

/// A process to run beside the container's own.
#[derive(Clone, Debug)]
pub struct ExecProcess {
    pub container_id: String,
    pub exec_id: String,
    pub stdio: StdioPaths,
    /// An OCI process, JSON.
    pub process: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u32,
    pub at: Timestamp,
}

/// What containerd says of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskInfo {
    pub container_id: String,
    pub pid: u32,
    pub state: TaskState,
    pub stdio: StdioPaths,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    Created,
    Running,
    Stopped(Exit),
    Pausing,
    Paused,
    Unknown,
}

impl Containerd {
    /// Starts shim and runtime up to the point where only start is missing; the init's pid. Options stay those of the
    /// container's record (contract §3: task options would replace them).
    pub async fn create_task(&self, task: &NewTask) -> Result<u32> {
        unimplemented!("{task:?}")
    }

    pub async fn start_task(&self, container_id: &str) -> Result<u32> {
        unimplemented!("{container_id}")
    }

    pub async fn task(&self, container_id: &str) -> Result<TaskInfo> {
        unimplemented!("{container_id}")
    }

    /// All tasks of the namespace, one call.
    pub async fn tasks(&self) -> Result<Vec<TaskInfo>> {
        unimplemented!()
    }

    /// Waits for the exit of a task (or, with an exec id, of that process), as long as it takes. An error is the
    /// connection's, never an exit: subscribe, look and wait again.
    pub async fn wait(&self, container_id: &str, exec_id: Option<&str>) -> Result<Exit> {
        unimplemented!("{container_id} {exec_id:?}")
    }

    /// Signals the init, or an exec's process, or with `All::Processes` every process of the container.
    pub async fn kill(
        &self,
        container_id: &str,
        exec_id: Option<&str>,
        signal: Signal,
        all: All,
    ) -> Result<()> {
        unimplemented!("{container_id} {exec_id:?} {signal} {all:?}")
    }

    /// Deletes a stopped task: shim and mounts go. How it ended, as the shim tells.
    pub async fn delete_task(&self, container_id: &str) -> Result<Exit> {
        unimplemented!("{container_id}")
    }

    /// Adds a process to a running task; not started yet.
    pub async fn add_exec(&self, exec: &ExecProcess) -> Result<()> {
        unimplemented!("{exec:?}")
    }

    pub async fn start_exec(&self, container_id: &str, exec_id: &str) -> Result<u32> {
        unimplemented!("{container_id} {exec_id}")
    }

    pub async fn delete_exec(&self, container_id: &str, exec_id: &str) -> Result<Exit> {
        unimplemented!("{container_id} {exec_id}")
    }

    /// Sets a terminal's size.
    pub async fn resize(
        &self,
        container_id: &str,
        exec_id: Option<&str>,
        width: u32,
        height: u32,
    ) -> Result<()> {
        unimplemented!("{container_id} {exec_id:?} {width} {height}")
    }

    /// Closes the shim's writing end of stdin, so that the process reads end of file.
    pub async fn close_stdin(&self, container_id: &str, exec_id: Option<&str>) -> Result<()> {
        unimplemented!("{container_id} {exec_id:?}")
    }

    /// Changes a running task's resources (OCI LinuxResources, JSON).
    pub async fn update_task(&self, container_id: &str, resources: TypedBlob) -> Result<()> {
        unimplemented!("{container_id} {resources:?}")
    }

    /// Pids of all processes of the task.
    pub async fn pids(&self, container_id: &str) -> Result<Vec<u32>> {
        unimplemented!("{container_id}")
    }
}

/// Whether a signal goes to one process or to all of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum All {
    No,
    Processes,
}
