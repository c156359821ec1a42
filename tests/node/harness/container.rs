//! Containers, made by a builder and driven by name.

use std::path::PathBuf;

use cridge::proto::cri as newest;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, NamespaceMode};
use prost::Message as _;
use tonic::Status;

use super::{BUSYBOX, Pod, until};

/// A container in the making: a config to be changed at will, then [`ContainerBuilder::start`].
#[derive(Clone)]
pub struct ContainerBuilder {
    pub config: cri::ContainerConfig,
    pod: Pod,
}

/// A container that was created.
#[derive(Clone)]
pub struct Container {
    pub id: String,
    pub config: cri::ContainerConfig,
    pub pod: Pod,
}

/// What a command in a container came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// One line of a container's log, taken apart as the CRI's log format has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub time: String,
    pub stream: String,
    /// `F` for a whole line, `P` for a part of one.
    pub tag: String,
    pub text: String,
}

/// How a shell script ends that only waits: at once on SIGTERM, which PID 1 would ignore otherwise.
pub struct Shell;

impl Shell {
    /// Waits until it is told to end.
    pub const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
}

impl ContainerBuilder {
    pub(super) fn new(pod: &Pod, name: &str) -> Self {
        let inherited = pod.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
            command: vec!["sh".into(), "-c".into(), Shell::WAIT.into()],
            labels: pod.config.labels.clone(),
            log_path: format!("{name}/0.log"),
            linux: Some(cri::LinuxContainerConfig {
                security_context: Some(cri::LinuxContainerSecurityContext {
                    namespace_options: inherited.and_then(|context| context.namespace_options.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self { config, pod: pod.clone() }
    }

    /// Changes anything of the config.
    pub fn with(mut self, change: impl FnOnce(&mut cri::ContainerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the resources.
    pub fn resources(self, change: impl FnOnce(&mut cri::LinuxContainerResources)) -> Self {
        self.with(|config| {
            change(config.linux.get_or_insert_default().resources.get_or_insert_default());
        })
    }

    /// Changes the security context.
    pub fn security(self, change: impl FnOnce(&mut cri::LinuxContainerSecurityContext)) -> Self {
        self.with(|config| {
            change(config.linux.get_or_insert_default().security_context.get_or_insert_default());
        })
    }

    /// The PID namespace.
    pub fn pids(self, mode: NamespaceMode, target: &str) -> Self {
        let target_id = target.to_owned();
        self.security(|security| {
            let namespaces = security.namespace_options.get_or_insert_default();
            (namespaces.pid, namespaces.target_id) = (mode as i32, target_id);
        })
    }

    pub fn image(self, image: &str) -> Self {
        let image = image.to_owned();
        self.with(|config| config.image.get_or_insert_default().image = image)
    }

    /// Runs this in a shell.
    pub fn shell(self, script: &str) -> Self {
        self.command(&["sh", "-c", script])
    }

    pub fn command(self, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.with(|config| config.command = words)
    }

    /// Whatever the image says.
    pub fn image_command(self) -> Self {
        self.command(&[])
    }

    /// A path of the node's, in the container.
    pub fn mount(self, host_path: impl Into<PathBuf>, container_path: &str) -> Self {
        self.mount_with(host_path, container_path, |_| {})
    }

    pub fn mount_with(
        self,
        host_path: impl Into<PathBuf>,
        container_path: &str,
        change: impl FnOnce(&mut cri::Mount),
    ) -> Self {
        let mut mount = cri::Mount {
            host_path: host_path.into().display().to_string(),
            container_path: container_path.to_owned(),
            ..Default::default()
        };
        change(&mut mount);
        self.with(|config| config.mounts.push(mount))
    }

    /// As CreateContainer answers.
    pub async fn try_create(&self) -> Result<Container, Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.pod.id.clone(),
            config: Some(self.config.clone()),
            sandbox_config: Some(self.pod.config.clone()),
        };
        let id = self.pod.node.runtime().create_container(request).await?.into_inner().container_id;
        self.pod.test.made(&self.pod.node, &id).await;
        Ok(Container { id, config: self.config.clone(), pod: self.pod.clone() })
    }

    /// CreateContainer with what only the newest CRI can ask for.
    pub async fn try_create_newest(
        &self,
        change: impl FnOnce(&mut newest::ContainerConfig),
    ) -> Result<Container, Status> {
        let again = "the newest CRI has all that older ones have";
        let mut config = newest::ContainerConfig::decode(&*self.config.encode_to_vec()).expect(again);
        change(&mut config);
        let of_pod = newest::PodSandboxConfig::decode(&*self.pod.config.encode_to_vec()).expect(again);
        let request = newest::CreateContainerRequest {
            pod_sandbox_id: self.pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(of_pod),
        };
        let (mut runtime, _) = self.pod.node.newest();
        let id = runtime.create_container(request).await?.into_inner().container_id;
        self.pod.test.made(&self.pod.node, &id).await;
        Ok(Container { id, config: self.config.clone(), pod: self.pod.clone() })
    }

    /// A container that came to be in another way, by its id.
    pub async fn known(&self, id: &str) -> Container {
        self.pod.test.made(&self.pod.node, id).await;
        Container { id: id.into(), config: self.config.clone(), pod: self.pod.clone() }
    }

    /// CreateContainer.
    #[track_caller]
    pub fn create(&self) -> impl Future<Output = Container> {
        let caller = std::panic::Location::caller();
        async move {
            self.try_create().await.unwrap_or_else(|status| panic!("CreateContainer at {caller}: {status:?}"))
        }
    }

    /// CreateContainer and StartContainer.
    #[track_caller]
    pub fn start(&self) -> impl Future<Output = Container> {
        let caller = std::panic::Location::caller();
        async move {
            let made = self.try_create().await;
            let container = made.unwrap_or_else(|status| panic!("CreateContainer at {caller}: {status:?}"));
            let started = container.try_start().await;
            started.unwrap_or_else(|status| panic!("StartContainer at {caller}: {status:?}"));
            container
        }
    }

    /// Starts it, waits for its end, and returns what it wrote.
    #[track_caller]
    pub fn output(&self) -> impl Future<Output = String> {
        let starting = self.start();
        async move {
            let container = starting.await;
            container.exited().await;
            container.log_text()
        }
    }
}

impl Container {
    pub async fn try_start(&self) -> Result<(), Status> {
        let request = cri::StartContainerRequest { container_id: self.id.clone() };
        self.pod.node.runtime().start_container(request).await.map(drop)
    }

    /// StartContainer.
    pub async fn start(&self) {
        self.try_start().await.expect("StartContainer");
    }

    pub async fn try_stop(&self, timeout: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest { container_id: self.id.clone(), timeout };
        self.pod.node.runtime().stop_container(request).await.map(drop)
    }

    /// StopContainer.
    pub async fn stop(&self, timeout: i64) {
        self.try_stop(timeout).await.expect("StopContainer");
    }

    pub async fn try_remove(&self) -> Result<(), Status> {
        let request = cri::RemoveContainerRequest { container_id: self.id.clone() };
        self.pod.node.runtime().remove_container(request).await.map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&self) {
        self.try_remove().await.expect("RemoveContainer");
    }

    pub async fn try_status(&self) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let answer = self.pod.node.runtime().container_status(request).await?;
        Ok(answer.into_inner().status.expect("a status in the answer"))
    }

    /// ContainerStatus.
    pub async fn status(&self) -> cri::ContainerStatus {
        self.try_status().await.expect("ContainerStatus")
    }

    pub async fn state(&self) -> ContainerState {
        self.status().await.state()
    }

    /// Its status once it has ended.
    #[track_caller]
    pub fn exited(&self) -> impl Future<Output = cri::ContainerStatus> {
        until(format!("container {} ends", self.config.metadata.as_ref().unwrap().name), || async {
            let status = self.status().await;
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
    }

    /// ExecSync; 0 seconds are no limit.
    pub async fn try_exec(&self, command: &[&str], timeout: i64) -> Result<Output, Status> {
        let request = cri::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout,
        };
        let answer = self.pod.node.runtime().exec_sync(request).await?.into_inner();
        Ok(Output {
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
            code: answer.exit_code,
        })
    }

    /// Runs a script in a shell in the container; what it wrote, without the last line's end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> impl Future<Output = String> {
        let (caller, script) = (std::panic::Location::caller(), script.to_owned());
        async move {
            let output = self.try_exec(&["sh", "-c", &script], 0).await;
            let output = output.unwrap_or_else(|status| panic!("{script:?} at {caller}: {status:?}"));
            assert_eq!(output.code, 0, "{script:?} at {caller}: {output:?}");
            output.stdout.trim_end_matches('\n').to_owned()
        }
    }

    /// Where its log is.
    pub fn log_file(&self) -> PathBuf {
        PathBuf::from(&self.pod.config.log_directory).join(&self.config.log_path)
    }

    /// The lines of its log; none before there is a log. One that is just being written is not there yet.
    pub fn log(&self) -> Vec<LogLine> {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&text[..whole]).split_terminator('\n').map(LogLine::parse).collect()
    }

    /// What it wrote to both streams, without the last line's end.
    pub fn log_text(&self) -> String {
        let mut text = String::new();
        for line in self.log() {
            text += &line.text;
            if line.tag == "F" {
                text.push('\n');
            }
        }
        text.trim_end_matches('\n').to_owned()
    }

    /// Waits until its log has this.
    #[track_caller]
    pub fn logs(&self, text: &str) -> impl Future<Output = ()> {
        until(format!("{text:?} is in the log"), move || async move {
            self.log_text().contains(text).then_some(())
        })
    }
}

impl LogLine {
    /// # Panics
    /// When the line is not in the CRI's log format.
    fn parse(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut word =
            || words.next().unwrap_or_else(|| panic!("not in the CRI's log format: {line:?}")).to_owned();
        let line = Self { time: word(), stream: word(), tag: word(), text: word() };
        assert!(matches!(line.stream.as_str(), "stdout" | "stderr"), "no such stream: {line:?}");
        assert!(matches!(line.tag.as_str(), "F" | "P"), "no such tag: {line:?}");
        line
    }
}
