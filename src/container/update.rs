//! UpdateContainerResources: what is stored and what the kernel enforces change together, or neither does.
//!
//! The stored spec changes first, since it alone can be put back exactly: to a cgroup, an absent value means "as it is".

use std::collections::HashMap;
use std::sync::Arc;

use super::{Container, ContainerError, ContainerState, Containers};
use crate::error::chain;
use crate::field;
use crate::linux::process::{self, OomScore};
use crate::proto::cri;
use crate::spec::StoredSpec;
use crate::trace;
use crate::work::{Op, Operation};

impl Containers {
    /// Gives a container other resources (CRI UpdateContainerResources); zero and empty values leave what there is.
    /// The work outlives a caller that goes away.
    ///
    /// # Errors
    /// Values that cannot be, here or at all, and whatever the runtime says: then nothing has changed.
    pub async fn update(
        &self,
        container: Arc<Container>,
        request: cri::UpdateContainerResourcesRequest,
    ) -> Result<(), ContainerError> {
        if request.windows.is_some() {
            return Err(field::error("windows", "this node runs Linux").into());
        }
        field::annotations("annotations", &request.annotations)?;
        let Some(resources) = request.linux else { return Ok(()) };
        let containers = self.clone();
        let id = container.id.clone();
        let work = trace::spawn(async move {
            let op = containers.begin(&container, Operation::UpdateContainerResources);
            op.run(containers.change_resources(&container, &resources, request.annotations, &op)).await
        });
        work.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
    }

    async fn change_resources(
        &self,
        container: &Container,
        resources: &cri::LinuxContainerResources,
        annotations: HashMap<String, String>,
        op: &Op,
    ) -> Result<(), ContainerError> {
        let _turn = self.turn(container, op).await?;
        let id = container.id.as_str();
        let containerd = &self.inner().containerd;
        let record = op.step("look at the record", containerd.container(id)).await;
        let record = record.map_err(container.failed("look at the record"))?;
        let before = StoredSpec::parse(&record.spec)
            .map_err(|source| ContainerError::StoredSpec { id: container.id.clone(), source })?;
        let node = self.sandboxes().node();
        let after = before
            .with(resources, &self.inner().config.now().runtime, &node)
            .map_err(ContainerError::Spec)?;
        let task = match container.facts().state {
            // Of an unknown state, it may run.
            ContainerState::Begun { .. }
            | ContainerState::Running { .. }
            | ContainerState::Unknown { .. } => Some(TaskChange {
                resources: after.for_task(&before, &node).map_err(ContainerError::Spec)?,
                undo: before.for_task_again(&after),
                annotations,
                oom_score_adj: after.oom_score_adj().filter(|_| resources.oom_score_adj != 0),
            }),
            ContainerState::Creating | ContainerState::Created | ContainerState::Exited(_) => None,
        };
        let kept = op.step("keep the new spec", containerd.set_spec(id, after.to_json())).await;
        kept.map_err(container.failed("keep the new spec"))?;
        if let Some(task) = task
            && let Err(update) = op.step("change the task", self.change_running(container, task)).await
        {
            return Err(match op.step("put back the spec", containerd.set_spec(id, record.spec)).await {
                Ok(()) => update,
                Err(undo) => ContainerError::UpdateUndo {
                    update: Box::new(update),
                    undo: Box::new(container.failed("put back the spec")(undo)),
                },
            });
        }
        container.change(|facts| facts.file.resources = after.report());
        // For the built-in plugin; here, the spec counts.
        let written = self.write_status(container, container.facts().state.clone());
        if let Err(error) = op.step("write the status", written).await {
            tracing::warn!(container = %container.id, "{}", chain(&error));
        }
        Ok(())
    }

    /// The kernel's part. A task that has ended meanwhile needs nothing.
    async fn change_running(&self, container: &Container, task: TaskChange) -> Result<(), ContainerError> {
        let containerd = &self.inner().containerd;
        // First, since these can be put back.
        let scores = match task.oom_score_adj {
            Some(to) => self.change_oom_scores(container, to).await?,
            None => None,
        };
        let id = container.id.as_str();
        let Err(error) = containerd.update_task(id, task.resources, task.annotations).await else {
            return Ok(());
        };
        if error.is_not_found() {
            return Ok(());
        }
        if let Err(undo) = containerd.update_task(id, task.undo, HashMap::new()).await {
            tracing::warn!(container = %container.id, "its cgroup may stay changed: {}", chain(&undo));
        }
        if let Some(Scores { from, to }) = scores
            && let Err(undo) = self.set_oom_scores(container, Scores { from: to, to: from }).await
        {
            tracing::warn!(container = %container.id, "its OOM scores stay changed: {}", chain(&undo));
        }
        Err(container.failed("update the task")(error))
    }

    /// The OOM killer's preference is no cgroup's, but each process' own: runtimes set it at the start alone. In a VM,
    /// pids mean nothing here.
    async fn change_oom_scores(
        &self,
        container: &Container,
        to: i32,
    ) -> Result<Option<Scores>, ContainerError> {
        let ContainerState::Running { pid, .. } = container.facts().state else { return Ok(None) };
        if !self.is_of_this_kernel(&container.pod) {
            return Ok(None);
        }
        // Its first process has what it was started with; one that is gone has nothing to change.
        match i32::try_from(pid).map(process::oom_score_adj) {
            Ok(Ok(from)) if from != to => {
                let scores = Scores { from, to };
                self.set_oom_scores(container, scores).await?;
                Ok(Some(scores))
            }
            _ => Ok(None),
        }
    }

    /// Every process of the container that has the one score gets the other.
    async fn set_oom_scores(&self, container: &Container, scores: Scores) -> Result<(), ContainerError> {
        let id = container.id.as_str();
        let pids = || async {
            let pids = self.inner().containerd.pids(id).await;
            pids.map_err(container.failed("list the processes"))
        };
        let opened: Vec<_> =
            pids().await?.into_iter().filter_map(|pid| Some((pid, OomScore::open(pid).ok()?))).collect();
        // Listed again: what was opened may be a stranger that took over the pid in between.
        let listed = pids().await?;
        for (_, score) in opened.iter().filter(|(pid, _)| listed.contains(pid)) {
            score.change(scores.from, scores.to).map_err(|source| ContainerError::Linux {
                step: "change the OOM scores",
                id: container.id.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// What a running container's task is told.
struct TaskChange {
    /// OCI LinuxResources, JSON.
    resources: Vec<u8>,
    /// The same, should they be refused: some may be set then.
    undo: Vec<u8>,
    /// For its shim.
    annotations: HashMap<String, String>,
    /// Unless it stays.
    oom_score_adj: Option<i32>,
}

/// One `oom_score_adj` in place of another.
#[derive(Clone, Copy)]
struct Scores {
    from: i32,
    to: i32,
}
