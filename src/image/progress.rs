//! How far pulls are: for whoever waits for one, and as figures over all.
//!
//! Invariant: a pull is on the board for as long as it goes on, however it ends. Bytes are those that the content store
//! has; of a download that several pulls wait for, each has them all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::unpack::Layer;
use crate::id::Digest;
use crate::meter::{Counter, Level};
use crate::time::Timestamp;

/// Bytes of blobs that registries have sent.
pub static FETCHED_BYTES: Counter = Counter::new();
/// Layers that were downloaded, and those that were here already.
pub static FETCHED_LAYERS: Counter = Counter::new();
pub static PRESENT_LAYERS: Counter = Counter::new();
/// Downloads under way, and those that wait until others have ended.
pub static DOWNLOADS: Level = Level::new();
pub static WAITING_DOWNLOADS: Level = Level::new();

/// All pulls under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    pulls: BTreeMap<u64, Pulling>,
    /// Downloads under way: what the content store has of them.
    arriving: HashMap<Digest, Arriving>,
}

#[derive(Debug)]
struct Pulling {
    image: String,
    since: Timestamp,
    stage: &'static str,
    layers: Vec<LayerState>,
    /// When the layers' downloads began, and with how many bytes here already.
    fetching: Option<(Timestamp, u64)>,
}

#[derive(Debug)]
struct LayerState {
    digest: Digest,
    size: u64,
    stage: LayerStage,
}

/// Where a layer is. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LayerStage {
    /// It waits for a download that goes on before it, or is being downloaded.
    Fetching,
    /// It waits for those below it.
    Fetched,
    Unpacking,
    Unpacked,
}

#[derive(Clone, Copy, Debug)]
struct Arriving {
    bytes: u64,
    at: Timestamp,
}

/// One pull's place on the board, until it is dropped.
#[derive(Debug)]
pub struct Place {
    board: Board,
    serial: u64,
}

/// One download's, likewise.
#[derive(Debug)]
pub struct Arrival {
    board: Board,
    digest: Digest,
}

/// A pull under way, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullReport {
    pub image: String,
    /// RFC 3339, as all times here.
    pub since: String,
    /// The step that it is at.
    pub stage: String,
    /// Compressed bytes of all layers that are here, and of all there are. Both zero before the layers are known.
    pub bytes: u64,
    pub total_bytes: u64,
    /// On average, since the downloads began; `None` before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// When a byte came last, of a pull that downloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_byte_at: Option<String>,
    pub layers: Vec<LayerReport>,
}

#[cfg(test)]
impl PullReport {
    /// One that has just begun.
    pub fn begun(image: &str, since: &str) -> Self {
        Self {
            image: image.into(),
            since: since.into(),
            stage: "get the manifest".into(),
            bytes: 0,
            total_bytes: 0,
            bytes_per_second: None,
            last_byte_at: None,
            layers: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    pub digest: String,
    pub stage: LayerStage,
    pub bytes: u64,
    pub total_bytes: u64,
}

impl Board {
    pub fn begin(&self, image: &str) -> Place {
        let mut state = self.state();
        state.next += 1;
        let serial = state.next;
        let (since, layers) = (Timestamp::now(), Vec::new());
        let pull = Pulling { image: image.to_owned(), since, stage: "begin", layers, fetching: None };
        state.pulls.insert(serial, pull);
        Place { board: self.clone(), serial }
    }

    /// A download begins, of which `bytes` are here.
    pub fn arrives(&self, digest: &Digest, bytes: u64) -> Arrival {
        self.state().arriving.insert(digest.clone(), Arriving { bytes, at: Timestamp::now() });
        Arrival { board: self.clone(), digest: digest.clone() }
    }

    /// All of a blob has come, for whoever waits for it: a pull may be at something else just now.
    pub fn has_come(&self, digest: &Digest) {
        self.state().pulls.values_mut().for_each(|pull| pull.advance(digest, LayerStage::Fetched));
    }

    /// All of a blob was here before it was asked for: that says nothing of how fast others come.
    pub fn was_here(&self, digest: &Digest) {
        for pull in self.state().pulls.values_mut() {
            let waiting =
                |layer: &&LayerState| layer.digest == *digest && layer.stage == LayerStage::Fetching;
            let bytes: u64 = pull.layers.iter().filter(waiting).map(|layer| layer.size).sum();
            if let Some((_, at_first)) = &mut pull.fetching {
                *at_first += bytes;
            }
            pull.advance(digest, LayerStage::Fetched);
        }
    }

    /// All pulls under way, the oldest first.
    pub fn report(&self) -> Vec<PullReport> {
        let (state, now) = (self.state(), Timestamp::now());
        state.pulls.values().map(|pull| pull.report(&state.arriving, now)).collect()
    }

    /// Bytes that are still to come, over all pulls.
    pub fn bytes_to_come(&self) -> u64 {
        let state = self.state();
        let to_come = |pull: &Pulling| pull.total().saturating_sub(pull.here(&state.arriving));
        state.pulls.values().map(to_come).sum()
    }

    /// Every change of the board is one call that either happened or did not.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The pull is at this step now.
    pub fn at(&self, stage: &'static str) {
        self.change(|pull, _| pull.stage = stage);
    }

    /// Its layers are known; the lowest `there` of them are unpacked.
    pub fn layers(&self, layers: &[Layer], there: usize) {
        PRESENT_LAYERS.add(there as u64);
        let layers = layers.iter().enumerate().map(|(n, layer)| LayerState {
            digest: layer.blob.descriptor.digest.clone(),
            size: layer.blob.descriptor.size,
            stage: if n < there { LayerStage::Unpacked } else { LayerStage::Fetching },
        });
        let layers = layers.collect();
        self.change(|pull, arriving| {
            pull.layers = layers;
            pull.fetching = Some((Timestamp::now(), pull.here(arriving)));
        });
    }

    /// A layer has come as far as this.
    pub fn layer(&self, digest: &Digest, stage: LayerStage) {
        self.change(|pull, _| pull.advance(digest, stage));
    }

    fn change(&self, change: impl FnOnce(&mut Pulling, &HashMap<Digest, Arriving>)) {
        let mut state = self.board.state();
        let State { pulls, arriving, .. } = &mut *state;
        if let Some(pull) = pulls.get_mut(&self.serial) {
            change(pull, arriving);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.state().pulls.remove(&self.serial);
    }
}

impl Arrival {
    /// Bytes that are here now.
    pub fn has(&self, bytes: u64) {
        let now = Arriving { bytes, at: Timestamp::now() };
        if let Some(arriving) = self.board.state().arriving.get_mut(&self.digest) {
            *arriving = now;
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.board.state().arriving.remove(&self.digest);
    }
}

impl Pulling {
    fn advance(&mut self, digest: &Digest, stage: LayerStage) {
        let same = self.layers.iter_mut().filter(|layer| layer.digest == *digest);
        same.for_each(|layer| layer.stage = layer.stage.max(stage));
    }

    fn total(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    fn here(&self, arriving: &HashMap<Digest, Arriving>) -> u64 {
        self.layers.iter().map(|layer| layer.here(arriving)).sum()
    }

    fn report(&self, arriving: &HashMap<Digest, Arriving>, now: Timestamp) -> PullReport {
        let bytes = self.here(arriving);
        let rate = self.fetching.and_then(|(since, at_first)| {
            let millis =
                u64::try_from((now.nanos() - since.nanos()) / 1_000_000).ok().filter(|past| *past > 0)?;
            Some(bytes.saturating_sub(at_first).saturating_mul(1000) / millis)
        });
        let fetching = self.layers.iter().filter(|layer| layer.stage == LayerStage::Fetching);
        let last = fetching.filter_map(|layer| Some(arriving.get(&layer.digest)?.at)).max();
        PullReport {
            image: self.image.clone(),
            since: self.since.to_string(),
            stage: self.stage.to_owned(),
            bytes,
            total_bytes: self.total(),
            bytes_per_second: rate,
            last_byte_at: last.map(|at| at.to_string()),
            layers: self.layers.iter().map(|layer| layer.report(arriving)).collect(),
        }
    }
}

impl LayerState {
    fn here(&self, arriving: &HashMap<Digest, Arriving>) -> u64 {
        match self.stage {
            LayerStage::Fetching => arriving.get(&self.digest).map_or(0, |one| one.bytes.min(self.size)),
            LayerStage::Fetched | LayerStage::Unpacking | LayerStage::Unpacked => self.size,
        }
    }

    fn report(&self, arriving: &HashMap<Digest, Arriving>) -> LayerReport {
        let (digest, bytes) = (self.digest.to_string(), self.here(arriving));
        LayerReport { digest, stage: self.stage, bytes, total_bytes: self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn with_layers(board: &Board, sizes: &[u64]) -> Place {
        let place = board.begin("docker.io/library/busybox:latest");
        let state = |(n, size): (usize, &u64)| LayerState {
            digest: digest(n as u8),
            size: *size,
            stage: LayerStage::Fetching,
        };
        place.change(|pull, _| {
            pull.layers = sizes.iter().enumerate().map(state).collect();
            pull.fetching = Some((Timestamp::from_nanos(1), 0));
        });
        place
    }

    #[test]
    fn a_download_counts_for_every_pull_that_waits_for_it() {
        let board = Board::default();
        let (one, other) = (with_layers(&board, &[100, 50]), with_layers(&board, &[100]));
        let arrival = board.arrives(&digest(0), 10);
        arrival.has(40);
        assert_eq!(board.report().iter().map(|pull| pull.bytes).collect::<Vec<_>>(), [40, 40]);
        assert_eq!(board.bytes_to_come(), 110 + 60);
        board.has_come(&digest(0));
        drop(arrival);
        assert_eq!(board.report().iter().map(|pull| pull.bytes).collect::<Vec<_>>(), [100, 100]);
        drop(other);
        one.layer(&digest(0), LayerStage::Unpacking);
        one.layer(&digest(0), LayerStage::Fetched);
        let report = board.report();
        assert_eq!(report.len(), 1);
        assert_eq!(report[0].layers[0].stage, LayerStage::Unpacking);
        assert_eq!((report[0].total_bytes, report[0].layers[1].bytes), (150, 0));
        drop(one);
        assert!(board.report().is_empty());
    }

    #[test]
    fn what_was_here_before_is_not_fast() {
        let board = Board::default();
        let _place = with_layers(&board, &[100, 50]);
        board.was_here(&digest(1));
        let report = &board.report()[0];
        assert_eq!((report.bytes, report.bytes_per_second), (50, Some(0)));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let board = Board::default();
        let place = with_layers(&board, &[7]);
        place.at("fetch and unpack layers");
        let _arrival = board.arrives(&digest(0), 3);
        let report = board.report();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Vec<PullReport>>(&text).unwrap(), report, "{text}");
        assert!(report[0].last_byte_at.is_some() && report[0].bytes_per_second == Some(0), "{text}");
    }
}
