//! Pods, made by a builder and driven by name.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_cri::v1::{NamespaceMode, PodSandboxState};
use tonic::Status;

use super::container::ContainerBuilder;
use super::{Node, Test};

/// A pod in the making: a config to be changed at will, then [`PodBuilder::run`].
#[derive(Clone)]
pub struct PodBuilder {
    pub config: cri::PodSandboxConfig,
    pub handler: String,
    test: Test,
    node: Arc<Node>,
}

/// A pod that was run.
#[derive(Clone)]
pub struct Pod {
    pub id: String,
    pub config: cri::PodSandboxConfig,
    pub test: Test,
    pub node: Arc<Node>,
}

impl PodBuilder {
    /// A pod as the kubelet would ask for it, with a name that no other test uses.
    pub(super) fn new(test: Test, node: Arc<Node>) -> Self {
        let name = test.fresh_name("pod");
        let log_directory = test.folder().join(&name).display().to_string();
        let config = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                uid: format!("{name}-uid"),
                namespace: "node-tests".into(),
                name: name.clone(),
                attempt: 0,
            }),
            hostname: name.clone(),
            log_directory,
            labels: [("pod".to_owned(), name), ("test".to_owned(), test.name().to_owned())].into(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: test.parent_on(&node),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(cri::NamespaceOption {
                        // What the kubelet asks for unless the pod shares its processes.
                        pid: NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self { config, handler: String::new(), test, node }
    }

    /// Changes anything of the config.
    pub fn with(mut self, change: impl FnOnce(&mut cri::PodSandboxConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the Linux part of the config.
    pub fn linux(mut self, change: impl FnOnce(&mut cri::LinuxPodSandboxConfig)) -> Self {
        change(self.config.linux.get_or_insert_default());
        self
    }

    /// Changes the security context.
    pub fn security(self, change: impl FnOnce(&mut cri::LinuxSandboxSecurityContext)) -> Self {
        self.linux(|linux| change(linux.security_context.get_or_insert_default()))
    }

    /// Changes the namespaces.
    pub fn namespaces(self, change: impl FnOnce(&mut cri::NamespaceOption)) -> Self {
        self.security(|security| change(security.namespace_options.get_or_insert_default()))
    }

    /// One PID namespace for all containers.
    pub fn shared_pids(self) -> Self {
        self.namespaces(|namespaces| namespaces.pid = NamespaceMode::Pod as i32)
    }

    /// The node's network, and so its hostname.
    pub fn host_network(self) -> Self {
        self.namespaces(|namespaces| namespaces.network = NamespaceMode::Node as i32)
            .with(|config| config.hostname.clear())
    }

    /// A TCP port of the node.
    pub fn host_port(self, host_port: i32, container_port: i32) -> Self {
        self.with(|config| {
            config.port_mappings.push(cri::PortMapping { host_port, container_port, ..Default::default() });
        })
    }

    /// As RunPodSandbox answers.
    pub async fn try_run(&self) -> Result<Pod, Status> {
        let request = cri::RunPodSandboxRequest {
            config: Some(self.config.clone()),
            runtime_handler: self.handler.clone(),
        };
        let id = self.node.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        self.test.made(&self.node, &id).await;
        Ok(Pod { id, config: self.config.clone(), test: self.test.clone(), node: self.node.clone() })
    }

    /// A pod that came to be in another way, by its id.
    pub async fn known(&self, id: &str) -> Pod {
        self.test.made(&self.node, id).await;
        Pod { id: id.into(), config: self.config.clone(), test: self.test.clone(), node: self.node.clone() }
    }

    /// RunPodSandbox.
    #[track_caller]
    pub fn run(&self) -> impl Future<Output = Pod> {
        let caller = std::panic::Location::caller();
        async move {
            self.try_run().await.unwrap_or_else(|status| panic!("RunPodSandbox at {caller}: {status:?}"))
        }
    }
}

impl Pod {
    /// A container in it, of the usual image, that sleeps.
    pub fn container(&self, name: &str) -> ContainerBuilder {
        ContainerBuilder::new(self, name)
    }

    /// PodSandboxStatus.
    pub async fn status(&self) -> cri::PodSandboxStatus {
        self.try_status().await.expect("PodSandboxStatus")
    }

    pub async fn try_status(&self) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = self.node.runtime().pod_sandbox_status(request).await?;
        Ok(answer.into_inner().status.expect("a status in the answer"))
    }

    pub async fn state(&self) -> PodSandboxState {
        self.status().await.state()
    }

    /// Its first address; empty where it has none.
    pub async fn ip(&self) -> String {
        self.status().await.network.map(|network| network.ip).unwrap_or_default()
    }

    pub async fn try_stop(&self) -> Result<(), Status> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.node.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    pub async fn stop(&self) {
        self.try_stop().await.expect("StopPodSandbox");
    }

    pub async fn try_remove(&self) -> Result<(), Status> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.node.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    pub async fn remove(&self) {
        self.try_remove().await.expect("RemovePodSandbox");
    }
}
