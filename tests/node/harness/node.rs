//! One node: a private containerd of some release, and the CRI server under test on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use k8s_cri::v1 as cri;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

use super::client::{self, Images, NewestImages, NewestRuntime, Runtime};
use super::lab::{hack_lab, text};
use super::manager::Manager;
use super::{BUSYBOX, Points, on_cridge, until};

/// Where libcni keeps the results of networks, as go-cni lets it.
pub(super) const LIBCNI: &str = "/var/lib/cni";

/// What is special about a node.
#[derive(Clone, Copy, Default)]
pub struct NodeOptions {
    /// Given the node's folder, changes the server's configuration file before its first start.
    pub configure: Option<fn(&Path, &mut String)>,
    /// Whether the usual image is left unpulled.
    pub bare: bool,
    /// Whether cridge can be made to die, or to wait, at its points.
    pub points: bool,
    pub criu: Criu,
    /// runc 1.1 in place of 1.5.
    pub old_runc: bool,
    /// The server is started with all permissions for the files that it makes, and core dumps allowed.
    pub careless: bool,
    /// What the server logs, in place of the usual.
    pub log_level: Option<&'static str>,
    /// The server is a service of a manager that has a store of file descriptors.
    pub fd_store: bool,
    /// cridge works in the places of the built-in plugin, and the two take turns ([`Node::hand_over`]): who is first.
    pub first: Option<Server>,
}

/// Who serves the CRI on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Cridge,
    /// containerd's own CRI plugin.
    Plugin,
}

/// The CRIU that containerd finds.
#[derive(Clone, Copy, Default)]
pub enum Criu {
    #[default]
    There,
    Absent,
    /// It tells its version, and never ends a dump.
    Stuck,
}

/// A node that runs.
pub struct Node {
    pub dir: PathBuf,
    pub release: String,
    pub bridge: String,
    /// Of the pods: the first three numbers and a dot.
    pub subnet: String,
    cache: PathBuf,
    has_points: bool,
    criu: Criu,
    old_runc: bool,
    careless: bool,
    log_level: &'static str,
    manager: Option<Manager>,
    /// Whether cridge and the plugin have the same folders.
    shared: bool,
    serves: Mutex<Server>,
    /// None between a stop and the next start, and where containerd's own CRI is tested.
    server: Mutex<Option<Child>>,
    cri: Channel,
    containerd: Channel,
}

impl Node {
    pub(super) async fn up(
        dir: PathBuf,
        cache: PathBuf,
        release: String,
        port: u16,
        subnet: String,
        bridge: String,
        options: NodeOptions,
    ) -> Self {
        let first = if on_cridge() { options.first.unwrap_or(Server::Cridge) } else { Server::Plugin };
        let node = Self {
            cri: client::channel(&dir.join("cridge.sock")),
            containerd: client::channel(&dir.join("containerd.sock")),
            subnet: subnet.trim_end_matches("0/24").to_owned(),
            server: Mutex::new(None),
            manager: options.fd_store.then(|| Manager::new(&dir)),
            has_points: options.points,
            careless: options.careless,
            log_level: options.log_level.unwrap_or("info,cridge=debug"),
            criu: options.criu,
            old_runc: options.old_runc,
            shared: options.first.is_some(),
            serves: Mutex::new(first),
            dir,
            release,
            bridge,
            cache,
        };
        std::fs::create_dir_all(node.points().folder).expect("a folder");
        let place = text(&node.dir);
        hack_lab(&["cni-conf", place, &subnet, &node.bridge]);
        hack_lab(&["hosts", place, &port.to_string()]);
        hack_lab(&["cridge-conf", place]);
        let file = node.dir.join("cridge.toml");
        let mut config = std::fs::read_to_string(&file).expect("the server's configuration");
        if node.shared {
            node.move_to_the_plugins_places(&mut config);
        }
        if let Some(configure) = options.configure {
            configure(&node.dir, &mut config);
        }
        std::fs::write(&file, config).expect("the server's configuration");
        node.start_containerd();
        if first == Server::Cridge {
            node.start().await;
        }
        if !options.bare {
            node.pull(BUSYBOX).await;
        }
        node
    }

    /// Has cridge work where the plugin would: the places of a node that is switched over, below its folder, but for the
    /// results of networks, which libcni keeps where all of the nodes here do.
    fn move_to_the_plugins_places(&self, config: &mut String) {
        let [root, state] = self.server_dirs();
        let places =
            [("root", root), ("state", state), ("cache_dir", LIBCNI.into()), ("netns_dir", self.netns_dir())];
        for (key, place) in places {
            let line =
                config.lines().find(|line| line.starts_with(&format!("{key} = "))).expect(key).to_owned();
            *config = config.replace(&line, &format!("{key} = \"{}\"", place.display()));
        }
    }

    /// Whether the CRI is served now by the one, now by the other.
    pub(super) fn takes_turns(&self) -> bool {
        self.shared
    }

    /// Who serves the CRI now.
    pub fn serves(&self) -> Server {
        *self.serves.lock().unwrap()
    }

    fn channel(&self) -> Channel {
        match self.serves() {
            Server::Cridge => self.cri.clone(),
            Server::Plugin => self.containerd.clone(),
        }
    }

    /// The server's RuntimeService.
    pub fn runtime(&self) -> Runtime {
        client::runtime(self.channel())
    }

    /// The server's ImageService.
    pub fn images(&self) -> Images {
        client::images(self.channel())
    }

    /// The server, for a client that knows the calls of 1.36 and later.
    pub fn newest(&self) -> (NewestRuntime, NewestImages) {
        (NewestRuntime::new(self.channel()), NewestImages::new(self.channel()))
    }

    /// containerd, for its own API.
    pub fn containerd(&self) -> Channel {
        self.containerd.clone()
    }

    /// The socket that the CRI is served on.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(match self.serves() {
            Server::Cridge => "cridge.sock",
            Server::Plugin => "containerd.sock",
        })
    }

    /// A program that `hack/lab` got.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.cache.join("bin").join(name)
    }

    /// A program of its containerd's release.
    pub fn program(&self, name: &str) -> PathBuf {
        self.cache.join("containerd").join(&self.release).join("bin").join(name)
    }

    /// Pulls an image; its id.
    #[track_caller]
    pub fn pull(&self, image: &str) -> impl Future<Output = String> {
        let (mut images, image, caller) = (self.images(), image.to_owned(), std::panic::Location::caller());
        async move {
            let request = cri::PullImageRequest { image: Some(spec(&image)), ..Default::default() };
            match images.pull_image(request).await {
                Ok(answer) => answer.into_inner().image_ref,
                Err(status) => panic!("cannot pull {image} at {caller}: {status:?}"),
            }
        }
    }

    /// What the server says of an image; nothing of one that it does not have.
    pub async fn image(&self, image: &str) -> Option<cri::Image> {
        let request = cri::ImageStatusRequest { image: Some(spec(image)), ..Default::default() };
        self.images().image_status(request).await.expect("ImageStatus").into_inner().image
    }

    /// What the server says of its health: (runtime ready, network ready).
    pub async fn ready(&self) -> Option<(bool, bool)> {
        let answer = self.runtime().status(cri::StatusRequest::default()).await.ok()?.into_inner();
        let is = |kind: &str| {
            answer.status.iter().flat_map(|s| &s.conditions).any(|c| c.r#type == kind && c.status)
        };
        Some((is("RuntimeReady"), is("NetworkReady")))
    }

    /// Starts cridge beside its containerd, and waits until it knows what there is. On a slow node it serves before, and
    /// says so.
    pub async fn start(&self) {
        assert!(self.server.lock().unwrap().is_none(), "a server runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let cridge = env!("CARGO_BIN_EXE_cridge");
        let mut command =
            self.manager.as_ref().map_or_else(|| Command::new(cridge), |manager| manager.starts(cridge));
        if self.careless {
            command = Command::new("sh");
            command.args(["-c", "umask 0; ulimit -c unlimited; exec \"$0\" \"$@\"", cridge]);
        }
        if self.has_points {
            command.env("CRIDGE_POINTS", &self.points().folder);
        }
        let child = command
            .args(["serve", "--config", text(&self.dir.join("cridge.toml")), "--log-level", self.log_level])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("cridge can be started");
        *self.server.lock().unwrap() = Some(child);
        until("cridge knows what there is", || async {
            let ended = self.server.lock().unwrap().as_mut().unwrap().try_wait().expect("a child");
            assert!(ended.is_none(), "cridge ended with {ended:?}:\n{}", self.log_tail(30));
            let listed = self.runtime().list_containers(cri::ListContainersRequest::default()).await;
            listed.ok()
        })
        .await;
    }

    /// Waits until the server is in step with containerd, and the network is ready.
    pub async fn in_step(&self) {
        until("all is in step", || async { (self.ready().await == Some((true, true))).then_some(()) }).await;
    }

    /// The points at which cridge can be made to die, or to wait, on a node that has them.
    pub fn points(&self) -> Points {
        Points { folder: self.dir.join("points") }
    }

    /// Waits until cridge has died of itself, as a point has it do.
    pub async fn died(&self) {
        until("cridge dies", || async {
            let mut server = self.server.lock().unwrap();
            let died = server.as_mut()?.try_wait().expect("a child")?;
            assert!(!died.success(), "it ended in peace");
            *server = None;
            Some(())
        })
        .await;
    }

    /// Sends the signal to cridge, and waits for its end.
    pub async fn end(&self, signal: Signal) -> ExitStatus {
        let mut child = self.server.lock().unwrap().take().expect("a server that runs");
        kill_process(Pid::from_child(&child), signal).expect("a server that runs");
        until("cridge ends", || {
            let ended = child.try_wait().expect("a child");
            async move { ended }
        })
        .await
    }

    /// The service manager that holds file descriptors for the server.
    ///
    /// # Panics
    /// On a node without one.
    pub fn manager(&self) -> &Manager {
        self.manager.as_ref().expect("a node with a service manager")
    }

    /// The server's process.
    pub fn server_pid(&self) -> Option<u32> {
        self.server.lock().unwrap().as_ref().map(Child::id)
    }

    /// Starts containerd, and waits until it answers.
    pub fn start_containerd(&self) {
        self.start_containerd_for(self.serves());
    }

    /// Starts containerd with its own CRI plugin active.
    pub fn start_containerd_with_plugin(&self) {
        self.start_containerd_for(Server::Plugin);
    }

    fn start_containerd_for(&self, server: Server) {
        let cri = match server {
            Server::Cridge => "off",
            Server::Plugin => "on",
        };
        let criu = match self.criu {
            Criu::There => "on".to_owned(),
            Criu::Absent => "off".to_owned(),
            Criu::Stuck => text(&self.stuck_criu()).to_owned(),
        };
        let runc = if self.old_runc { "1.1" } else { "1.5" };
        let place = text(&self.dir);
        hack_lab(&["containerd-up", place, &self.release, "--cri", cri, "--criu", &criu, "--runc", runc]);
    }

    /// A folder with a CRIU that hangs once it is to dump.
    fn stuck_criu(&self) -> PathBuf {
        let folder = self.dir.join("stuck");
        std::fs::create_dir_all(&folder).expect("a folder");
        let real = self.cache.join("criu/bin/criu");
        // runc asks for the version in the same way; the third time, it means it.
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = swrk ] || exec {real} \"$@\"\nif [ -e {folder}/asked ]; then exec sleep 60; fi\n\
             touch {folder}/asked\nexec {real} \"$@\"\n",
            real = real.display(),
            folder = folder.display(),
        );
        let path = folder.join("criu");
        std::fs::write(&path, script).expect("a script");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, executable).expect("a script");
        folder
    }

    /// Has the other one serve the CRI from now on, as an operator does it: all that runs goes on meanwhile.
    ///
    /// # Panics
    /// Where the two do not take turns ([`NodeOptions::first`]).
    pub async fn hand_over(&self, meanwhile: impl Future<Output = ()>) {
        assert!(self.shared, "cridge has folders of its own here");
        let next = match self.serves() {
            Server::Cridge => {
                let ended = self.end(Signal::TERM).await;
                assert!(ended.success(), "cridge ended with {ended} on SIGTERM:\n{}", self.log_tail(30));
                Server::Plugin
            }
            Server::Plugin => Server::Cridge,
        };
        self.end_containerd(Signal::TERM).await;
        meanwhile.await;
        *self.serves.lock().unwrap() = next;
        self.start_containerd();
        match next {
            Server::Cridge => self.start().await,
            Server::Plugin => {
                until("the plugin serves", || async { (self.ready().await?.0).then_some(()) }).await;
            }
        }
    }

    /// Stops containerd alone: what it runs goes on.
    pub async fn end_containerd(&self, signal: Signal) {
        let file = self.dir.join("containerd.pid");
        let pid: i32 = std::fs::read_to_string(&file).expect("a pid").trim().parse().expect("a pid");
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("a containerd that runs");
        // Its parent in here reaps it.
        until("containerd ends", || async move { (!runs(pid)).then_some(()) }).await;
        std::fs::remove_file(file).expect("the pid's file");
    }

    /// Ends the server, sees that it left in peace, and takes away what `hack/lab` brought.
    pub async fn down(&self) {
        if self.server_pid().is_some() {
            let ended = self.end(Signal::TERM).await;
            assert!(ended.success(), "cridge ended with {ended} on SIGTERM:\n{}", self.log_tail(30));
        }
        hack_lab(&["containerd-down", text(&self.dir)]);
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join(match self.serves() {
            Server::Cridge => "cridge.log",
            Server::Plugin => "containerd.log",
        })
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The lines of the server's log that name one of these.
    pub fn log_of(&self, ids: &[String]) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        log.lines()
            .filter(|line| ids.iter().any(|id| line.contains(id.as_str())))
            .map(str::to_owned)
            .collect()
    }

    /// Where the server keeps what outlives a reboot, and what does not.
    pub fn server_dirs(&self) -> [PathBuf; 2] {
        if self.shared || !on_cridge() {
            ["root", "state"].map(|dir| self.dir.join(dir).join("io.containerd.grpc.v1.cri"))
        } else {
            ["cridge/root", "cridge/state"].map(|dir| self.dir.join(dir))
        }
    }

    /// Where the server pins network namespaces.
    pub fn netns_dir(&self) -> PathBuf {
        if self.shared { self.server_dirs()[1].join("netns") } else { self.dir.join("netns") }
    }
}

/// An image, as requests name it.
fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), ..Default::default() }
}

/// Whether there is such a process, and it is no zombie.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
