//! What a call is about. Should its time run out, the answer says what is being done to that pod or container.

use tonic::Request;

use super::RuntimeService;
use super::deadline::Late;
use crate::container::{Container, Containers};
use crate::proto::cri;
use crate::sandbox::Sandbox;

/// A pod or container, as a request names it.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Pod { id: String },
    NewPod { metadata: Option<cri::PodSandboxMetadata> },
    Container { id: String },
    NewContainer { pod: String, metadata: Option<cri::ContainerMetadata> },
}

/// A request that is about a pod or container.
pub(super) trait About {
    fn subject(&self) -> Subject;
}

macro_rules! about {
    ($kind:ident $id:ident: $($request:ident),* $(,)?) => {
        $(impl About for cri::$request {
            fn subject(&self) -> Subject {
                Subject::$kind { id: self.$id.clone() }
            }
        })*
    };
}

about!(Pod pod_sandbox_id:
    StopPodSandboxRequest, RemovePodSandboxRequest, UpdatePodSandboxResourcesRequest, CheckpointPodRequest,
);
about!(Container container_id:
    StartContainerRequest, StopContainerRequest, RemoveContainerRequest, UpdateContainerResourcesRequest,
    ExecSyncRequest, ReopenContainerLogRequest, CheckpointContainerRequest,
);

impl About for cri::RunPodSandboxRequest {
    fn subject(&self) -> Subject {
        Subject::new_pod(self.config.as_ref())
    }
}

impl About for cri::RestorePodRequest {
    fn subject(&self) -> Subject {
        Subject::new_pod(self.config.as_ref())
    }
}

impl About for cri::CreateContainerRequest {
    fn subject(&self) -> Subject {
        let metadata = self.config.as_ref().and_then(|config| config.metadata.clone());
        Subject::NewContainer { pod: self.pod_sandbox_id.clone(), metadata }
    }
}

impl RuntimeService {
    /// Has the answer tell what is being done to the request's subject, should the call's time run out.
    pub(super) fn note_subject<T: About>(&self, request: &Request<T>) {
        if let Some(late) = request.extensions().get::<Late>() {
            let (subject, containers) = (request.get_ref().subject(), self.containers.clone());
            late.tell(move || subject.doing(&containers));
        }
    }

    /// The message of a request; its subject is noted.
    pub(super) fn asked<T: About>(&self, request: Request<T>) -> T {
        self.note_subject(&request);
        request.into_inner()
    }
}

impl Subject {
    fn new_pod(config: Option<&cri::PodSandboxConfig>) -> Self {
        Self::NewPod { metadata: config.and_then(|config| config.metadata.clone()) }
    }

    /// What is being done to it now, a sentence each.
    fn doing(&self, containers: &Containers) -> Vec<String> {
        match self {
            Self::Pod { id } => {
                containers.sandboxes().find(id).map(|pod| of_pod(&pod, containers)).unwrap_or_default()
            }
            Self::NewPod { metadata } => {
                let mut making = containers.sandboxes().in_the_making().into_iter();
                let pod = making.find(|pod| pod.facts().metadata.config.metadata == *metadata);
                pod.map(|pod| of_pod(&pod, containers)).unwrap_or_default()
            }
            Self::Container { id } => {
                containers.find(id).map(|container| of_container(&container, containers)).unwrap_or_default()
            }
            Self::NewContainer { pod, metadata } => {
                let Ok(pod) = containers.sandboxes().find(pod) else { return Vec::new() };
                let is_it = |one: &Container| one.facts().metadata.config.metadata == *metadata;
                let container = containers.of_pod(&pod.id).into_iter().find(|one| is_it(one));
                container.map(|container| of_container(&container, containers)).unwrap_or_default()
            }
        }
    }
}

/// Its name in the pod.
pub(super) fn name_of_container(container: &Container) -> String {
    container.facts().metadata.config.metadata.clone().unwrap_or_default().name
}

fn of_pod(pod: &Sandbox, containers: &Containers) -> Vec<String> {
    let mut doing = pod.work.doing(&pod.name());
    for container in containers.of_pod(&pod.id) {
        doing.extend(of_container(&container, containers));
    }
    doing
}

fn of_container(container: &Container, containers: &Containers) -> Vec<String> {
    let pod = containers.sandboxes().entry(container.pod.as_str());
    let pod = pod.map_or_else(|| container.pod.to_string(), |pod| pod.name());
    container.work.doing(&format!("{} in {pod}", name_of_container(container)))
}
