//! The composition root: builds the parts, binds the socket, serves, drains.
//!
//! Invariant: starting and stopping the daemon touches no pod.

mod reload;
mod traces;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::config::{CgroupDriver, Config, InForce};
use crate::container::Containers;
use crate::containerd::Containerd;
use crate::cri::{Counted, Deadline, ImageService, Informed, RuntimeService};
use crate::error::Kind;
use crate::events::{self, Hub, Link};
use crate::image::Images;
use crate::linux::cgroup::{self, CgroupMode};
use crate::linux::fdstore::{FdStore, Inherited};
use crate::linux::{LinuxError, lock, socket};
use crate::proto::cri::image_service_server::ImageServiceServer;
use crate::proto::cri::runtime_service_server::RuntimeServiceServer;
use crate::registry::Registry;
use crate::sandbox::{Handlers, Sandboxes, SeLinux, load_facts};
use crate::stats::Stats;
use crate::streaming::Streaming;
use crate::{log, metrics};
pub use reload::Source;
use reload::{Exporter, Reload, Triggers};
use traces::Traces;

/// Largest message taken or sent, in bytes: the kubelet's own bound.
const MAX_MESSAGE: usize = 16 << 20;
/// How long calls under way may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
/// How long, in the end, logs that are just being written and the service manager are waited for.
const LEAVE: Duration = Duration::from_secs(5);
/// How long the start waits for containerd before it serves without.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// How the daemon is to serve.
pub struct Order {
    pub config: Config,
    /// Where that came from, and later ones do.
    pub source: Source,
    /// Decides what is logged.
    pub level: log::Level,
    pub inherited: Inherited,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Labels are wanted that the node cannot give, another instance holds the same state, the built-in CRI plugin is active,
/// the socket cannot be bound, or the configuration cannot be used.
pub async fn run(order: Order) -> Result<()> {
    let Order { config: written, source, level, inherited } = order;
    let triggers = Triggers::of(&source.file).context("cannot wait for SIGHUP")?;
    let fd_store = FdStore::of_manager(inherited);
    let selinux = SeLinux::load(&written.runtime)?;
    let mut config = written.clone();
    config.settle_cgroup_driver(cgroup_driver_of_node());
    for folder in [&config.root, &config.state] {
        own_folder(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let _only_one = claim(&config)?;
    let containerd = Containerd::new(&config.containerd.socket, &config.containerd.namespace);
    first_contact(&containerd, &config).await?;
    let daemon = Daemon::build(&config, containerd, selinux, fd_store.clone()).await?;
    let listener = listen(&config.listen).await?;
    let (streaming, streams) = Streaming::bind(&config.streaming).await?;
    let exporter = Exporter::start(config.metrics.listen.as_ref(), daemon.sources()).await?;
    let traces = Traces::start(&config.traces)?;
    let stop = CancellationToken::new();
    let following = tokio::spawn(daemon.follow(stop.clone()));
    daemon.in_step().await;
    tracing::info!(listen = %config.listen.display(), containerd = %config.containerd.socket.display(), "serving");
    notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog());
    let streaming_served = tokio::spawn(streaming.clone().serve(streams, stop.clone()));
    let reload = Reload {
        source,
        triggers,
        written,
        in_force: daemon.config.clone(),
        handlers: daemon.containers.sandboxes().handlers().clone(),
        containerd: daemon.containerd.clone(),
        registry: daemon.registry.clone(),
        level,
        exporter,
        traces,
    };
    let reloading = tokio::spawn(reload.follow(stop.clone()));
    let served = daemon.serve(listener, streaming, stop.clone()).await;
    stop.cancel();
    watchdog.abort();
    let (_, _, traces) = tokio::join!(following, streaming_served, reloading);
    daemon.leave(fd_store).await;
    if let Ok(traces) = traces {
        traces.end().await;
    }
    let _ = std::fs::remove_file(&config.listen);
    served
}

/// The parts, put together.
struct Daemon {
    config: InForce,
    containerd: Containerd,
    registry: Registry,
    images: Images,
    containers: Containers,
    link: watch::Sender<Link>,
    hub: Hub,
}

impl Daemon {
    async fn build(
        config: &Config,
        containerd: Containerd,
        selinux: SeLinux,
        fd_store: FdStore,
    ) -> Result<Self> {
        let registry = Registry::new(config.registry.clone());
        let images = Images::new(config.image.clone(), containerd.clone(), registry.clone());
        let handlers = Handlers::load(config)?;
        let node = load_facts(&containerd).await.context("cannot learn what this node is")?;
        let config = InForce::new(config.clone());
        let sandboxes =
            Sandboxes::new(config.clone(), containerd.clone(), images.clone(), handlers, selinux, node);
        let containers =
            Containers::new(config.clone(), containerd.clone(), images.clone(), sandboxes, fd_store);
        Ok(Self {
            config,
            containerd,
            registry,
            images,
            hub: Hub::of(&containers),
            containers,
            link: watch::Sender::new(Link::Starting(None)),
        })
    }

    /// What the figures are taken from.
    fn sources(&self) -> metrics::Sources {
        metrics::Sources {
            containers: self.containers.clone(),
            images: self.images.clone(),
            hub: self.hub.clone(),
            link: self.link.subscribe(),
        }
    }

    /// Follows containerd's events; what was missed is found by comparison.
    fn follow(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let followers = events::Followers {
            config: self.config.clone(),
            containerd: self.containerd.clone(),
            containers: self.containers.clone(),
            images: self.images.clone(),
        };
        events::watch(followers, self.link.clone(), stop)
    }

    /// Waits, with patience, until pods and images of before are known. Whoever comes earlier is told of the node alone
    /// ([`Informed`]).
    async fn in_step(&self) {
        let mut link = self.link.subscribe();
        if tokio::time::timeout(FIRST_CONTACT, link.wait_for(|link| *link == Link::Up)).await.is_err() {
            tracing::warn!("serving all the same, with RuntimeReady false: {}", *link.borrow());
        }
    }

    /// Leaves the containers to themselves, until the next daemon.
    async fn leave(&self, fd_store: FdStore) {
        if tokio::time::timeout(LEAVE, self.containers.leave_streams()).await.is_err() {
            tracing::warn!("a log is still being written: what it gets now, it may get twice");
        }
        fd_store.flush(LEAVE).await;
    }

    async fn serve(
        &self,
        listener: UnixListener,
        streaming: Streaming,
        stop: CancellationToken,
    ) -> Result<()> {
        let runtime = RuntimeServiceServer::new(RuntimeService {
            config: self.config.clone(),
            containerd: self.containerd.clone(),
            containers: self.containers.clone(),
            images: self.images.clone(),
            stats: Stats::new(self.containers.clone(), self.containerd.clone(), self.images.clone()),
            link: self.link.subscribe(),
            hub: self.hub.clone(),
            streaming,
        });
        let handlers = self.containers.sandboxes().handlers().clone();
        let images = ImageServiceServer::new(ImageService::new(self.images.clone(), handlers));
        let hub = self.hub.clone();
        let drain = async move {
            ended_by_signal().await;
            tracing::info!("draining: calls under way may end within {DRAIN:?}");
            notify(&[sd_notify::NotifyState::Stopping]);
            // They would last as long as the drain.
            hub.close();
        };
        let drained = stop.clone();
        let link = self.link.subscribe();
        let serving = Server::builder()
            .layer(tower::layer::layer_fn(Counted::new))
            .layer(tower::layer::layer_fn(Deadline::new))
            .layer(tower::layer::layer_fn(move |inner| Informed::new(inner, link.clone())))
            .add_service(
                runtime.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(images.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                drain.await;
                // From here on the drain's time runs.
                tokio::spawn(async move {
                    tokio::time::sleep(DRAIN).await;
                    drained.cancel();
                });
            });
        tokio::select! {
            served = serving => served.context("cannot serve"),
            () = stop.cancelled() => {
                tracing::warn!("some calls were still under way and are broken off");
                Ok(())
            }
        }
    }
}

/// systemd manages all cgroups of a node that it runs on a unified hierarchy; a second manager would fight it.
fn cgroup_driver_of_node() -> CgroupDriver {
    let systemd = Path::new("/run/systemd/system").is_dir();
    match (systemd, cgroup::mode()) {
        (true, CgroupMode::Unified) => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    }
}

/// A folder that root alone may enter: there are files of images in it, with modes of the images' choice.
fn own_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Two daemons on one state would both own every pod.
fn claim(config: &Config) -> Result<std::fs::File> {
    match lock::try_exclusive(&config.lock_path())? {
        Some(file) => Ok(file),
        None => {
            let state = config.state.display();
            bail!("another cridge uses {state}: stop it, or give this one a --state of its own")
        }
    }
}

/// Refuses to run beside the built-in plugin. A containerd that is not there yet is no reason to fail.
async fn first_contact(containerd: &Containerd, config: &Config) -> Result<()> {
    let deadline = tokio::time::Instant::now() + FIRST_CONTACT;
    loop {
        match containerd.cri_plugin().await {
            Ok(None) => return Ok(()),
            Ok(Some(plugin)) => bail!(
                "containerd's own CRI plugin ({plugin}) is active and would own the same pods: add it to \
                 disabled_plugins in containerd's config.toml, with the other CRI plugins, and restart containerd \
                 (`cridge check` tells which)"
            ),
            Err(error) if error.kind() == Kind::Unavailable && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) if error.kind() == Kind::Unavailable => bail!(
                "containerd does not answer on {}: start it, or name its socket by --containerd ({})",
                config.containerd.socket.display(),
                crate::error::chain(&error)
            ),
            Err(error) => return Err(error).context("cannot ask containerd for its plugins"),
        }
    }
}

/// Binds the socket of the CRI.
async fn listen(path: &Path) -> Result<UnixListener> {
    match socket::listen(path).await {
        Err(LinuxError::InUse { path }) => {
            bail!("something answers on {} already: stop it, or choose another --listen", path.display())
        }
        bound => Ok(bound?),
    }
}

/// SIGTERM or SIGINT.
async fn ended_by_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let both = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    match both {
        Ok((mut term, mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        Err(error) => {
            tracing::error!("cannot wait for signals, only SIGKILL will end this daemon: {error}");
            std::future::pending::<()>().await;
        }
    }
}

/// Tells systemd that the runtime's threads still turn, twice per period, where it asks to be told.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(period / 2);
    loop {
        tick.tick().await;
        notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}
