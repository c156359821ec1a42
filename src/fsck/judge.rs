//! What belongs to nobody, out of all that was seen. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::seen::{Making, Pin, Record, Role, Seen, ShimSeen, Task, TraceSeen};
use crate::containerd::Shim;
use crate::id::{LeaseId, SnapshotKey, is_id};
use crate::linux::cgroup_names::NamedCgroup;
use crate::network::{Trace, TraceKind};

/// What was found, and what could not be judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// In the order in which they are to go: who uses something goes before it.
    pub orphans: Vec<Orphan>,
    /// What was left alone as a whole, and why.
    pub notes: Vec<String>,
}

/// Something that belongs to nobody.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Orphan {
    pub thing: Thing,
    /// Why it is thought to be nobody's.
    pub why: String,
}

/// A thing, with what it takes to remove it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thing {
    Shim(Shim),
    Container { id: String, name: String, pod: String },
    Cgroup { id: String, path: PathBuf, folders: Vec<PathBuf> },
    Trace(Trace),
    Pin(PathBuf),
    Mount { id: String, path: PathBuf },
    Folder { id: String, path: PathBuf },
    Snapshot { id: String, snapshotter: String, key: SnapshotKey },
    Lease(LeaseId),
    SandboxRecord(String),
    Name { name: String, holders: Vec<String> },
}

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Shim,
    Container,
    Cgroup,
    NetworkResult,
    Address,
    Netns,
    Mount,
    Folder,
    Snapshot,
    Lease,
    SandboxRecord,
    Name,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shim => "shim",
            Self::Container => "container",
            Self::Cgroup => "cgroup",
            Self::NetworkResult => "network-result",
            Self::Address => "address",
            Self::Netns => "netns",
            Self::Mount => "mount",
            Self::Folder => "folder",
            Self::Snapshot => "snapshot",
            Self::Lease => "lease",
            Self::SandboxRecord => "sandbox-record",
            Self::Name => "name",
        })
    }
}

impl Thing {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Shim(_) => Kind::Shim,
            Self::Container { .. } => Kind::Container,
            Self::Cgroup { .. } => Kind::Cgroup,
            Self::Trace(Trace { kind: TraceKind::Result, .. }) => Kind::NetworkResult,
            Self::Trace(Trace { kind: TraceKind::Address(_), .. }) => Kind::Address,
            Self::Pin(_) => Kind::Netns,
            Self::Mount { .. } => Kind::Mount,
            Self::Folder { .. } => Kind::Folder,
            Self::Snapshot { .. } => Kind::Snapshot,
            Self::Lease(_) => Kind::Lease,
            Self::SandboxRecord(_) => Kind::SandboxRecord,
            Self::Name { .. } => Kind::Name,
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shim(shim) => write!(f, "pid {} of {}", shim.pid, shim.id),
            Self::Container { id, name, .. } => write!(f, "{id} ({name})"),
            Self::Cgroup { path, .. } => path.display().fmt(f),
            Self::Trace(trace) => trace.file.display().fmt(f),
            Self::Pin(path) | Self::Mount { path, .. } | Self::Folder { path, .. } => path.display().fmt(f),
            Self::Snapshot { snapshotter, key, .. } => write!(f, "{key} of {snapshotter}"),
            Self::Lease(id) => id.fmt(f),
            Self::SandboxRecord(id) => id.fmt(f),
            Self::Name { name, holders } => write!(f, "{name} of {}", holders.join(" and ")),
        }
    }
}

/// Judges everything.
pub(super) fn judge(seen: &Seen) -> Verdict {
    let mut court = Court::new(seen);
    court.shims();
    court.containers();
    court.cgroups();
    let pins = court.pins();
    court.traces(&pins);
    court.orphans.extend(pins.into_iter().map(|path| Orphan {
        thing: Thing::Pin(path.to_owned()),
        why: "no record names it, and no process is in it".into(),
    }));
    court.files();
    court.rest_of_containerd();
    court.names();
    Verdict { orphans: court.orphans, notes: court.notes }
}

struct Court<'a> {
    seen: &'a Seen,
    /// Those of all namespaces: an id has one owner only.
    records: HashMap<&'a str, &'a Record>,
    /// Of other containerds, and of other namespaces of this one, by id.
    strangers: HashMap<&'a str, &'a Shim>,
    orphans: Vec<Orphan>,
    notes: Vec<String>,
}

impl<'a> Court<'a> {
    fn new(seen: &'a Seen) -> Self {
        let foreign = seen.shims.iter().filter(|shim| !shim.ours);
        Self {
            seen,
            records: seen.records.iter().map(|record| (record.id.as_str(), record)).collect(),
            strangers: foreign.map(|seen| (seen.shim.id.as_str(), &seen.shim)).collect(),
            orphans: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn find(&mut self, thing: Thing, why: impl Into<String>) {
        self.orphans.push(Orphan { thing, why: why.into() });
    }

    /// Whether this id is known to nobody who is seen.
    fn is_nobodys(&self, id: &str) -> bool {
        is_id(id)
            && !self.records.contains_key(id)
            && !self.strangers.contains_key(id)
            && !self.seen.making.holds(id)
    }

    /// Whether another containerd uses a place too, as ids in it tell: then nothing there is judged.
    fn is_shared<'b>(&mut self, place: &str, mut ids: impl Iterator<Item = &'b str>) -> bool {
        let Some(shim) = ids.find_map(|id| self.strangers.get(id)) else { return false };
        self.notes.push(format!(
            "{place} not judged: the containerd at {} (namespace {}) uses the same, as its pod {} shows; is this the \
             right configuration?",
            shim.address.display(),
            shim.namespace,
            shim.id,
        ));
        true
    }

    /// A shim serves the pod that it was started for, and whoever else's processes are below it.
    fn shims(&mut self) {
        let seen = self.seen;
        let owned = |task: &&Task| self.records.contains_key(task.id.as_str());
        let owned: Vec<&Task> = seen.tasks.iter().filter(owned).collect();
        let serves = |shim: &Shim, task: &Task| {
            task.id == shim.id || task.pid == shim.pid || task.parent == Some(shim.pid)
        };
        let homeless = owned.iter().find(|task| !seen.shims.iter().any(|seen| serves(&seen.shim, task)));
        let idle = seen.shims.iter().filter(|seen| seen.ours && is_id(&seen.shim.id));
        let idle = idle.filter(|seen| !owned.iter().any(|task| serves(&seen.shim, task)));
        let found: Vec<_> = idle.filter_map(|shim| Some((shim, self.why_shim(shim)?))).collect();
        match homeless {
            Some(task) if !found.is_empty() => self.notes.push(format!(
                "shims without a task are not judged: one of them may be that of task {}, which has ended",
                task.id
            )),
            _ => found.into_iter().for_each(|(seen, why)| self.find(Thing::Shim(seen.shim.clone()), why)),
        }
    }

    fn why_shim(&self, seen: &ShimSeen) -> Option<&'static str> {
        let id = seen.shim.id.as_str();
        match self.records.get(id).map(|record| (record.ours, &record.role)) {
            None if self.seen.making.holds(id) => None,
            None => Some("containerd has neither a record of its id, nor a task with a record in it"),
            // A start that is under way looks like that as well; and `ctr` and others start as they like.
            Some((true, Role::Pod | Role::Container { .. }))
                if !seen.has_children && self.seen.making != Making::Unknown =>
            {
                Some(
                    "containerd has lost it: there is a record of its id, but no task, and no process is below it",
                )
            }
            Some(_) => None,
        }
    }

    fn containers(&mut self) {
        let seen = self.seen;
        for record in seen.records.iter().filter(|record| record.ours) {
            let Role::Container { pod: Some(pod) } = &record.role else { continue };
            if self.is_nobodys(pod) && !seen.making.holds(&record.id) {
                let (id, name) = (record.id.clone(), record.name.clone());
                let thing = Thing::Container { id, name, pod: pod.clone() };
                self.find(thing, format!("its pod {pod} has no record"));
            }
        }
    }

    /// Of those of one parent, all are judged or none.
    fn cgroups(&mut self) {
        let mut parents: BTreeMap<Option<&Path>, Vec<&NamedCgroup>> = BTreeMap::new();
        for cgroup in &self.seen.cgroups {
            parents.entry(cgroup.path.parent()).or_default().push(cgroup);
        }
        for (parent, cgroups) in parents {
            let parent = parent.unwrap_or(Path::new("")).display().to_string();
            let place = format!("cgroups below {parent}");
            if !self.is_shared(&place, cgroups.iter().map(|cgroup| cgroup.id.as_str())) {
                self.cgroups_of(&cgroups);
            }
        }
    }

    fn cgroups_of(&mut self, cgroups: &[&NamedCgroup]) {
        for cgroup in cgroups {
            match cgroup.members.first() {
                _ if !self.is_nobodys(&cgroup.id) => {}
                // Whose processes those are cannot be told; of a lost shim's, the shim tells.
                Some(pid) => self.notes.push(format!(
                    "cgroup {} not judged: process {pid} is in it, and no shim tells whose that is",
                    cgroup.path.display()
                )),
                None => {
                    let (id, path, folders) =
                        (cgroup.id.clone(), cgroup.path.clone(), cgroup.folders.clone());
                    let thing = Thing::Cgroup { id, path, folders };
                    self.find(thing, "containerd has no record of its id, and no process is in it");
                }
            }
        }
    }

    /// Pins have no id in their names: that a process of an unknown owner is in one shows that others make some here.
    fn pins(&mut self) -> Vec<&'a Path> {
        let known: HashSet<&str> =
            self.seen.records.iter().flat_map(|record| &record.pins).map(String::as_str).collect();
        let is_known = |pin: &&Pin| {
            pin.path.file_name().is_some_and(|name| known.contains(name.to_string_lossy().as_ref()))
        };
        let unknown: Vec<&Pin> = self.seen.pins.iter().filter(|pin| !is_known(pin)).collect();
        let used = unknown.iter().find_map(|pin| Some((pin, pin.process?)));
        if let Some((pin, pid)) = used {
            self.notes.push(format!(
                "network namespaces not judged: somebody else makes some in the same folder, as process {pid} in {} \
                 shows",
                pin.path.display()
            ));
            return Vec::new();
        }
        unknown.into_iter().map(|pin| pin.path.as_path()).collect()
    }

    /// What still has a network namespace has an owner, unless the namespace has none.
    fn traces(&mut self, orphaned: &[&Path]) {
        let seen = self.seen;
        let ids = seen.traces.iter().map(|seen| seen.trace.container_id.as_str());
        if self.is_shared("results of CNI and addresses", ids) {
            return;
        }
        let is_orphaned = |netns: &Path| orphaned.iter().any(|pin| pin.file_name() == netns.file_name());
        let attached: HashSet<&str> = seen
            .traces
            .iter()
            .filter(|seen| seen.has_netns && !seen.trace.netns.as_deref().is_some_and(is_orphaned))
            .map(|seen| seen.trace.container_id.as_str())
            .collect();
        for TraceSeen { trace, .. } in &seen.traces {
            let id = trace.container_id.as_str();
            if self.is_nobodys(id) && !attached.contains(id) {
                let why = match trace.kind {
                    TraceKind::Result => {
                        format!("containerd has no record of {id}, and nobody is in its network namespace")
                    }
                    TraceKind::Address(_) => {
                        format!("it is held for {id}, of which containerd has no record")
                    }
                };
                self.find(Thing::Trace(trace.clone()), why);
            }
        }
    }

    /// Mounts before the folders that they are in.
    fn files(&mut self) {
        let seen = self.seen;
        let ids = seen.folders.iter().map(|folder| folder.id.as_str());
        let ids = ids.chain(seen.mounts.iter().map(|mount| mount.id.as_str()));
        if self.is_shared("folders and mounts", ids) {
            return;
        }
        // The last mount first: it may be on another.
        for mount in seen.mounts.iter().rev() {
            if self.is_nobodys(&mount.id) {
                let thing = Thing::Mount { id: mount.id.clone(), path: mount.path.clone() };
                self.find(thing, "it is in the place of an id of which containerd has no record");
            }
        }
        let in_the_making = seen.making == Making::Unknown;
        for folder in &seen.folders {
            if self.is_nobodys(&folder.id) && !(folder.restoring && in_the_making) {
                let thing = Thing::Folder { id: folder.id.clone(), path: folder.path.clone() };
                self.find(thing, "its name is an id of which containerd has no record");
            }
        }
    }

    fn rest_of_containerd(&mut self) {
        let seen = self.seen;
        let named: HashSet<&SnapshotKey> = seen.records.iter().map(|record| &record.snapshot).collect();
        for snapshot in &seen.snapshots {
            if self.is_nobodys(&snapshot.id) && !named.contains(&snapshot.key) {
                let thing = Thing::Snapshot {
                    id: snapshot.id.clone(),
                    snapshotter: snapshot.snapshotter.clone(),
                    key: snapshot.key.clone(),
                };
                self.find(thing, "no record names it, and there is none of the id in its key");
            }
        }
        for lease in &seen.leases {
            if self.is_nobodys(lease.as_str()) {
                let why = "it is named after a pod of which containerd has no record";
                self.find(Thing::Lease(lease.clone()), why);
            }
        }
        for id in &seen.sandboxes {
            if self.is_nobodys(id) {
                let why = "the sandbox store has it, and there is no container record of its id";
                self.find(Thing::SandboxRecord(id.clone()), why);
            }
        }
    }

    fn names(&mut self) {
        let mut holders: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
        for record in self.seen.records.iter().filter(|record| record.ours && !record.name.is_empty()) {
            let of_pod = record.role == Role::Pod;
            holders.entry((of_pod, &record.name)).or_default().push(&record.id);
        }
        for ((_, name), ids) in holders.into_iter().filter(|(_, ids)| ids.len() > 1) {
            let holders = ids.into_iter().map(str::to_owned).collect();
            let why = "a name has one holder: remove by the CRI which of them is not wanted (crictl rmp, crictl rm)";
            self.find(Thing::Name { name: name.to_owned(), holders }, why);
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
