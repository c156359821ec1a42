//! systemd, by its own program: units that are started and stopped, and the timer that takes a switch back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::SwitchError;
use super::record::write;
use crate::linux::file;

/// How long a unit may take to start or stop: more than any unit of a node is given.
const PATIENCE: Duration = Duration::from_secs(300);
const TIMER: &str = "cridge-rollback.timer";
const SERVICE: &str = "cridge-rollback.service";

/// The service manager of the node below a root.
#[derive(Clone, Debug)]
pub struct Systemd {
    pub program: PathBuf,
    pub units: PathBuf,
}

impl Systemd {
    pub fn of(root: &Path) -> Self {
        Self { program: "systemctl".into(), units: root.join("etc/systemd/system") }
    }

    /// # Errors
    /// With what it said, where it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<(), SwitchError> {
        let command = format!("systemctl {}", arguments.join(" "));
        let process =
            Command::new(&self.program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, process)
            .await
            .map_err(|_| SwitchError::Late { command: command.clone(), patience: PATIENCE })?
            .map_err(|source| SwitchError::Start { program: self.program.display().to_string(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        Err(SwitchError::Command { command, told })
    }

    /// Has `cridge`, a program, take the switch back after so long: from now, and from the start of a machine that went
    /// down meanwhile.
    pub async fn arm(&self, cridge: &Path, after: Duration) -> Result<(), SwitchError> {
        let (service, timer) = units(cridge, after);
        write(&self.units.join(SERVICE), &service, 0o644)?;
        write(&self.units.join(TIMER), &timer, 0o644)?;
        self.run(&["daemon-reload"]).await?;
        self.run(&["enable", "--now", TIMER]).await
    }

    pub async fn disarm(&self) -> Result<(), SwitchError> {
        if self.units.join(TIMER).exists() {
            self.run(&["disable", "--now", TIMER]).await?;
        }
        for unit in [TIMER, SERVICE] {
            let path = self.units.join(unit);
            file::remove(&path).map_err(|source| SwitchError::Write { path: path.clone(), source })?;
        }
        self.run(&["daemon-reload"]).await
    }
}

fn units(cridge: &Path, after: Duration) -> (String, String) {
    let seconds = after.as_secs();
    (
        format!(
            "[Unit]\n\
             Description=Take this node back from cridge\n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart={} node rollback --apply\n",
            cridge.display()
        ),
        format!(
            "[Unit]\n\
             Description=Take this node back from cridge unless that is confirmed\n\
             [Timer]\n\
             OnActiveSec={seconds}\n\
             AccuracySec=1\n\
             [Install]\n\
             WantedBy=timers.target\n"
        ),
    )
}
