//! What a daemon costs, as the kernel counts it (proc(5)).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::side::Side;
use crate::table::{Row, Table, Unit};

/// USER_HZ is 100 on every Linux that containerd runs on.
const MILLISECONDS_PER_TICK: u64 = 10;

pub struct Daemon {
    pub name: &'static str,
    pid: u32,
    pid_file: PathBuf,
    /// Once it has been started anew.
    child: Option<Child>,
}

/// Memory in KiB.
struct Memory {
    resident: f64,
    /// What is shared counts in parts.
    proportional: f64,
}

/// Processor time.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// The daemon's own.
    pub own: Duration,
    /// With that of the children that it waited for: CNI plugins.
    pub with_children: Duration,
}

impl Daemon {
    pub fn of_pid_file(name: &'static str, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("no pid in {}", path.display()))?;
        Ok(Self { name, pid, pid_file: path.to_owned(), child: None })
    }

    /// Ends it by that signal, and starts it as it was started before; returns when it has been started.
    pub async fn start_anew(&mut self, signal: Signal) -> Result<()> {
        let words = |text: String| text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>();
        let command = words(self.read("cmdline")?);
        let variables = words(self.read("environ")?);
        let pid = Pid::from_raw(self.pid as i32).context("no pid")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        while self.runs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let log =
            File::options().append(true).open(self.pid_file.with_extension("log")).context("its log")?;
        let child = Command::new(&command[0])
            .args(&command[1..])
            .env_clear()
            .envs(variables.iter().filter_map(|variable| variable.split_once('=')))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {} again", self.name))?;
        self.pid = child.id();
        self.child = Some(child);
        // Whoever clears up reads it there.
        fs::write(&self.pid_file, self.pid.to_string()).context("its pid file")
    }

    /// One that nobody has waited for has ended all the same.
    fn runs(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            return child.try_wait().is_ok_and(|ended| ended.is_none());
        }
        self.read("stat").is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("{} is gone: cannot read {path}", self.name))
    }

    fn memory(&self) -> Result<Memory> {
        let rollup = self.read("smaps_rollup")?;
        let field = |name: &str| -> Result<f64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.with_context(|| format!("no {name} in smaps_rollup"))?.parse().context("not a number")
        };
        Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")? })
    }

    fn spent(&self) -> Result<Spent> {
        let stat = self.read("stat")?;
        // The name, in parentheses, may hold blanks; utime is the twelfth word behind it.
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| -> Result<u64> { words.get(n).context("too short")?.parse().context("stat") };
        let time = |ticks: u64| Duration::from_millis(ticks * MILLISECONDS_PER_TICK);
        let own = time(ticks(11)? + ticks(12)?);
        Ok(Spent { own, with_children: own + time(ticks(13)? + ticks(14)?) })
    }
}

/// Of all daemons of a side together.
pub fn spent(side: &Side) -> Result<Spent> {
    let each: Vec<Spent> = side.daemons.iter().map(Daemon::spent).collect::<Result<_>>()?;
    Ok(Spent {
        own: each.iter().map(|spent| spent.own).sum(),
        with_children: each.iter().map(|spent| spent.with_children).sum(),
    })
}

/// Memory of every daemon now, as rows of the table.
pub fn memory(sides: &[Side; 2], when: &str, table: &mut Table) -> Result<()> {
    let of = |daemon: &Daemon| daemon.memory();
    let builtin = of(&sides[0].daemons[0])?;
    let (containerd, cridge) = (of(&sides[1].daemons[0])?, of(&sides[1].daemons[1])?);
    let mut row = |name: &str, builtin: Option<f64>, cridge: f64| {
        let mut row = Row::new(format!("{name}, {when}"), Unit::Mebibytes);
        row.samples = [builtin.into_iter().collect(), vec![cridge]];
        for samples in &mut row.samples {
            samples.iter_mut().for_each(|kib| *kib /= 1024.0);
        }
        table.push(row);
    };
    row("RSS of containerd", Some(builtin.resident), containerd.resident);
    row("RSS of cridge", None, cridge.resident);
    row("PSS of all daemons", Some(builtin.proportional), containerd.proportional + cridge.proportional);
    Ok(())
}
