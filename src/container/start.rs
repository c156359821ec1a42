//! StartContainer: the log, the task, and RUNNING. A failed start ends the container: it is not tried again.

use super::{Container, ContainerError, ContainerState, Containers};
use crate::containerd::{NewTask, StdioPaths};
use crate::error::chain;
use crate::id::SnapshotKey;
use crate::io::{ContainerIo, Fifos, LogTarget, Stdin};
use crate::sandbox::{Rootfs, end_task};
use crate::time::Timestamp;
use crate::trace;
use crate::work::{Op, Operation};

impl Containers {
    /// Starts a created container (CRI StartContainer). The work outlives a caller that goes away.
    ///
    /// # Errors
    /// [`ContainerError::Denied`] unless it is CREATED. Any later failure leaves it EXITED with 128, `StartError`.
    pub async fn start(&self, id: &str) -> Result<(), ContainerError> {
        let container = self.find(id)?;
        let containers = self.clone();
        let id = container.id.clone();
        let work = trace::spawn(async move {
            let op = containers.begin(&container, Operation::StartContainer);
            op.run(containers.start_in_turn(&container, &op)).await
        });
        work.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
    }

    async fn start_in_turn(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        let _turn = self.turn(container, op).await?;
        container.facts().state.may_start().map_err(|source| container.denied(source))?;
        let started = self.bring_to_run(container, op).await;
        if let Err(error) = &started {
            self.give_up_start(container, error, op).await;
        }
        started
    }

    async fn bring_to_run(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        let facts = container.facts();
        let sandbox = self.sandboxes().find(container.pod.as_str())?;
        sandbox.pause_pid()?;
        // The target of a TARGET pid namespace may have ended, or been restarted, since the spec was made.
        self.pid_namespace(&sandbox, &facts.metadata.config)?;
        let handler = self.sandboxes().handlers().find(&sandbox.facts().metadata.runtime_handler)?;
        let stdio = op.step("open the streams", self.open_log(container)).await?;
        let containerd = &self.inner().containerd;
        let key = SnapshotKey::from(&container.id);
        let step = "find the snapshot's mounts";
        let rootfs = op.step(step, containerd.snapshot_mounts(&facts.snapshotter, &key)).await;
        let rootfs = rootfs.map_err(container.failed(step))?;
        let users = sandbox.users()?.map(|(_, path)| path);
        let step = "map the ids of the rootfs";
        let rootfs = op.step(step, Rootfs::new(rootfs, users, self.state_dir(&container.id))).await;
        let rootfs = rootfs.map_err(|source| {
            let id = container.id.clone();
            ContainerError::Linux { step, id, source }
        })?;
        let task = NewTask {
            container_id: container.id.to_string(),
            rootfs: rootfs.labelled(&facts.mount_label),
            stdio,
            runtime_path: handler.config.runtime_path.clone(),
            options: self.restore_options(container, &handler)?,
        };
        let restored = task.options.is_some();
        let created = op.step("create the task", containerd.create_task(&task)).await;
        rootfs.release();
        created.map_err(container.failed("create the task"))?;
        self.await_oom(container);
        op.step("note that it starts", self.mark_begun(container)).await?;
        // Before the call: what ends at once must not have ended before it began.
        let started_at = Self::start_of(container);
        let pid = match op.step("start the task", containerd.start_task(container.id.as_str())).await {
            Ok(pid) => pid,
            Err(source) if restored => {
                let told = self.restore_complaints(container);
                return Err(ContainerError::Restore { id: container.id.clone(), told, source });
            }
            Err(source) => return Err(container.failed("start the task")(source)),
        };
        self.witness(container, pid);
        let running = ContainerState::Running { pid, started_at };
        op.step("write the status", self.write_status(container, running.clone())).await?;
        self.becomes(container, running);
        if restored {
            op.step("end the restoring", self.restored(container)).await;
        }
        Ok(())
    }

    /// Opens the log, so that nothing which the process writes is lost.
    async fn open_log(&self, container: &Container) -> Result<StdioPaths, ContainerError> {
        let io = container.io.lock().await;
        let Some(io) = io.as_ref() else {
            drop(io);
            self.open_fresh_fifos(container).await?;
            return Box::pin(self.open_log(container)).await;
        };
        let fifos = io.fifos();
        Ok(StdioPaths {
            stdin: fifos.stdin.clone(),
            stdout: fifos.stdout.clone(),
            stderr: fifos.stderr.clone(),
            terminal: fifos.terminal,
        })
    }

    /// Makes FIFOs for a container that has no task yet, and reads them into its log.
    pub(super) async fn open_fresh_fifos(&self, container: &Container) -> Result<(), ContainerError> {
        let failed =
            |source| ContainerError::Io { step: "open the streams", id: container.id.clone(), source };
        let config = &container.facts().metadata.config;
        let stdin = if config.stdin { Stdin::Open } else { Stdin::None };
        let dir = self.state_dir(&container.id).join("io");
        let fifos = Fifos::create(&dir, container.id.as_str(), config.tty, stdin).map_err(failed)?;
        self.read_into_log(container, fifos).await
    }

    /// Reads a task's FIFOs into the container's log from now on.
    pub async fn read_into_log(&self, container: &Container, fifos: Fifos) -> Result<(), ContainerError> {
        let path = container.facts().metadata.log_path.clone();
        let log = if path.as_os_str().is_empty() {
            LogTarget::Discard
        } else {
            LogTarget::File { path, max_line: self.inner().config.now().runtime.max_log_line }
        };
        let io = ContainerIo::open(fifos, log, self.keeper(container)).map_err(|source| {
            ContainerError::Io { step: "open the log", id: container.id.clone(), source }
        })?;
        *container.io.lock().await = Some(io);
        Ok(())
    }

    /// Gives a recovered container that was never started the streams to be started with.
    pub async fn prepare_streams(&self, container: &Container) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Recovery);
        let opened = async {
            let _turn = self.turn(container, &op).await?;
            op.step("open the streams", self.open_fresh_fifos(container)).await
        };
        op.run(opened).await
    }

    /// Notes that a container runs though nobody wrote it down: its true start is not known, the present is.
    pub async fn found_running(&self, container: &Container, pid: u32) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Recovery);
        let noted = async {
            let _turn = self.turn(container, &op).await?;
            if container.facts().state.is_exited() {
                return Ok(());
            }
            let running = ContainerState::Running { pid, started_at: Self::start_of(container) };
            op.step("write the status", self.write_status(container, running.clone())).await?;
            self.becomes(container, running);
            Ok(())
        };
        op.run(noted).await
    }

    /// The present, unless the clock was set back since the container was created.
    fn start_of(container: &Container) -> Timestamp {
        Timestamp::now().max(container.facts().file.created_at)
    }

    async fn give_up_start(&self, container: &Container, error: &ContainerError, op: &Op) {
        if let Err(undo) = self.undo_start(container, op).await {
            let undo = chain(&undo);
            tracing::warn!(container = %container.id, "the task of a failed start stays until removal: {undo}");
        }
        let ended = container.facts().state.start_failed(Timestamp::now(), chain(error));
        let written = op.step("write the status", self.write_status(container, ended.clone())).await;
        self.becomes(container, ended);
        if let Err(status) = written {
            self.write_later(container, &status);
        }
    }

    async fn undo_start(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        let ended = end_task(&self.inner().containerd, container.id.as_str(), op).await;
        match ended.map_err(container.failed("end the task"))? {
            Some(_) => Ok(()),
            // It was never made, or has gone with its shim, which may have left a process.
            None => op.step("clear the cgroup", self.clear_cgroup(container)).await,
        }
    }
}
