//! UpdatePodSandboxResources: what the kubelet is about to make of the pod's cgroup, which is its own. Here it is
//! remembered, and told.

use std::sync::Arc;

use super::{Sandbox, SandboxError, Sandboxes};
use crate::containerd::{ContainerdError, TypedBlob};
use crate::proto::cri;
use crate::spec;
use crate::state::{UPDATED_RESOURCES_TYPE, UpdatedResources};
use crate::trace;
use crate::work::{Op, Operation};

impl Sandboxes {
    /// Takes note of a pod's resources and overhead (CRI UpdatePodSandboxResources); the one that a request leaves out
    /// stays. The work outlives a caller that goes away.
    ///
    /// # Errors
    /// Values that cannot be, or not on this node.
    pub async fn update(
        &self,
        sandbox: Arc<Sandbox>,
        request: cri::UpdatePodSandboxResourcesRequest,
    ) -> Result<(), SandboxError> {
        for (at, resources) in [("overhead", &request.overhead), ("resources", &request.resources)] {
            if let Some(resources) = resources {
                spec::check_resources(at, resources, &self.inner().config.now().runtime, &self.node())
                    .map_err(|source| SandboxError::Resources { id: sandbox.id.clone(), source })?;
            }
        }
        let (sandboxes, id) = (self.clone(), sandbox.id.clone());
        let work = trace::spawn(async move {
            let op = sandbox.begin(Operation::UpdatePodSandboxResources);
            op.run(sandboxes.note_resources(&sandbox, request, &op)).await
        });
        work.await.unwrap_or_else(|why| Err(SandboxError::Panicked { id, why: why.to_string() }))
    }

    async fn note_resources(
        &self,
        sandbox: &Sandbox,
        request: cri::UpdatePodSandboxResourcesRequest,
        op: &Op,
    ) -> Result<(), SandboxError> {
        let _turn = op.turn().await;
        let id = sandbox.id.as_str();
        if self.entry(id).is_none() {
            return Err(SandboxError::NotFound(id.to_owned()));
        }
        let former = sandbox.facts().resources.clone();
        let resources = UpdatedResources {
            overhead: request.overhead.or(former.overhead),
            resources: request.resources.or(former.resources),
        };
        let (key, type_url) = UPDATED_RESOURCES_TYPE;
        let blob = TypedBlob { type_url: type_url.to_owned(), value: resources.to_json() };
        let failed = |source: ContainerdError| SandboxError::Containerd {
            step: "keep the resources",
            id: sandbox.id.clone(),
            source,
        };
        let containerd = &self.inner().containerd;
        let kept = async {
            // In one place alone, so that there are no two to differ.
            if !containerd.set_sandbox_extension(id, key, blob.clone()).await? {
                containerd.set_extension(id, key, blob).await?;
            }
            Ok(())
        };
        op.step("keep the resources", kept).await.map_err(failed)?;
        sandbox.change(|facts| facts.resources = resources);
        Ok(())
    }
}
