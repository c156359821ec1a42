//! What snapshots take of the disk: measured in the background, told from memory.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ImageError;
use crate::containerd::{Containerd, ContainerdError, SnapshotKind, SnapshotUsage};
use crate::error::chain;
use crate::id::SnapshotKey;
use crate::time::Timestamp;

/// The least between two measurements: containerd's `stats_collect_period`.
const PERIOD: Duration = Duration::from_secs(10);
/// How many times as long as a measurement took we rest after it: a full disk's walk must not become a load.
const REST: u32 = 9;
/// How long the first measurement is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The plugins that tell where they keep their files.
const SNAPSHOTTER_PLUGIN: &str = "io.containerd.snapshotter.v1";
const CONTENT_PLUGIN: &str = "io.containerd.content.v1";

/// What the images' snapshots take of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemUsage {
    pub mountpoint: String,
    pub bytes: u64,
    pub inodes: u64,
    pub at: Timestamp,
}

/// One round's measurements.
struct Measured {
    filesystems: Vec<FilesystemUsage>,
    /// By snapshotter: what is written to.
    active: HashMap<String, HashMap<SnapshotKey, FilesystemUsage>>,
}

/// The measurements. The task that makes them begins with the first question and ends with this value.
pub struct Usage {
    containerd: Containerd,
    snapshotters: Arc<Mutex<Vec<String>>>,
    task: Mutex<Option<Task>>,
}

struct Task {
    latest: watch::Receiver<Option<Arc<Measured>>>,
    running: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Usage {
    /// Of the default snapshotter, and of those that [`Usage::watch`] adds.
    pub fn new(containerd: Containerd, snapshotter: &str) -> Self {
        let snapshotters = Arc::new(Mutex::new(vec![snapshotter.to_owned()]));
        Self { containerd, snapshotters, task: Mutex::default() }
    }

    /// Has a snapshotter measured too, from the next time on.
    pub fn watch(&self, snapshotter: &str) {
        let mut snapshotters = lock(&self.snapshotters);
        if !snapshotters.iter().any(|known| known == snapshotter) {
            snapshotters.push(snapshotter.to_owned());
        }
    }

    /// The latest measurement.
    pub async fn latest(&self) -> Result<Vec<FilesystemUsage>, ImageError> {
        let mut latest = self.measurements();
        let measured = tokio::time::timeout(PATIENCE, latest.wait_for(Option::is_some)).await;
        let measured = measured.ok().and_then(|received| received.ok()?.clone());
        measured
            .map(|measured| measured.filesystems.clone())
            .ok_or(ImageError::Unmeasured { limit: PATIENCE })
    }

    /// What an active snapshot took when it was last measured; `None` before the first time.
    pub fn of_active(&self, snapshotter: &str, key: &SnapshotKey) -> Option<FilesystemUsage> {
        self.watch(snapshotter);
        let latest = self.measurements();
        let measured = latest.borrow();
        measured.as_ref()?.active.get(snapshotter)?.get(key).cloned()
    }

    fn measurements(&self) -> watch::Receiver<Option<Arc<Measured>>> {
        lock(&self.task).get_or_insert_with(|| self.begin()).latest.clone()
    }

    fn begin(&self) -> Task {
        let (publish, latest) = watch::channel(None);
        let mut meter = Meter {
            containerd: self.containerd.clone(),
            snapshotters: self.snapshotters.clone(),
            mountpoints: HashMap::new(),
            measured: HashMap::new(),
        };
        let running = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                match meter.measure_all().await {
                    Ok(measured) => drop(publish.send(Some(Arc::new(measured)))),
                    Err(error) => tracing::debug!(error = chain(&error), "the snapshots were not measured"),
                }
                tokio::time::sleep(PERIOD.max(began.elapsed() * REST)).await;
            }
        });
        Task { latest, running }
    }
}

/// What the background task knows.
struct Meter {
    containerd: Containerd,
    snapshotters: Arc<Mutex<Vec<String>>>,
    mountpoints: HashMap<String, String>,
    /// By snapshotter: what does not change any more.
    measured: HashMap<String, BTreeMap<SnapshotKey, SnapshotUsage>>,
}

impl Meter {
    async fn measure_all(&mut self) -> Result<Measured, ContainerdError> {
        let snapshotters = lock(&self.snapshotters).clone();
        let mut all = Measured { filesystems: Vec::new(), active: HashMap::new() };
        for snapshotter in snapshotters {
            let mountpoint = self.mountpoint(&snapshotter).await?;
            let at = Timestamp::now();
            let (sum, active) = self.measure(&snapshotter, &mountpoint).await?;
            let SnapshotUsage { bytes, inodes } = sum;
            all.filesystems.push(FilesystemUsage { mountpoint, bytes, inodes, at });
            all.active.insert(snapshotter, active);
        }
        Ok(all)
    }

    /// Sums up all snapshots; only new ones and those that are written to are looked at. The latter are told one by
    /// one, too.
    async fn measure(
        &mut self,
        snapshotter: &str,
        mountpoint: &str,
    ) -> Result<(SnapshotUsage, HashMap<SnapshotKey, FilesystemUsage>), ContainerdError> {
        let before = self.measured.remove(snapshotter).unwrap_or_default();
        let mut settled = BTreeMap::new();
        let mut active = HashMap::new();
        let mut sum = SnapshotUsage::default();
        for snapshot in self.containerd.snapshots(snapshotter).await? {
            let still = snapshot.kind != SnapshotKind::Active;
            let usage = match before.get(&snapshot.key) {
                Some(usage) if still => *usage,
                _ => match self.containerd.snapshot_usage(snapshotter, &snapshot.key).await {
                    Ok(usage) => usage,
                    // Removed meanwhile, or being committed.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            sum.bytes = sum.bytes.saturating_add(usage.bytes);
            sum.inodes = sum.inodes.saturating_add(usage.inodes);
            if still {
                settled.insert(snapshot.key, usage);
            } else {
                let (mountpoint, SnapshotUsage { bytes, inodes }) = (mountpoint.to_owned(), usage);
                let at = Timestamp::now();
                active.insert(snapshot.key, FilesystemUsage { mountpoint, bytes, inodes, at });
            }
        }
        self.measured.insert(snapshotter.to_owned(), settled);
        Ok((sum, active))
    }

    /// The folder of the snapshotter: as it exports it, or where containerd gives it one.
    async fn mountpoint(&mut self, snapshotter: &str) -> Result<String, ContainerdError> {
        if let Some(known) = self.mountpoints.get(snapshotter) {
            return Ok(known.clone());
        }
        let plugins = self.containerd.plugins().await?;
        let root_of = |kind: &str, id: Option<&str>| {
            let mut found =
                plugins.iter().filter(|plugin| plugin.kind == kind && id.is_none_or(|id| plugin.id == id));
            found.find_map(|plugin| plugin.exports.get("root")).map(PathBuf::from)
        };
        let root = root_of(SNAPSHOTTER_PLUGIN, Some(snapshotter)).unwrap_or_else(|| {
            let content = root_of(CONTENT_PLUGIN, None);
            let containerd =
                content.as_deref().and_then(Path::parent).unwrap_or(Path::new("/var/lib/containerd"));
            containerd.join(format!("{SNAPSHOTTER_PLUGIN}.{snapshotter}"))
        });
        let root = root.to_string_lossy().into_owned();
        self.mountpoints.insert(snapshotter.to_owned(), root.clone());
        Ok(root)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each use is one step that either happened or did not.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
