//! Runs one plugin: configuration on stdin, the call in the environment, an answer on stdout.
//!
//! A plugin has a process group of its own, a deadline, and bounds on what it may say. Whatever ends the call early
//! (the deadline, a dropped future) kills the group before its leader's pid can be used again.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::error::{Call, NetworkError, PluginSaid};
use crate::linux::lock;

/// Bytes of a result that are taken; real ones have one KB.
const MAX_STDOUT: usize = 1 << 20;
/// Bytes of a plugin's complaints that are kept.
const MAX_STDERR: usize = 16 << 10;
/// Characters of a plugin's own words in an error.
const MAX_SAID: usize = 1000;
/// How long output may trickle on after the plugin's end, from processes that it left behind.
const DRAIN: Duration = Duration::from_millis(200);
/// A plugin that is just being replaced cannot be run for a moment (ETXTBSY).
const BUSY_RETRIES: usize = 5;
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// Variables by which systemd speaks to this daemon alone.
const NOT_FOR_PLUGINS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How plugins are found and run.
#[derive(Clone, Debug)]
pub(super) struct Runner<'a> {
    pub dirs: &'a [PathBuf],
    pub deadline: Duration,
    /// Inherited by the plugin.
    pub lock: Option<Arc<File>>,
}

/// What the environment of a call says beside the command; empty for STATUS.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment<'a> {
    pub container_id: &'a str,
    pub netns: Option<&'a Path>,
    pub if_name: &'a str,
    pub args: &'a [(String, String)],
}

impl Runner<'_> {
    /// Where the program of a plugin is.
    pub fn find(&self, call: &Call) -> Result<PathBuf, NetworkError> {
        let candidates = self.dirs.iter().map(|dir| dir.join(&call.plugin));
        candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| NetworkError::PluginMissing {
            network: call.network.clone(),
            plugin: call.plugin.clone(),
            dirs: self.dirs.to_vec(),
        })
    }

    /// Runs the plugin to its end and gives what it printed.
    pub async fn run(
        &self,
        call: &Call,
        env: &Environment<'_>,
        stdin: &[u8],
    ) -> Result<Vec<u8>, NetworkError> {
        let program = self.find(call)?;
        let began = Instant::now();
        let mut running = self.start(call, &program, env).await?;
        let ended = timeout(self.deadline, running.talk(stdin)).await;
        tracing::debug!(call = %call, took = ?began.elapsed(), "CNI plugin ended");
        match ended {
            Ok(Ok(output)) => output.answer(call),
            Ok(Err(source)) => Err(NetworkError::Start { call: call.clone(), source }),
            Err(_) => Err(NetworkError::Timeout { call: call.clone(), after: self.deadline }),
        }
    }

    async fn start(
        &self,
        call: &Call,
        program: &Path,
        env: &Environment<'_>,
    ) -> Result<Running, NetworkError> {
        let mut tries = 0;
        loop {
            match self.command(call, program, env).spawn() {
                Ok(child) => return Ok(Running { child: Some(child) }),
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES => {
                    tries += 1;
                    sleep(BUSY_WAIT).await;
                }
                Err(source) => return Err(NetworkError::Start { call: call.clone(), source }),
            }
        }
    }

    fn command(&self, call: &Call, program: &Path, env: &Environment<'_>) -> Command {
        let mut command = std::process::Command::new(program);
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in NOT_FOR_PLUGINS {
            command.env_remove(name);
        }
        let args: Vec<String> = env.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        command
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", env.container_id)
            .env("CNI_NETNS", env.netns.unwrap_or(Path::new("")))
            .env("CNI_IFNAME", env.if_name)
            .env("CNI_ARGS", args.join(";"))
            .env("CNI_PATH", self.path_variable());
        if let Some(lock) = &self.lock {
            lock::inherit(&mut command, lock.clone());
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    fn path_variable(&self) -> OsString {
        self.dirs.iter().map(|dir| dir.as_os_str()).collect::<Vec<_>>().join(std::ffi::OsStr::new(":"))
    }
}

/// A plugin at work; dropped, it dies with its group.
struct Running {
    /// Taken when the plugin has ended.
    child: Option<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not waited for yet, so the pid is still this child's, and its group's.
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            // Nothing can be done about a group that is gone already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Running {
    async fn talk(&mut self, input: &[u8]) -> io::Result<Output> {
        let Some(child) = self.child.as_mut() else { return Err(io::Error::other("asked twice")) };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Bounded::new(MAX_STDOUT), Bounded::new(MAX_STDERR));
        let status = {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A plugin need not read its input to the end.
                    let _ = stdin.write_all(input).await;
                }
            };
            let speak = async { tokio::join!(feed, out.fill(stdout), err.fill(stderr)) };
            tokio::pin!(speak);
            tokio::select! {
                _ = &mut speak => child.wait().await?,
                status = child.wait() => {
                    let _ = timeout(DRAIN, &mut speak).await;
                    status?
                }
            }
        };
        self.child = None;
        Ok(Output { status, stdout: out, stderr: err })
    }
}

/// The first bytes of a stream, which is read to its end.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
    exceeded: bool,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, exceeded: false }
    }

    async fn fill(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let room = self.max - self.bytes.len();
            self.exceeded |= read > room;
            self.bytes.extend_from_slice(&buffer[..read.min(room)]);
        }
    }
}

struct Output {
    status: ExitStatus,
    stdout: Bounded,
    stderr: Bounded,
}

impl Output {
    fn answer(self, call: &Call) -> Result<Vec<u8>, NetworkError> {
        if !self.status.success() {
            return Err(NetworkError::Plugin { call: call.clone(), said: self.complaint() });
        }
        if !self.stderr.bytes.is_empty() {
            tracing::debug!(call = %call, "CNI plugin said: {}", clip(&self.stderr.bytes));
        }
        if self.stdout.exceeded {
            let reason = format!("more than {MAX_STDOUT} bytes");
            return Err(NetworkError::BadResult { call: call.clone(), reason });
        }
        Ok(self.stdout.bytes)
    }

    /// The error that a plugin prints on stdout (CNI spec, "Error"), or else whatever it said.
    fn complaint(&self) -> PluginSaid {
        #[derive(Deserialize)]
        struct ErrorJson {
            #[serde(default)]
            code: u64,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        if let Ok(error) = serde_json::from_slice::<ErrorJson>(&self.stdout.bytes)
            && !(error.msg.is_empty() && error.details.is_empty())
        {
            let parts: Vec<&str> =
                [&*error.msg, &*error.details].into_iter().filter(|t| !t.is_empty()).collect();
            return PluginSaid { code: error.code, text: clip(parts.join("; ").as_bytes()) };
        }
        let spoken = [&self.stderr.bytes, &self.stdout.bytes].into_iter().find(|bytes| !bytes.is_empty());
        let text = match spoken {
            Some(bytes) => format!("{} without a CNI error: {}", self.status, clip(bytes)),
            None => format!("{} without a word", self.status),
        };
        PluginSaid { code: 0, text }
    }
}

fn clip(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    match text.char_indices().nth(MAX_SAID) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
