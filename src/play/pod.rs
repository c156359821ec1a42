//! One pod's run: sandbox, init containers, containers, their restarts, and the removal of all of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backoff::BackOff;
use super::manifest::{Container, Pod, PullPolicy, RestartPolicy};
use super::run::{AfterStart, Play};
use super::runtime::Runtime;
use super::show::{self, Show};
use super::translate::{self, Node, Start};
use super::volumes::Volumes;
use super::{PlayError, logs};
use crate::error::Kind;
use crate::linux::file;
use crate::proto::cri;
use cri::ContainerState;

/// How often a running container is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a runtime may be away before the run is given up: longer than a restart of it takes.
const AWAY: Duration = Duration::from_secs(60);
/// How long the last lines of logs are waited for after everything has ended.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Asks all pods of a run to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// With the grace that their manifests give them.
    pub gently: CancellationToken,
    /// Without.
    pub at_once: CancellationToken,
}

/// How a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself: the code of the first container that failed, or 0.
    Exited { code: i32 },
    /// It was asked to.
    Stopped,
    /// It has not: it was left running.
    Left,
    /// It could not be run, or not be removed; why was shown.
    NotRun,
}

/// Why a pod's life is over before its time.
enum Halt {
    Stopped,
    Failed(PlayError),
}

impl From<PlayError> for Halt {
    fn from(error: PlayError) -> Self {
        Self::Failed(error)
    }
}

/// A pod being run.
pub struct PodRun {
    pod: Pod,
    config: cri::PodSandboxConfig,
    runtime: Runtime,
    show: Arc<Show>,
    node: Arc<Node>,
    stop: Stop,
    data_dir: PathBuf,
    log_folder: PathBuf,
    /// Containers started and not seen to have ended.
    running: Mutex<Vec<Running>>,
    followers: TaskTracker,
    /// One pull at a time, so that containers of one image do not pull it twice.
    pulls: tokio::sync::Mutex<()>,
    /// How many containers, init ones apart, have been started.
    started: watch::Sender<usize>,
}

struct Running {
    id: String,
    /// What it is called on the screen.
    label: String,
    sidecar: bool,
    ended: CancellationToken,
}

/// The pod's sandbox and what its containers mount.
struct Sandbox {
    id: String,
    volumes: Volumes,
}

impl PodRun {
    pub fn new(
        pod: Pod,
        play: &Play,
        runtime: Runtime,
        show: Arc<Show>,
        node: Arc<Node>,
        stop: Stop,
    ) -> Self {
        // As the kubelet names it.
        let log_folder = play.log_dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid));
        Self {
            config: translate::sandbox(&pod, &node, &log_folder.to_string_lossy()),
            pod,
            runtime,
            show,
            node,
            stop,
            data_dir: play.data_dir.clone(),
            log_folder,
            running: Mutex::default(),
            followers: TaskTracker::new(),
            pulls: tokio::sync::Mutex::default(),
            started: watch::Sender::new(0),
        }
    }

    /// Runs the pod to its end and removes it, or leaves it once it is up.
    pub async fn play(self: Arc<Self>, after: AfterStart) -> End {
        let volumes = match Volumes::make(&self.pod, &self.data_dir) {
            Ok(volumes) => volumes,
            Err(error) => return self.not_run(&error),
        };
        let folder = volumes.folder().to_owned();
        let life = self.clone().live(volumes, after).await;
        if matches!(life, Ok(End::Left)) {
            let (volumes, logs) = (folder.display(), self.log_folder.display());
            let text = format!("left running; its volumes are in {volumes}, its logs in {logs}");
            self.show.state(&self.pod.name, &text);
            return End::Left;
        }
        let mut end = match life {
            Ok(end) => end,
            Err(Halt::Stopped) => End::Stopped,
            Err(Halt::Failed(error)) => self.not_run(&error),
        };
        self.wind_down().await;
        if let Err(error) = self.remove(&Volumes::of(&self.pod, &self.data_dir)).await {
            end = self.not_run(&error);
        }
        end
    }

    fn not_run(&self, error: &PlayError) -> End {
        self.show.state(&self.pod.name, &crate::error::chain(error));
        End::NotRun
    }

    async fn live(self: Arc<Self>, volumes: Volumes, after: AfterStart) -> Result<End, Halt> {
        // Let be made to its end, unless somebody is in a hurry: the runtime undoes a half-made one more slowly.
        let sandbox = tokio::select! {
            sandbox = self.start_sandbox(volumes) => Arc::new(sandbox?),
            () = self.stop.at_once.cancelled() => return Err(Halt::Stopped),
        };
        let mut sidecars = JoinSet::new();
        for container in &self.pod.init_containers {
            if container.sidecar {
                let up = CancellationToken::new();
                sidecars.spawn(self.clone().sidecar(sandbox.clone(), container.clone(), up.clone()));
                self.beside(&mut sidecars, async {
                    up.cancelled().await;
                    Ok(())
                })
                .await?;
            } else {
                let code = self.beside(&mut sidecars, self.init(&sandbox, container)).await?;
                if code != 0 {
                    return Ok(End::Exited { code });
                }
            }
        }
        let mut all_up = self.started.subscribe();
        let number = self.pod.containers.len();
        let up = async {
            let _ = all_up.wait_for(|started| *started == number).await;
        };
        tokio::select! {
            code = self.beside(&mut sidecars, self.main(&sandbox)) => Ok(End::Exited { code: code? }),
            () = up, if after == AfterStart::Leave => {
                println!("{}", sandbox.id);
                Ok(End::Left)
            }
        }
    }

    /// Does the one while the sidecars live; theirs is no end but by an error.
    async fn beside<T>(
        &self,
        sidecars: &mut JoinSet<Halt>,
        work: impl Future<Output = Result<T, Halt>>,
    ) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.stop.gently.cancelled() => Err(Halt::Stopped),
            Some(halt) = sidecars.join_next() => Err(halt.unwrap_or(Halt::Stopped)),
            done = work => done,
        }
    }

    async fn start_sandbox(&self, mut volumes: Volumes) -> Result<Sandbox, Halt> {
        let began = Instant::now();
        let id = self.runtime.run_pod(&self.config, &self.pod.runtime_class).await?;
        let ip = self.runtime.pod_ip(&id).await?;
        volumes.write_hosts(&self.pod.host_aliases, &self.config.hostname, ip.as_deref().unwrap_or(""))?;
        let ip = ip.unwrap_or_else(|| "the node's address".into());
        self.show.state(&self.pod.name, &format!("up at {ip} ({})", show::time(began.elapsed())));
        Ok(Sandbox { id, volumes })
    }

    /// Runs an init container until it succeeds, or fails for good.
    async fn init(&self, sandbox: &Sandbox, container: &Container) -> Result<i32, Halt> {
        let policy = match self.pod.restart_policy {
            RestartPolicy::Never => RestartPolicy::Never,
            RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
        };
        self.supervise(sandbox, container, policy, || {}).await
    }

    async fn sidecar(
        self: Arc<Self>,
        sandbox: Arc<Sandbox>,
        container: Container,
        up: CancellationToken,
    ) -> Halt {
        match self.supervise(&sandbox, &container, RestartPolicy::Always, || up.cancel()).await {
            Err(halt) => halt,
            Ok(_) => Halt::Stopped,
        }
    }

    /// Runs the containers side by side; the code of the first that failed.
    async fn main(&self, sandbox: &Sandbox) -> Result<i32, Halt> {
        let up = || self.started.send_modify(|started| *started += 1);
        let lives = self.pod.containers.iter().map(|container| {
            let mut first = Some(up);
            let started = move || first.take().into_iter().for_each(|up| up());
            self.supervise(sandbox, container, self.pod.restart_policy, started)
        });
        let mut lives: FuturesUnordered<_> = lives.collect();
        let mut code = 0;
        while let Some(exit) = lives.next().await {
            let exit = exit?;
            code = if code == 0 { exit } else { code };
        }
        Ok(code)
    }

    /// Starts a container again and again, as its policy says; the code that it ended with for good.
    async fn supervise(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        policy: RestartPolicy,
        mut started: impl FnMut(),
    ) -> Result<i32, Halt> {
        let mut back_off = BackOff::default();
        for attempt in 0.. {
            let began = Instant::now();
            let (id, code) = self.once(sandbox, container, attempt, &mut started).await?;
            if !policy.restarts(code) {
                return Ok(code);
            }
            let pause = back_off.after(began.elapsed());
            match pause {
                Duration::ZERO => self.tell(container, "starts again"),
                pause => self.tell(container, &format!("starts again in {}", show::time(pause))),
            }
            tokio::time::sleep(pause).await;
            self.runtime.remove(&id).await?;
        }
        Err(Halt::Stopped)
    }

    /// One life of a container: its id, and the code it ended with.
    async fn once(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        attempt: u32,
        started: &mut impl FnMut(),
    ) -> Result<(String, i32), Halt> {
        let image = self.image(container).await?;
        let began = Instant::now();
        let start = Start { attempt, image, mounts: sandbox.volumes.mounts(container)? };
        let config = translate::container(&self.pod, container, &self.node, start)
            .map_err(|why| PlayError::Container { container: container.name.clone(), why })?;
        let log = self.log_folder.join(&config.log_path);
        let id = self.runtime.create(&sandbox.id, config, &self.config).await?;
        let ended = CancellationToken::new();
        let (show, label) = (self.show.clone(), self.show.label(&self.pod, &container.name));
        self.list().push(Running {
            id: id.clone(),
            label: label.clone(),
            sidecar: container.sidecar,
            ended: ended.clone(),
        });
        // Told after the start, but read also if this call is broken off.
        let begun = CancellationToken::new();
        let beginning = begun.clone().drop_guard();
        self.followers.spawn({
            let ended = ended.clone();
            async move {
                begun.cancelled().await;
                logs::follow(log, ended, move |text| show.log(&label, text)).await;
            }
        });
        match self.runtime.start(&id, &container.name).await {
            Ok(()) => self.tell(container, &format!("started ({})", show::time(began.elapsed()))),
            // It has ended before it began, with a code of its own.
            Err(error) => self.tell(container, &crate::error::chain(&error)),
        }
        drop(beginning);
        started();
        let status = self.exit(&id).await?;
        self.list().retain(|running| running.id != id);
        ended.cancel();
        self.tell(container, &obituary(&status));
        Ok((id, status.exit_code))
    }

    /// The image as the runtime has it, pulled if the policy says so.
    async fn image(&self, container: &Container) -> Result<cri::Image, PlayError> {
        let _one_at_a_time = self.pulls.lock().await;
        let spec = cri::ImageSpec {
            image: container.image.clone(),
            user_specified_image: container.image.clone(),
            runtime_handler: self.pod.runtime_class.clone(),
            ..Default::default()
        };
        let there = self.runtime.image(&spec).await?;
        match (container.pull_policy, there) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(image)) => return Ok(image),
            (PullPolicy::Never, None) => return Err(PlayError::NoImage { image: spec.image }),
            (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, None) => {}
        }
        let began = Instant::now();
        self.tell(container, &format!("pulling {}", spec.image));
        let image_ref = self.runtime.pull(&spec, &self.config).await?;
        let pulled = cri::ImageSpec { image: image_ref, ..spec };
        let image = self.runtime.image(&pulled).await?;
        let image = image.ok_or_else(|| PlayError::NoImage { image: container.image.clone() })?;
        let (size, time) = (show::size(image.size), show::time(began.elapsed()));
        self.tell(container, &format!("pulled {} ({size}, {time})", container.image));
        Ok(image)
    }

    /// Waits until the container has ended. A runtime that is away for a while is waited for.
    async fn exit(&self, id: &str) -> Result<cri::ContainerStatus, PlayError> {
        let mut seen = Instant::now();
        loop {
            match self.runtime.status(id).await {
                Ok(status) if status.state() == ContainerState::ContainerExited => return Ok(status),
                // Nobody watches it any more; an end is what the CRI has for that.
                Ok(status) if status.state() == ContainerState::ContainerUnknown => {
                    self.runtime.stop(id, Duration::ZERO).await?;
                }
                Ok(_) => seen = Instant::now(),
                Err(error) if error.kind() == Kind::Unavailable && seen.elapsed() < AWAY => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends what runs, with the grace it has: the containers at once, then the sidecars, the last one first.
    async fn wind_down(&self) {
        let running = std::mem::take(&mut *self.list());
        let (sidecars, main): (Vec<_>, Vec<_>) = running.into_iter().partition(|running| running.sidecar);
        if !main.is_empty() {
            self.show.state(&self.pod.name, "stopping");
        }
        join_all(main.iter().map(|running| self.end(running))).await;
        for sidecar in sidecars.iter().rev() {
            self.end(sidecar).await;
        }
        self.followers.close();
        let _ = tokio::time::timeout(LAST_LINES, self.followers.wait()).await;
    }

    async fn end(&self, running: &Running) {
        let stopped = tokio::select! {
            stopped = self.runtime.stop(&running.id, self.pod.grace) => stopped,
            () = self.stop.at_once.cancelled() => self.runtime.stop(&running.id, Duration::ZERO).await,
        };
        running.ended.cancel();
        match stopped {
            Ok(()) => {
                if let Ok(status) = self.runtime.status(&running.id).await {
                    self.show.state(&running.label, &obituary(&status));
                }
            }
            // What is left of it, the pod's removal ends; whether that fails is told then.
            Err(error) => self.show.state(&running.label, &crate::error::chain(&error)),
        }
    }

    /// Removes every sandbox of this pod, also one whose making was never answered; then volumes and logs.
    async fn remove(&self, volumes: &Volumes) -> Result<(), PlayError> {
        for id in self.runtime.pods_of(&self.pod.uid).await? {
            self.runtime.stop_pod(&id).await?;
            self.runtime.remove_pod(&id).await?;
        }
        volumes.remove()?;
        file::remove_tree(&self.log_folder).map_err(|source| PlayError::File {
            action: "delete",
            path: self.log_folder.clone(),
            source,
        })?;
        self.show.state(&self.pod.name, "removed");
        Ok(())
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell(&self, container: &Container, text: &str) {
        self.show.state(&self.show.label(&self.pod, &container.name), text);
    }
}

/// How a container ended: `exited 137 (OOMKilled) after 3.1 s`.
fn obituary(status: &cri::ContainerStatus) -> String {
    let nanos = status.finished_at.saturating_sub(status.started_at);
    let lived = match (status.started_at, u64::try_from(nanos)) {
        (1.., Ok(nanos)) => format!(" after {}", show::time(Duration::from_nanos(nanos))),
        _ => String::new(),
    };
    let reason = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
    format!("exited {}{reason}{lived}", status.exit_code)
}
