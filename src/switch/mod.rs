//! `cridge node`: from the built-in plugin to cridge and back, the steps of docs/switching.md.
//!
//! Invariants: what can be known to fail is looked at before anything is changed. What was there is on the disk before it
//! is changed, and a rollback needs nothing else, so it can be repeated. A switch is taken back by itself unless it is
//! confirmed, by a timer that is armed before it. No pod is touched.

mod edit;
mod error;
mod plan;
mod record;
mod systemd;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub use error::SwitchError;
use plan::Facts;
pub use record::Record;
use systemd::Systemd;

use crate::check::{BUILT_IN, Outcome, SWITCH, check, kubelet};
use crate::config::Config;
use crate::containerd::Containerd;
use crate::error::{Errors, chain};
use crate::linux::{file, lock};

/// Below the root.
const RECORD: &str = "var/lib/cridge/switch.json";
const LOCK: &str = "run/cridge/switch.lock";
/// How long one waits for another that is at it: longer than a node takes.
const TURN: Duration = Duration::from_secs(900);
/// Where a kubelet tells of its health (its healthzPort's default).
const HEALTH: &str = "127.0.0.1:10248";
/// How long it may take to tell.
const TELL: Duration = Duration::from_secs(5);

/// A node that is switched.
#[derive(Debug)]
pub struct Node {
    root: PathBuf,
    systemd: Systemd,
    /// The program that the timer starts.
    cridge: PathBuf,
}

/// What a switch is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// containerd's configuration.
    pub containerd: PathBuf,
    /// Whether there has to be a kubelet.
    pub kubelet: KubeletIs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeletIs {
    Needed,
    /// Not pointed anywhere, nor restarted.
    LeftAlone,
}

impl Node {
    /// This one.
    ///
    /// # Errors
    /// When this program does not know where it is.
    pub fn here() -> std::io::Result<Self> {
        let root = Path::new("/");
        Ok(Self { root: root.to_owned(), systemd: Systemd::of(root), cridge: std::env::current_exe()? })
    }

    fn record(&self) -> PathBuf {
        self.root.join(RECORD)
    }

    /// The timer may come while somebody is at it.
    async fn alone(&self) -> Result<File, SwitchError> {
        let path = self.root.join(LOCK);
        let folder = path.parent().expect("it has one");
        std::fs::create_dir_all(folder)
            .map_err(|source| SwitchError::Write { path: folder.to_owned(), source })?;
        let turn = async {
            loop {
                if let Some(held) = lock::try_exclusive(&path)? {
                    return Ok(held);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let held = tokio::time::timeout(TURN, turn).await;
        held.unwrap_or_else(|_| Err(SwitchError::Busy { path: path.clone(), patience: TURN }))
    }

    /// What a switch would change.
    ///
    /// # Errors
    /// When anything is in its way.
    pub async fn plan(&self, config: &Config, order: &Order) -> Result<Record, SwitchError> {
        if self.record().exists() {
            return Err(SwitchError::Switched { path: self.record() });
        }
        // These two say that there is something to switch.
        let due = [BUILT_IN, SWITCH];
        let report = check(config).await;
        let in_the_way = report.findings.iter().filter(|found| found.outcome == Outcome::Fail);
        let in_the_way: Vec<_> =
            in_the_way.filter(|found| !due.contains(&found.name)).map(|found| found.to_string()).collect();
        if !in_the_way.is_empty() {
            return Err(SwitchError::InTheWay { findings: in_the_way.join("\n") });
        }
        let containerd = Containerd::new(&config.containerd.socket, &config.containerd.namespace);
        let version = containerd.version().await.map_err(SwitchError::Containerd)?;
        let kubelet = match order.kubelet {
            KubeletIs::Needed => Some(kubelet::find(&self.root).ok_or(SwitchError::NoKubelet)?),
            KubeletIs::LeftAlone => None,
        };
        let units = ["containerd.service", "cridge.service"].into_iter();
        for unit in units.chain(kubelet.as_ref().map(|_| "kubelet.service")) {
            let there = self.systemd.run(&["cat", unit]).await;
            there.map_err(|error| SwitchError::NoUnit { unit, why: chain(&error) })?;
        }
        plan::switch(&Facts {
            root: self.root.clone(),
            containerd: order.containerd.clone(),
            major: version.number().0,
            cridge: config.listen.clone(),
            kubelet,
        })
    }

    /// Does what was planned; what fails is taken back at once.
    ///
    /// # Errors
    /// [`SwitchError::TakenBack`] with why.
    pub async fn switch(&self, plan: &Record, within: Duration) -> Result<(), SwitchError> {
        let _alone = self.alone().await?;
        plan.save(&self.record())?;
        match self.apply(plan, within).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.put_back(plan).await?;
                Err(SwitchError::TakenBack { why: chain(&error) })
            }
        }
    }

    async fn apply(&self, plan: &Record, within: Duration) -> Result<(), SwitchError> {
        self.systemd.arm(&self.cridge, within).await?;
        plan.changes.iter().try_for_each(record::Change::make)?;
        self.systemd.run(&["restart", "containerd.service"]).await?;
        self.systemd.run(&["enable", "cridge.service"]).await?;
        self.systemd.run(&["restart", "cridge.service"]).await?;
        if plan.kubelet {
            self.systemd.run(&["restart", "kubelet.service"]).await?;
        }
        Ok(())
    }

    /// The switch that can be taken back.
    ///
    /// # Errors
    /// [`SwitchError::NotSwitched`] where there is none.
    pub fn switched(&self) -> Result<Record, SwitchError> {
        Record::load(&self.record())
    }

    /// Takes a switch back. A step that fails does not keep the others.
    ///
    /// # Errors
    /// [`SwitchError::Partly`]; it can be repeated.
    pub async fn roll_back(&self) -> Result<(), SwitchError> {
        let _alone = self.alone().await?;
        self.put_back(&self.switched()?).await
    }

    async fn put_back(&self, record: &Record) -> Result<(), SwitchError> {
        let mut errors = Errors::default();
        for change in &record.changes {
            errors.keep(change.take_back(record));
        }
        errors.keep(self.systemd.run(&["disable", "--now", "cridge.service"]).await);
        errors.keep(self.systemd.run(&["restart", "containerd.service"]).await);
        if record.kubelet {
            errors.keep(self.systemd.run(&["restart", "kubelet.service"]).await);
        }
        // The timer as well: what did not work once is for somebody to look at.
        errors.keep(self.systemd.disarm().await);
        if !errors.is_empty() {
            return Err(SwitchError::Partly { errors });
        }
        let path = self.record();
        file::remove(&path).map_err(|source| SwitchError::Write { path, source })
    }

    /// Keeps a switch, if the node is well: what `cridge check` finds, and what the kubelet tells of itself. The record
    /// stays, for a rollback that somebody asks for.
    ///
    /// # Errors
    /// [`SwitchError::NotConfirmed`] with what is not well; the timer goes on.
    pub async fn confirm(&self, config: &Config) -> Result<(), SwitchError> {
        let _alone = self.alone().await?;
        let record = self.switched()?;
        let report = check(config).await;
        let is_well =
            |outcome: Outcome, name| outcome == Outcome::Ok || (outcome == Outcome::Warn && name != SWITCH);
        let unwell = report.findings.iter().find(|found| !is_well(found.outcome, found.name));
        if let Some(found) = unwell {
            return Err(SwitchError::NotConfirmed { why: found.to_string() });
        }
        if record.kubelet {
            health(HEALTH).await.map_err(|why| SwitchError::NotConfirmed { why })?;
        }
        self.systemd.disarm().await
    }
}

/// What the kubelet says of itself.
async fn health(address: &str) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(TELL, ask).await {
        Ok(Ok(answer)) if answer.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(Ok(answer)) => {
            Err(format!("the kubelet is not well: {}", answer.lines().next().unwrap_or("no answer")))
        }
        Ok(Err(error)) => Err(format!("the kubelet does not answer on {address}: {error}")),
        Err(_) => Err(format!("the kubelet does not answer on {address} within {TELL:?}")),
    }
}

#[cfg(test)]
mod tests;
