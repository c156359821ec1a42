//! The one way down. Every step is idempotent and tolerates having been done, so that a failed run, StopPodSandbox,
//! RemovePodSandbox, their repeats and recovery can all take it; every step is tried even after another failed.

use std::time::Duration;

use super::error::blocking;
use super::pod_network::pod_network;
use super::{Handler, NetworkHold, Sandbox, SandboxError, SandboxState, Sandboxes, files};
use crate::containerd::{All, Containerd, ContainerdError, Exit, TaskState};
use crate::error::{Errors, Kind, chain};
use crate::id::{LeaseId, PodId, SnapshotKey};
use crate::linux::{cgroup, netns};
use crate::signal::Signal;
use crate::state::SandboxMetadata;
use crate::time::Timestamp;
use crate::work::Op;

/// How long a killed process may take to end before the teardown gives up on it (a process in uninterruptible sleep).
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Deleting a task right after its exit can meet a shim that has not noticed yet: tries, and the pause between them.
const DELETE_TRIES: u32 = 20;
const DELETE_PAUSE: Duration = Duration::from_millis(50);

/// How far down a teardown goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing runs or is attached any more; record and files stay.
    Stop,
    /// Nothing is left.
    Remove,
}

impl Sandboxes {
    /// Ends the pause, detaches the network, unpins the namespaces (CRI StopPodSandbox, without its containers).
    pub async fn stop(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let _turn = op.turn().await;
        self.take_down(sandbox, Extent::Stop, op).await
    }

    /// Stops, then removes all that is left (CRI RemovePodSandbox, without its containers).
    pub async fn remove(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let _turn = op.turn().await;
        self.take_down(sandbox, Extent::Remove, op).await
    }

    /// Notes that the pause has ended. Its task stays until the sandbox is stopped: what still runs in the pod does so in
    /// the same shim, which containerd before 2.4 only ends with the task that the shim was started for.
    pub fn pause_exited(&self, sandbox: &Sandbox, exit: Exit) {
        self.becomes(sandbox, |state| state.pause_ended(exit.at));
    }

    /// The operation has the sandbox's turn.
    pub(super) async fn take_down(
        &self,
        sandbox: &Sandbox,
        extent: Extent,
        op: &Op,
    ) -> Result<(), SandboxError> {
        let mut errors = Errors::default();
        // Side by side: DEL needs no living pause, the pause no network.
        let (pause, network) = tokio::join!(self.end_pause(sandbox, op), self.detach(sandbox, op));
        errors.keep(pause);
        errors.keep(network);
        errors.keep(op.step("unmount the files", self.on_files(sandbox, files::unmount)).await);
        errors.keep(op.step("unmount the images", self.unmount_images(sandbox)).await);
        if errors.is_empty() {
            self.becomes(sandbox, |state| state.torn_down(Timestamp::now()));
        }
        if extent == Extent::Remove && errors.is_empty() {
            self.remove_rest(sandbox, &mut errors, op).await;
        }
        errors.into_result().map_err(|source| SandboxError::Teardown { id: sandbox.id.clone(), source })
    }

    async fn end_pause(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let containerd = &self.inner().containerd;
        let id = sandbox.id.clone();
        let ended = match end_task(containerd, id.as_str(), op).await {
            Ok(ended) => ended,
            Err(source) => return Err(SandboxError::Containerd { step: "end the pause", id, source }),
        };
        // Of a start that was broken off, containerd may know no task, and yet have started a shim.
        match sandbox.state() {
            SandboxState::Starting | SandboxState::Unknown if ended.is_none() => {
                let step = "end the pause's shim";
                let ended = op.step(step, containerd.end_lost_shim(id.as_str())).await;
                ended.map_err(|source| SandboxError::Linux { step, id, source })
            }
            _ => Ok(()),
        }
    }

    async fn detach(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let facts = sandbox.facts();
        let metadata = &facts.metadata;
        if metadata.netns_path.as_os_str().is_empty() || facts.network == NetworkHold::Released {
            return Ok(());
        }
        let pod = pod_network(self, metadata)?;
        op.step("note that the network goes", self.note_going(sandbox)).await;
        let detached = op.step("detach the network", self.handler_of(metadata).networks.detach(&pod)).await;
        detached.map_err(|source| SandboxError::Network { id: sandbox.id.clone(), source })?;
        let step = "remove the network namespace";
        let removed = op.step(step, netns::remove(&metadata.netns_path)).await;
        removed.map_err(|source| SandboxError::Linux { step, id: sandbox.id.clone(), source })?;
        sandbox.change(|facts| facts.network = NetworkHold::Released);
        Ok(())
    }

    /// What cannot be written is no reason to keep the network: only a death in the next moments would show it.
    async fn note_going(&self, sandbox: &Sandbox) {
        sandbox.change(|facts| facts.network = NetworkHold::Going);
        if let Err(error) = self.on_files(sandbox, files::mark_going).await {
            tracing::warn!(pod = %sandbox.id, "its network goes unnoted: {}", chain(&error));
        }
    }

    /// Files, snapshot, records: the container record last, as long as it stands the sandbox is known.
    async fn remove_rest(&self, sandbox: &Sandbox, errors: &mut Errors, op: &Op) {
        let containerd = &self.inner().containerd;
        let id = sandbox.id.as_str();
        let key = SnapshotKey::from(&sandbox.id);
        let fail = |step: &'static str| {
            move |source: ContainerdError| SandboxError::Containerd { step, id: sandbox.id.clone(), source }
        };
        let snapshotter = self.snapshotter_of(sandbox);
        let lease = LeaseId::new(id);
        let (cgroup, files, snapshot, store, lease) = tokio::join!(
            op.step("clear the cgroup", self.clear_cgroup(sandbox)),
            op.step("remove the files", self.on_files(sandbox, files::remove)),
            op.step("remove the snapshot", containerd.remove_snapshot(&snapshotter, &key)),
            op.step("delete the sandbox store's record", containerd.delete_sandbox_record(id)),
            // The built-in plugin makes one for each sandbox; an adopted one still has it.
            op.step("delete the lease", containerd.delete_lease(&lease)),
        );
        errors.keep(cgroup);
        errors.keep(files);
        errors.keep(gone_is_fine(snapshot).map_err(fail("remove the snapshot")));
        errors.keep(store.map_err(fail("delete the sandbox store's record")));
        errors.keep(lease.map_err(fail("delete the lease")));
        if !errors.is_empty() {
            return;
        }
        let record = op.step("delete the record", containerd.delete_container(id)).await;
        let record = gone_is_fine(record).map_err(fail("delete the record"));
        if errors.keep(record).is_some() {
            self.forget(sandbox);
        }
    }

    /// The runtime removes the pause's cgroup, unless it was itself killed on the way.
    async fn clear_cgroup(&self, sandbox: &Sandbox) -> Result<(), SandboxError> {
        let Some(path) = self.cgroups_path(sandbox) else { return Ok(()) };
        let id = sandbox.id.clone();
        let clear = move || {
            let failed = |source| SandboxError::Linux { step: "clear the cgroup", id: id.clone(), source };
            cgroup::clear(&path, id.as_str()).map_err(failed)
        };
        blocking(&sandbox.id, clear).await
    }

    async fn on_files(
        &self,
        sandbox: &Sandbox,
        work: fn(&Sandboxes, &PodId) -> Result<(), SandboxError>,
    ) -> Result<(), SandboxError> {
        let (sandboxes, id) = (self.clone(), sandbox.id.clone());
        blocking(&sandbox.id, move || work(&sandboxes, &id)).await
    }

    pub(super) fn snapshotter_of(&self, sandbox: &Sandbox) -> String {
        self.handler_of(&sandbox.facts().metadata).snapshotter
    }

    /// The default where the pod's own is gone from the configuration: its plugins still know the cached network.
    pub(super) fn handler_of(&self, metadata: &SandboxMetadata) -> Handler {
        let handler = self.handlers().find(&metadata.runtime_handler);
        handler.unwrap_or_else(|_| self.handlers().default_handler())
    }
}

/// Kills a task's processes, waits for the end and deletes the task; how it ended. One that is not there is fine.
pub(crate) async fn end_task(
    containerd: &Containerd,
    id: &str,
    op: &Op,
) -> Result<Option<Exit>, ContainerdError> {
    let killed = op.step("kill the task", containerd.kill(id, None, Signal::KILL, All::Processes)).await;
    match killed {
        Ok(()) => op.step("wait for the task's end", await_end(containerd, id)).await?,
        Err(error) if error.is_not_found() => {}
        // A task that has ended refuses the signal, in words that differ by release: its deletion tells.
        Err(error) if error.kind() == Kind::Unavailable => return Err(error),
        Err(error) => tracing::debug!(id, "kill: {error}"),
    }
    op.step("delete the task", delete_task(containerd, id)).await
}

/// Waits for the end of a killed task. A shim that goes while it is waited for breaks the wait off, in words that
/// differ by release: then the task is looked at instead.
async fn await_end(containerd: &Containerd, id: &str) -> Result<(), ContainerdError> {
    let ended = async {
        loop {
            match containerd.wait(id, None).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if error.kind() == Kind::Unavailable => return Err(error),
                Err(error) => tracing::debug!(id, "wait: {error}"),
            }
            match containerd.task(id).await.map(|task| task.state) {
                Ok(TaskState::Stopped(_)) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if error.kind() == Kind::Unavailable => return Err(error),
                _ => tokio::time::sleep(DELETE_PAUSE).await,
            }
        }
    };
    let late =
        || ContainerdError::Deadline { action: "see the end of", object: id.to_owned(), limit: KILL_LIMIT };
    tokio::time::timeout(KILL_LIMIT, ended).await.unwrap_or_else(|_| Err(late()))
}

/// Deletes an ended task. A missing one is asked for all the same: only that ends an orphaned shim (contract §1).
pub(crate) async fn delete_task(containerd: &Containerd, id: &str) -> Result<Option<Exit>, ContainerdError> {
    let mut tries = 1;
    loop {
        match containerd.delete_task(id).await {
            Ok(exit) => return Ok(Some(exit)),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.kind() != Kind::Unavailable && tries < DELETE_TRIES => {
                tries += 1;
                tokio::time::sleep(DELETE_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes "it is not there" for done.
pub(crate) fn gone_is_fine(result: Result<(), ContainerdError>) -> Result<(), ContainerdError> {
    match result {
        Err(error) if error.is_not_found() || error.kind() == Kind::Unimplemented => Ok(()),
        other => other,
    }
}

impl Sandbox {
    /// Whether it should have a network of its own, yet nobody wrote down an address of it, or that goes, or the
    /// namespace is gone.
    pub fn lacks_network(&self) -> bool {
        let facts = self.facts();
        let path = &facts.metadata.netns_path;
        let lacks =
            || facts.metadata.ip.is_empty() || facts.network != NetworkHold::Held || !netns::is_pinned(path);
        !path.as_os_str().is_empty() && lacks()
    }

    /// Whether the pod's IP is its own: as long as the network namespace stands, and it has not begun to go.
    pub fn has_network(&self) -> bool {
        let facts = self.facts();
        let is_held = match facts.state {
            SandboxState::Starting => false,
            // One that is just being stopped has what it had when it was last seen.
            SandboxState::Ready { .. } => true,
            SandboxState::NotReady { .. } | SandboxState::Unknown => facts.network == NetworkHold::Held,
        };
        is_held && netns::is_pinned(&facts.metadata.netns_path)
    }
}
