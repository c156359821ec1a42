//! A private containerd on a node of its own, for any test that brings up its own. Each uses what it needs of it.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// Obeys one word a line, and says so; ends with its input.
const KEEPER: &str = r#"
while read -r word; do
    case $word in
        up) hack/lab containerd-up "$1" "$2" >&2 ;;
        kill)
            pid=$(cat "$1/containerd.pid")
            kill -KILL "$pid"
            while kill -0 "$pid" 2>/dev/null && [ "$(ps -o stat= -p "$pid" | cut -c 1)" != Z ]; do sleep 0.02; done
            rm -f "$1/containerd.pid"
            ;;
    esac && echo "$word"
done
hack/lab containerd-down "$1" >&2
"#;

pub struct Node {
    pub release: String,
    dir: tempfile::TempDir,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    process: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Node {
    /// Starts the release on a node of its own.
    pub fn up(release: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("cridge.").tempdir().expect("a folder");
        let mut process = Command::new("hack/ns")
            .args(["bash", "-c", KEEPER, "keeper"])
            .arg(dir.path())
            .arg(release)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hack/ns starts");
        let words = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let node =
            Self { release: release.into(), dir, keeper: Mutex::new(Keeper { process, words, answers }) };
        node.order("up");
        node
    }

    /// Starts the daemon again on what it left.
    pub fn restart(&self) {
        self.order("up");
    }

    /// Ends the daemon without warning; shims live on.
    pub fn kill(&self) {
        self.order("kill");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    pub fn is_1_6(&self) -> bool {
        self.release == "1.6"
    }

    pub fn is_2(&self) -> bool {
        self.release.starts_with('2')
    }

    fn order(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.words.as_mut().expect("it is not dropped"), "{word}").expect("the keeper lives");
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).expect("the keeper answers");
        assert_eq!(answer.trim(), word, "containerd {}", self.release);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        keeper.words = None;
        let _ = keeper.process.wait();
    }
}

/// Awaits what must come, and fails where it does not.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it comes within 30 s")
}
