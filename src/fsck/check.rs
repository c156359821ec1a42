//! `cridge fsck`: what belongs to nobody, told, and with --repair removed.
//!
//! Only what was nobody's in two looks some seconds apart is told of: by then what was under way has its owner, or is
//! gone. A removal takes the daemon's lock: none serves meanwhile, and none starts. So nobody makes anything of ours, and
//! each record is looked for once more before what bears its id goes.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::judge::{Kind, Orphan, Verdict, judge};
use super::seen::Making;
use super::{Fsck, FsckError};
use crate::config::Config;
use crate::containerd::Containerd;
use crate::error::chain;
use crate::linux::lock;
use crate::sandbox::Handlers;

/// Between two looks: more than any step takes between a thing and its owner.
const SETTLE: Duration = Duration::from_secs(5);
/// What goes may uncover more: a shim's end empties its cgroup, and with that its network namespace is nobody's.
const PASSES: usize = 4;

/// Whether anything is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    No,
    Yes,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What could not be judged, and why.
    pub notes: Vec<String>,
}

/// One thing that belongs to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: Kind,
    pub what: String,
    pub why: String,
    pub outcome: Outcome,
    /// Why it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Found,
    Removed,
    Left,
}

/// Looks at the node, and with [`Repair::Yes`] removes what belongs to nobody.
///
/// # Errors
/// A daemon serves, or the built-in plugin does, where something is to be removed; containerd is away; the
/// configuration cannot be used.
pub async fn fsck(config: Config, repair: Repair) -> Result<Report, FsckError> {
    let containerd = Containerd::new(&config.containerd.socket, &config.containerd.namespace);
    let handlers = Handlers::load(&config)?;
    let fsck = Fsck { config: Arc::new(config), containerd, handlers };
    match repair {
        Repair::No => fsck.tell().await,
        Repair::Yes => fsck.repair().await,
    }
}

impl Fsck {
    async fn tell(&self) -> Result<Report, FsckError> {
        let verdict = self.settled(|| self.making()).await?;
        let findings = verdict.orphans.iter().map(|orphan| Finding::of(orphan, Outcome::Found)).collect();
        Ok(Report { findings, notes: verdict.notes })
    }

    async fn repair(&self) -> Result<Report, FsckError> {
        let _only_one = self.claim()?;
        if let Some(plugin) = self.containerd.cri_plugin().await? {
            return Err(FsckError::BuiltInPlugin { plugin });
        }
        let mut report = Report::default();
        for _ in 0..PASSES {
            let verdict = self.settled(|| Making::Nothing).await?;
            report.notes = verdict.notes;
            let fresh = report.take_note_of(&verdict.orphans);
            if fresh.is_empty() {
                break;
            }
            for orphan in fresh {
                let removed = self.remove(&orphan.thing).await;
                report.findings.push(match removed {
                    Ok(()) => Finding::of(orphan, Outcome::Removed),
                    Err(error) => {
                        Finding { error: Some(chain(&error)), ..Finding::of(orphan, Outcome::Left) }
                    }
                });
            }
        }
        Ok(report)
    }

    /// What two looks agree on. Where the first finds nothing, it is the last.
    async fn settled(&self, making: impl Fn() -> Making) -> Result<Verdict, FsckError> {
        let first = judge(&self.look(&making).await?);
        if first.orphans.is_empty() {
            return Ok(first);
        }
        tokio::time::sleep(SETTLE).await;
        let mut second = judge(&self.look(&making).await?);
        second.orphans.retain(|orphan| first.orphans.iter().any(|before| before.thing == orphan.thing));
        Ok(second)
    }

    /// Whether somebody may be at work, as the daemon's lock tells. It is given back at once: a daemon may start.
    fn making(&self) -> Making {
        match lock::try_exclusive(&self.config.lock_path()) {
            Ok(None) => Making::Unknown,
            // Without a folder of state no daemon has been here since the boot.
            Ok(Some(_)) | Err(_) => Making::Nothing,
        }
    }

    fn claim(&self) -> Result<std::fs::File, FsckError> {
        let state = &self.config.state;
        let failed = |source| FsckError::File { action: "make", path: state.clone(), source };
        std::fs::create_dir_all(state).map_err(failed)?;
        std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = lock::try_exclusive(&self.config.lock_path())?;
        lock.ok_or_else(|| FsckError::Serving { state: state.clone() })
    }
}

impl Report {
    /// Whether nothing belongs to nobody any more.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.outcome == Outcome::Removed)
    }

    /// Those of `orphans` that nothing was tried with yet. What is here after its removal is left, whatever was said.
    fn take_note_of<'a>(&mut self, orphans: &'a [Orphan]) -> Vec<&'a Orphan> {
        let mut fresh = Vec::new();
        for orphan in orphans {
            let (kind, what) = (orphan.thing.kind(), orphan.thing.to_string());
            match self.findings.iter_mut().find(|finding| finding.kind == kind && finding.what == what) {
                None => fresh.push(orphan),
                Some(finding) if finding.outcome == Outcome::Removed => {
                    finding.outcome = Outcome::Left;
                    finding.error = Some("it was removed, and is there again".into());
                }
                Some(_) => {}
            }
        }
        fresh
    }
}

impl Finding {
    fn of(orphan: &Orphan, outcome: Outcome) -> Self {
        let (kind, what) = (orphan.thing.kind(), orphan.thing.to_string());
        Self { kind, what, why: orphan.why.clone(), outcome, error: None }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Found => "found",
            Self::Removed => "removed",
            Self::Left => "LEFT",
        })
    }
}

/// A table; then what was left alone.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            writeln!(f, "nothing here belongs to nobody")?;
        } else {
            let width = self.findings.iter().map(|finding| finding.what.len()).max().unwrap_or_default();
            writeln!(f, "{:7}  {:14}  {:width$}  WHY", "", "KIND", "WHAT")?;
            for Finding { kind, what, why, outcome, error } in &self.findings {
                write!(f, "{outcome:7}  {kind:14}  {what:width$}  {why}")?;
                match error {
                    Some(error) => writeln!(f, " (left: {error})")?,
                    None => writeln!(f)?,
                }
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Thing;
    use super::*;

    fn orphan(path: &str) -> Orphan {
        Orphan { thing: Thing::Pin(path.into()), why: "no record names it".into() }
    }

    #[test]
    fn what_is_there_again_is_left() {
        let (one, two) = (orphan("/run/netns/cni-1"), orphan("/run/netns/cni-2"));
        let mut report = Report::default();
        assert!(report.is_clean());
        report.findings.push(Finding::of(&one, Outcome::Removed));
        assert!(report.is_clean());
        let both = [one, two];
        assert_eq!(report.take_note_of(&both), [&both[1]]);
        assert_eq!(report.findings[0].outcome, Outcome::Left);
        assert!(!report.is_clean());
    }

    #[test]
    fn a_report_is_a_table_or_json() {
        let mut report =
            Report { findings: vec![Finding::of(&orphan("/n/cni-1"), Outcome::Found)], notes: vec![] };
        let text = report.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with("found    netns           /n/cni-1  no record names it\n"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        let finding = serde_json::json!({
            "kind": "netns", "what": "/n/cni-1", "why": "no record names it", "outcome": "found",
        });
        assert_eq!(json, serde_json::json!({"findings": [finding], "notes": []}));
        report.findings.clear();
        report.notes.push("cgroups not judged".into());
        assert_eq!(report.to_string(), "nothing here belongs to nobody\nnote: cgroups not judged\n");
    }
}
