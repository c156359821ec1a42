//! Tasks: the running side of a container, one shim call each.

use std::collections::HashMap;
use std::path::PathBuf;

use containerd_client::services::v1 as api;
use containerd_client::types::v1 as task_types;

use super::call::Call;
use super::convert::timestamp;
use super::{Containerd, ContainerdError, PROCESS_TYPE, RESOURCES_TYPE, SnapshotMount, TypedBlob};
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
    /// Options in place of the container's own; none leaves those.
    pub options: Option<TypedBlob>,
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
    /// Starts shim and runtime up to the point where only start is missing; the init's pid, 0 of one to be restored.
    /// Options of the task replace all of the container's record (contract §3).
    pub async fn create_task(&self, task: &NewTask) -> Result<u32> {
        let request = api::CreateTaskRequest {
            container_id: task.container_id.clone(),
            rootfs: task.rootfs.iter().map(Into::into).collect(),
            stdin: text(task.stdio.stdin.as_ref()),
            stdout: text(task.stdio.stdout.as_ref()),
            stderr: text(task.stdio.stderr.as_ref()),
            terminal: task.stdio.terminal,
            runtime_path: text(task.runtime_path.as_ref()),
            options: task.options.clone().map(Into::into),
            ..Default::default()
        };
        let call = Call::work("create task", &task.container_id);
        Ok(call.run(self.calls().tasks().create(request)).await?.pid)
    }

    /// Starts the init of a created task; its pid.
    pub async fn start_task(&self, container_id: &str) -> Result<u32> {
        let request = api::StartRequest { container_id: container_id.into(), exec_id: String::new() };
        Ok(Call::work("start task", &container_id).run(self.calls().tasks().start(request)).await?.pid)
    }

    /// The task's present state, as the shim tells.
    pub async fn task(&self, container_id: &str) -> Result<TaskInfo> {
        let call = Call::record("look at task", &container_id);
        let request = api::GetRequest { container_id: container_id.into(), exec_id: String::new() };
        let answer = call.run(self.calls().tasks().get(request)).await?;
        answer.process.map(TaskInfo::from).ok_or_else(|| call.malformed("there is no process in it"))
    }

    /// All tasks of the namespace, one call. containerd leaves out those whose shim it lost.
    pub async fn tasks(&self) -> Result<Vec<TaskInfo>> {
        let request = api::ListTasksRequest::default();
        let answer =
            Call::work("list tasks of", &self.namespace()).run(self.calls().tasks().list(request)).await?;
        Ok(answer.tasks.into_iter().map(TaskInfo::from).collect())
    }

    /// Waits for the exit of a task (or, with an exec id, of that process), as long as it takes. An error is the
    /// connection's, never an exit: subscribe, look and wait again.
    pub async fn wait(&self, container_id: &str, exec_id: Option<&str>) -> Result<Exit> {
        let object = process_name(container_id, exec_id);
        let call = Call::endless("wait for", &object);
        let request = api::WaitRequest {
            container_id: container_id.into(),
            exec_id: exec_id.unwrap_or_default().into(),
        };
        let answer = call.run(self.streams().tasks().wait(request)).await?;
        let exit = Exit { code: answer.exit_status, at: timestamp(answer.exited_at) };
        if exit.at.is_set() { Ok(exit) } else { Err(call.malformed("an exit without its time")) }
    }

    /// Signals the init, or an exec's process, or with `All::Processes` every process of the container.
    ///
    /// # Errors
    /// `Kind::NotFound` where the process has ended already, besides the usual ones.
    pub async fn kill(
        &self,
        container_id: &str,
        exec_id: Option<&str>,
        signal: Signal,
        all: All,
    ) -> Result<()> {
        let request = api::KillRequest {
            container_id: container_id.into(),
            exec_id: exec_id.unwrap_or_default().into(),
            signal: signal.number(),
            all: all == All::Processes,
        };
        let object = process_name(container_id, exec_id);
        Call::work("signal", &object).run(self.calls().tasks().kill(request)).await
    }

    /// Deletes a stopped task: shim and mounts go. How it ended, as the shim tells; `at` is not set for a task that
    /// was never started.
    pub async fn delete_task(&self, container_id: &str) -> Result<Exit> {
        let request = api::DeleteTaskRequest { container_id: container_id.into() };
        Ok(Call::work("delete task", &container_id).run(self.calls().tasks().delete(request)).await?.into())
    }

    /// Adds a process to a running task; not started yet.
    pub async fn add_exec(&self, exec: &ExecProcess) -> Result<()> {
        let request = api::ExecProcessRequest {
            container_id: exec.container_id.clone(),
            exec_id: exec.exec_id.clone(),
            stdin: text(exec.stdio.stdin.as_ref()),
            stdout: text(exec.stdio.stdout.as_ref()),
            stderr: text(exec.stdio.stderr.as_ref()),
            terminal: exec.stdio.terminal,
            spec: Some(TypedBlob { type_url: PROCESS_TYPE.into(), value: exec.process.clone() }.into()),
        };
        let object = process_name(&exec.container_id, Some(&exec.exec_id));
        Call::work("add", &object).run(self.calls().tasks().exec(request)).await
    }

    /// Starts an added process; its pid.
    pub async fn start_exec(&self, container_id: &str, exec_id: &str) -> Result<u32> {
        let request = api::StartRequest { container_id: container_id.into(), exec_id: exec_id.into() };
        let object = process_name(container_id, Some(exec_id));
        Ok(Call::work("start", &object).run(self.calls().tasks().start(request)).await?.pid)
    }

    /// Forgets a process that ended (or was never started); how it ended.
    pub async fn delete_exec(&self, container_id: &str, exec_id: &str) -> Result<Exit> {
        let request =
            api::DeleteProcessRequest { container_id: container_id.into(), exec_id: exec_id.into() };
        let object = process_name(container_id, Some(exec_id));
        Ok(Call::work("delete", &object).run(self.calls().tasks().delete_process(request)).await?.into())
    }

    /// Sets a terminal's size, in characters.
    pub async fn resize(
        &self,
        container_id: &str,
        exec_id: Option<&str>,
        width: u32,
        height: u32,
    ) -> Result<()> {
        let request = api::ResizePtyRequest {
            container_id: container_id.into(),
            exec_id: exec_id.unwrap_or_default().into(),
            width,
            height,
        };
        let object = process_name(container_id, exec_id);
        Call::record("resize the terminal of", &object).run(self.calls().tasks().resize_pty(request)).await
    }

    /// Closes the shim's writing end of stdin, so that the process reads end of file.
    pub async fn close_stdin(&self, container_id: &str, exec_id: Option<&str>) -> Result<()> {
        let request = api::CloseIoRequest {
            container_id: container_id.into(),
            exec_id: exec_id.unwrap_or_default().into(),
            stdin: true,
        };
        let object = process_name(container_id, exec_id);
        Call::record("close stdin of", &object).run(self.calls().tasks().close_io(request)).await
    }

    /// Changes a running task's resources (OCI LinuxResources, JSON); the annotations are for its shim.
    pub async fn update_task(
        &self,
        container_id: &str,
        resources: Vec<u8>,
        annotations: HashMap<String, String>,
    ) -> Result<()> {
        let request = api::UpdateTaskRequest {
            container_id: container_id.into(),
            resources: Some(TypedBlob { type_url: RESOURCES_TYPE.into(), value: resources }.into()),
            annotations,
        };
        Call::work("update task", &container_id).run(self.calls().tasks().update(request)).await
    }

    /// Pids of all processes of the task.
    pub async fn pids(&self, container_id: &str) -> Result<Vec<u32>> {
        let request = api::ListPidsRequest { container_id: container_id.into() };
        let call = Call::work("list processes of task", &container_id);
        let answer = call.run(self.calls().tasks().list_pids(request)).await?;
        Ok(answer.processes.into_iter().map(|process| process.pid).collect())
    }
}

impl From<task_types::Process> for TaskInfo {
    fn from(process: task_types::Process) -> Self {
        let state = match process.status() {
            task_types::Status::Created => TaskState::Created,
            task_types::Status::Running => TaskState::Running,
            task_types::Status::Stopped => {
                TaskState::Stopped(Exit { code: process.exit_status, at: timestamp(process.exited_at) })
            }
            task_types::Status::Pausing => TaskState::Pausing,
            task_types::Status::Paused => TaskState::Paused,
            task_types::Status::Unknown => TaskState::Unknown,
        };
        let path = |text: String| (!text.is_empty()).then(|| PathBuf::from(text));
        Self {
            // containerd leaves `container_id` empty: a task's own id is its container's.
            container_id: process.id,
            pid: process.pid,
            state,
            stdio: StdioPaths {
                stdin: path(process.stdin),
                stdout: path(process.stdout),
                stderr: path(process.stderr),
                terminal: process.terminal,
            },
        }
    }
}

impl From<api::DeleteResponse> for Exit {
    fn from(answer: api::DeleteResponse) -> Self {
        Self { code: answer.exit_status, at: timestamp(answer.exited_at) }
    }
}

/// A path as containerd takes it: empty for none.
fn text(path: Option<&PathBuf>) -> String {
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A process in an error's text.
fn process_name(container_id: &str, exec_id: Option<&str>) -> String {
    match exec_id {
        Some(exec_id) => format!("process {exec_id} of {container_id}"),
        None => format!("task {container_id}"),
    }
}

/// Whether a signal goes to one process or to all of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum All {
    No,
    Processes,
}
