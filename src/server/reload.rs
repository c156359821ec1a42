//! A configuration that changes while the daemon serves: by SIGHUP, or because its file does.
//!
//! Invariant: of a new configuration everything takes effect, or nothing. What is wrong with it, or cannot be done, is
//! logged, and all stays as it was; what needs a restart stays too, and is named.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::traces::Traces;
use super::{cgroup_driver_of_node, notify};
use crate::config::{
    Changes, Config, ConfigError, InForce, Loaded, MetricsAddress, Reloads, keep_what_needs_a_restart,
};
use crate::containerd::Containerd;
use crate::error::chain;
use crate::log::{self, LevelError};
use crate::metrics::{self, MetricsError, Sources};
use crate::otlp::OtlpError;
use crate::registry::Registry;
use crate::sandbox::{HandlerError, Handlers};

/// How often the file is looked at. A change counts once two looks in a row have seen the same, so that nothing is read
/// half-written.
const LOOK: Duration = Duration::from_secs(2);

/// Where the configuration comes from.
pub struct Source {
    /// Looked at for changes, there or not.
    pub file: PathBuf,
    /// Reads it anew, with the command line's flags put over it.
    pub read: Box<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>,
}

/// Everything that a change reaches.
pub struct Reload {
    pub source: Source,
    pub triggers: Triggers,
    /// As it was written, before the node's own ways were filled in.
    pub written: Config,
    pub in_force: InForce,
    pub handlers: Handlers,
    pub containerd: Containerd,
    pub registry: Registry,
    pub level: log::Level,
    pub exporter: Exporter,
    pub traces: Traces,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Handler(#[from] HandlerError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Traces(#[from] OtlpError),
    #[error(transparent)]
    Level(#[from] LevelError),
}

/// Tells the figures, somewhere or nowhere.
pub struct Exporter {
    sources: Sources,
    serving: Option<(MetricsAddress, AbortOnDropHandle<()>)>,
}

impl Exporter {
    /// Begins to serve there.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub async fn start(address: Option<&MetricsAddress>, sources: Sources) -> Result<Self, MetricsError> {
        let mut exporter = Self { sources, serving: None };
        let next = exporter.prepare(address).await?;
        exporter.switch(next);
        Ok(exporter)
    }

    /// Listens there as well, where it is another place than now.
    async fn prepare(&self, address: Option<&MetricsAddress>) -> Result<Next, MetricsError> {
        match address {
            None => Ok(Next::Nowhere),
            Some(address) if self.serving.as_ref().is_some_and(|(now, _)| now == address) => Ok(Next::Same),
            Some(address) => Ok(Next::There(address.clone(), metrics::bind(address).await?)),
        }
    }

    fn switch(&mut self, next: Next) {
        match next {
            Next::Same => {}
            Next::Nowhere => self.serving = None,
            Next::There(address, listener) => {
                let serving = tokio::spawn(metrics::serve(listener, self.sources.clone()));
                self.serving = Some((address, AbortOnDropHandle::new(serving)));
            }
        }
    }
}

/// Where figures are told after a change.
enum Next {
    Same,
    Nowhere,
    There(MetricsAddress, metrics::Listener),
}

impl Reload {
    /// Follows signals and the file until `stop`. What is left to be told of traces comes back.
    pub async fn follow(mut self, stop: CancellationToken) -> Traces {
        while stop.run_until_cancelled(self.triggers.next()).await.is_some() {
            self.reload().await;
        }
        self.traces
    }

    async fn reload(&mut self) {
        if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
            notify(&[sd_notify::NotifyState::Reloading, now]);
        }
        match self.take_new().await {
            Ok(changes) => {
                Reloads::note_taken(changes.restart.len());
                tell(&changes);
            }
            Err(refused) => {
                Reloads::note_refused();
                tracing::error!("the configuration stays as it is: {}", chain(&refused));
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Prepares all that can fail, and only then changes anything.
    async fn take_new(&mut self) -> Result<Changes, Refused> {
        let Loaded { config: written, unknown } = (self.source.read)()?;
        let mut new = written;
        let changes = keep_what_needs_a_restart(&self.written, &mut new);
        let written = new.clone();
        new.settle_cgroup_driver(cgroup_driver_of_node());
        let handlers = self.handlers.prepare(&new)?;
        if changes.at_once.iter().any(|key| key.starts_with("runtime.")) {
            handlers.learn_features(&self.containerd).await;
        }
        let next = self.exporter.prepare(new.metrics.listen.as_ref()).await?;
        let traces = self.traces.prepare(&new.traces)?;
        self.level.set(&new.log.level)?;
        for mistake in &unknown {
            tracing::warn!("{mistake}");
        }
        self.exporter.switch(next);
        self.traces.switch(traces);
        self.handlers.replace(handlers);
        self.registry.reconfigure(&new.registry);
        self.in_force.replace(new);
        self.written = written;
        Ok(changes)
    }
}

fn tell(Changes { at_once, restart }: &Changes) {
    match at_once.len() {
        0 => tracing::info!("the configuration was read again: nothing changes"),
        _ => tracing::info!("the configuration was read again, in force now: {}", at_once.join(", ")),
    }
    if !restart.is_empty() {
        tracing::warn!("what has changed as well needs a restart: {}", restart.join(", "));
    }
}

/// What has the configuration read again.
pub struct Triggers {
    file: PathBuf,
    hangups: Signal,
    looks: Looks,
}

impl Triggers {
    /// From now on, none is missed.
    ///
    /// # Errors
    /// The kernel does not take the handler of a signal.
    pub fn of(file: &Path) -> std::io::Result<Self> {
        let hangups = signal(SignalKind::hangup())?;
        Ok(Self { file: file.to_owned(), hangups, looks: Looks::begin(file) })
    }

    /// Returns when there is something to read.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangups.recv() => {
                    self.looks = Looks::begin(&self.file);
                    return;
                }
                () = tokio::time::sleep(LOOK) => {
                    if self.looks.look(&self.file) {
                        return;
                    }
                }
            }
        }
    }
}

/// What a file looks like from outside; `None`: it is not there.
type Look = Option<(u64, u64, i64, i64)>;

/// What was seen of the file.
struct Looks {
    /// When it was read.
    read: Look,
    /// The last time.
    last: Look,
}

impl Looks {
    fn begin(file: &Path) -> Self {
        let now = look(file);
        Self { read: now, last: now }
    }

    /// Whether there is something new to read. A file that goes away is no new one.
    fn look(&mut self, file: &Path) -> bool {
        let (now, before) = (look(file), self.last);
        self.last = now;
        let is_new = now.is_some() && now != self.read && now == before;
        if is_new {
            self.read = now;
        }
        is_new
    }
}

fn look(file: &Path) -> Look {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_once_it_rests() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let mut looks = Looks::begin(&file);
        assert!(!looks.look(&file), "it is not there");
        fs::write(&file, "half").unwrap();
        assert!(!looks.look(&file), "it may be half-written");
        fs::write(&file, "half and half").unwrap();
        assert!(!looks.look(&file), "it was");
        assert!(looks.look(&file));
        assert!(!looks.look(&file), "it was read");
        // As editors and configuration management do it.
        fs::write(dir.path().join("new"), "half and half").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(!looks.look(&file));
        assert!(looks.look(&file));
        fs::remove_file(&file).unwrap();
        assert!(!looks.look(&file) && !looks.look(&file), "what is gone says nothing");
    }
}
