//! From the domain's facts to the CRI's messages.

use crate::container::{Container, ContainerFacts, ContainerState};
use crate::image::{FilesystemUsage, Image, Images};
use crate::proto::cri;
use crate::sandbox::{Sandbox, SandboxFacts, SandboxState};

fn sandbox_state(state: SandboxState) -> cri::PodSandboxState {
    match state {
        SandboxState::Ready { .. } => cri::PodSandboxState::SandboxReady,
        SandboxState::Starting | SandboxState::NotReady { .. } | SandboxState::Unknown => {
            cri::PodSandboxState::SandboxNotready
        }
    }
}

/// A row of ListPodSandbox.
pub(super) fn sandbox_row(sandbox: &Sandbox) -> cri::PodSandbox {
    let facts = sandbox.facts();
    let config = &facts.metadata.config;
    cri::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: config.metadata.clone(),
        state: sandbox_state(facts.state).into(),
        created_at: facts.created_at.nanos(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: facts.metadata.runtime_handler.clone(),
    }
}

/// PodSandboxStatus. The IP is the pod's as long as its network namespace stands; then it is empty, which has the kubelet
/// make a pod anew that should have one, where a network that is left out tells it nothing.
pub(super) fn sandbox_status(facts: &SandboxFacts, has_network: bool) -> cri::PodSandboxStatus {
    let metadata = &facts.metadata;
    let config = &metadata.config;
    let linux = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = linux.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
    let pod_ip = |ip: &String| cri::PodIp { ip: ip.clone() };
    let network = has_network.then(|| cri::PodSandboxNetworkStatus {
        ip: metadata.ip.clone(),
        additional_ips: metadata.additional_ips.iter().map(pod_ip).collect(),
    });
    cri::PodSandboxStatus {
        id: metadata.id.to_string(),
        metadata: config.metadata.clone(),
        state: sandbox_state(facts.state).into(),
        created_at: facts.created_at.nanos(),
        network: Some(network.unwrap_or_default()),
        linux: Some(cri::LinuxPodSandboxStatus {
            namespaces: Some(cri::Namespace { options: Some(options) }),
        }),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: metadata.runtime_handler.clone(),
    }
}

fn container_state(state: &ContainerState) -> cri::ContainerState {
    match state {
        ContainerState::Creating | ContainerState::Created => cri::ContainerState::ContainerCreated,
        ContainerState::Begun { .. } | ContainerState::Running { .. } => {
            cri::ContainerState::ContainerRunning
        }
        ContainerState::Exited(_) => cri::ContainerState::ContainerExited,
        ContainerState::Unknown { .. } => cri::ContainerState::ContainerUnknown,
    }
}

/// A row of ListContainers.
pub(super) fn container_row(container: &Container, images: &Images) -> cri::Container {
    let facts = container.facts();
    let config = &facts.metadata.config;
    let image = ImageNames::of(&facts.metadata.image_ref, config, images);
    cri::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: config.metadata.clone(),
        image: Some(image.spec),
        // Not the status' reference by digest: kubelets before 1.30 know images in use by this.
        image_ref: facts.metadata.image_ref.clone(),
        state: container_state(&facts.state).into(),
        created_at: facts.file.created_at.nanos(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        image_id: facts.metadata.image_ref.clone(),
    }
}

/// ContainerStatus, from memory alone.
pub(super) fn container_status(facts: &ContainerFacts, images: &Images) -> cri::ContainerStatus {
    let config = &facts.metadata.config;
    let image = ImageNames::of(&facts.metadata.image_ref, config, images);
    let mut status = cri::ContainerStatus {
        id: facts.metadata.id.to_string(),
        metadata: config.metadata.clone(),
        state: container_state(&facts.state).into(),
        created_at: facts.file.created_at.nanos(),
        image: Some(image.spec),
        image_ref: image.reference,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.iter().map(|mount| with_image_id(mount, images)).collect(),
        log_path: facts.metadata.log_path.display().to_string(),
        resources: facts.file.resources.clone(),
        image_id: facts.metadata.image_ref.clone(),
        user: facts.user.clone(),
        stop_signal: facts.stop_signal().to_cri().into(),
        ..Default::default()
    };
    match &facts.state {
        ContainerState::Begun { at: started_at }
        | ContainerState::Running { started_at, .. }
        | ContainerState::Unknown { started_at } => {
            status.started_at = started_at.nanos();
        }
        ContainerState::Exited(ending) => {
            status.started_at = ending.started_at.nanos();
            status.finished_at = ending.finished_at.nanos();
            status.exit_code = ending.code;
            status.reason = ending.reason.clone();
            status.message = ending.message.clone();
        }
        ContainerState::Creating | ContainerState::Created => {}
    }
    status
}

/// A mount, with the image that it names by its id: what the kubelet's garbage collection takes for in use.
fn with_image_id(mount: &cri::Mount, images: &Images) -> cri::Mount {
    let mut mount = mount.clone();
    if let Some(spec) = &mut mount.image
        && let Some(image) = images.find(&spec.image)
    {
        spec.image = image.id.to_string();
    }
    mount
}

/// How a container's image is called in replies: by its first tag, and by its first digest. The image may be gone.
struct ImageNames {
    spec: cri::ImageSpec,
    reference: String,
}

impl ImageNames {
    fn of(id: &str, config: &cri::ContainerConfig, images: &Images) -> Self {
        let mut spec = config.image.clone().unwrap_or_default();
        let image = images.find(id);
        if let Some(tag) = image.as_ref().and_then(|image| image.repo_tags.first()) {
            spec.image = tag.clone();
        }
        let digest = image.as_ref().and_then(|image| image.repo_digests.first().cloned());
        Self { spec, reference: digest.unwrap_or_else(|| id.to_owned()) }
    }
}

/// An image as the CRI lists it: its user as a number, or as a name.
pub(super) fn image(image: &Image) -> cri::Image {
    let user = image.config.user().clone().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| cri::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: None,
        pinned: image.pinned,
    }
}

pub(super) fn filesystem(usage: FilesystemUsage) -> cri::FilesystemUsage {
    cri::FilesystemUsage {
        timestamp: usage.at.nanos(),
        fs_id: Some(cri::FilesystemIdentifier { mountpoint: usage.mountpoint }),
        used_bytes: Some(cri::UInt64Value { value: usage.bytes }),
        inodes_used: Some(cri::UInt64Value { value: usage.inodes }),
    }
}
