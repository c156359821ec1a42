//! With real FIFOs and processes, and a shim that, as runc's does, holds both ends of stdout and stderr.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

mod kept;
mod log;
mod restart;
mod streams;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);
const MAX_LINE: usize = 16 * 1024;

/// A container's folder, FIFOs and log.
struct Rig {
    dir: TempDir,
    fifos: Fifos,
    log: PathBuf,
}

/// What keeps the FIFOs alive while no process and no daemon has them open.
struct Shim {
    _held: Vec<File>,
}

impl Rig {
    fn new(terminal: bool, stdin: Stdin) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifos = Fifos::create(&dir.path().join("io"), "c", terminal, stdin).unwrap();
        let log = dir.path().join("logs/0.log");
        Self { dir, fifos, log }
    }

    fn piped() -> Self {
        Self::new(false, Stdin::None)
    }

    fn open(&self) -> ContainerIo {
        self.open_with(Keeper::default())
    }

    fn open_with(&self, keeper: Keeper) -> ContainerIo {
        let target = LogTarget::File { path: self.log.clone(), max_line: MAX_LINE };
        ContainerIo::open(self.fifos.clone(), target, keeper).unwrap()
    }

    fn shim(&self) -> Shim {
        let both = |path: &PathBuf| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let paths = [&self.fifos.stdout, &self.fifos.stderr];
        Shim { _held: paths.into_iter().flatten().map(both).collect() }
    }

    fn sh(&self, script: &str) -> Child {
        let write =
            |path: &Option<PathBuf>| File::options().write(true).open(path.as_ref().unwrap()).unwrap();
        let stdout = write(&self.fifos.stdout);
        let stderr = if self.fifos.terminal {
            Stdio::from(stdout.try_clone().unwrap())
        } else {
            write(&self.fifos.stderr).into()
        };
        Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap()
    }

    /// Counts on stdout, a thousand lines at a time, until [`Rig::stop`].
    fn count(&self) -> Child {
        let stop = self.dir.path().join("stop");
        let each = "seq $((n + 1)) $((n + 1000)); n=$((n + 1000))";
        let stop = stop.display();
        self.sh(&format!("n=0; while [ ! -e {stop} ]; do {each}; done; echo $n > {stop}"))
    }

    /// Ends the counting; returns how far it came.
    async fn stop(&self, child: Child) -> usize {
        self.tell_to_stop();
        exit(child).await;
        fs::read_to_string(self.dir.path().join("stop")).unwrap().trim().parse().unwrap()
    }

    fn tell_to_stop(&self) {
        let stop = self.dir.path().join("stop");
        File::options().create(true).append(true).open(stop).unwrap();
    }

    /// Waits until the log has something in it and grows no more.
    async fn stuck(&self) {
        let mut sizes = [0, 0, 0];
        while sizes[2] == 0 || sizes[0] != sizes[2] {
            tokio::time::sleep(Duration::from_millis(150)).await;
            sizes = [sizes[1], sizes[2], fs::metadata(&self.log).unwrap().len()];
        }
    }

    /// Waits until the log has more in it than now.
    async fn grown(&self) {
        let size = || fs::metadata(&self.log).unwrap().len();
        let before = size();
        until(|| size() > before).await;
    }

    /// Runs the script to its end, with all output in the log.
    async fn run(&self, io: &ContainerIo, script: &str) -> Vec<Line> {
        let child = self.sh(script);
        exit(child).await;
        assert!(io.drained(LONG).await);
        lines(&self.log)
    }
}

async fn exit(mut child: Child) {
    assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());
}

async fn until(mut what: impl FnMut() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("it never came");
}

/// A line of a log: stream, tag, text.
#[derive(Clone, PartialEq, Eq)]
struct Line(String, String, Vec<u8>);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.0, self.1, String::from_utf8_lossy(&self.2))
    }
}

fn line(stream: &str, tag: &str, text: &[u8]) -> Line {
    Line(stream.into(), tag.into(), text.into())
}

fn lines(log: &Path) -> Vec<Line> {
    let bytes = fs::read(log).unwrap();
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"));
    let mut times = [("stdout", String::new()), ("stderr", String::new())];
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let mut parts = line[..line.len() - 1].splitn(4, |byte| *byte == b' ');
        let mut word = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
        let (time, stream, tag) = (word(), word(), word());
        assert!(humantime::parse_rfc3339(&time).is_ok(), "{time}");
        let last = times.iter_mut().find(|(name, _)| *name == stream).unwrap();
        assert!(last.1 <= time, "time goes back");
        last.1 = time;
        Line(stream, tag, parts.next().unwrap().to_vec())
    });
    lines.collect()
}

/// Asserts that the logs hold 1, 2, … `last` on stdout, each once and in order.
fn assert_counted(logs: &[PathBuf], last: usize) {
    let all = logs.iter().flat_map(|log| lines(log));
    let mut next = 1;
    for found in all {
        assert_eq!(found, line("stdout", "F", next.to_string().as_bytes()));
        next += 1;
    }
    assert_eq!(next - 1, last);
}
