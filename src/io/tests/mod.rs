//! With real FIFOs and processes, and a shim that, as runc's does, holds both ends of stdout and stderr.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

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
        let target = LogTarget::File { path: self.log.clone(), max_line: MAX_LINE };
        ContainerIo::open(self.fifos.clone(), target).unwrap()
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

#[tokio::test]
async fn both_streams_are_logged_in_order() {
    let rig = Rig::piped();
    let io = rig.open();
    let mut found = rig.run(&io, r"printf 'one\ntwo\r\nthree'; printf 'bad\n' >&2").await;
    found.sort_by_key(|line| line.0 != "stdout");
    let expected = [
        line("stdout", "F", b"one"),
        line("stdout", "F", b"two"),
        line("stdout", "P", b"three"),
        line("stderr", "F", b"bad"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_reader_that_is_early_sees_no_end() {
    let rig = Rig::piped();
    let io = rig.open();
    // Time in which a false end of file would be met.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.run(&io, "echo late").await, [line("stdout", "F", b"late")]);
}

#[tokio::test]
async fn a_task_that_never_started_is_drained_at_once() {
    let rig = Rig::piped();
    let io = rig.open();
    assert!(io.drained(LONG).await);
}

#[tokio::test]
async fn a_terminal_has_one_stream() {
    let rig = Rig::new(true, Stdin::None);
    let io = rig.open();
    let found = rig.run(&io, r"printf 'out\r\n'; printf 'err\r\n' >&2").await;
    assert_eq!(found, [line("stdout", "F", b"out"), line("stdout", "F", b"err")]);
}

#[tokio::test]
async fn bytes_that_are_not_text_are_kept() {
    let rig = Rig::piped();
    let io = rig.open();
    assert_eq!(rig.run(&io, r"printf '\377\000\200\n'").await, [line("stdout", "F", b"\xff\x00\x80")]);
}

#[tokio::test]
async fn a_long_line_is_split_at_the_limit() {
    let rig = Rig::piped();
    let io = rig.open();
    let found = rig.run(&io, "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo next").await;
    let (last, split) = found.split_last().unwrap();
    assert_eq!(*last, line("stdout", "F", b"next"));
    let sizes: Vec<_> = split.iter().map(|line| (line.1.as_str(), line.2.len())).collect();
    let mut expected = vec![("P", MAX_LINE); 1_000_000 / MAX_LINE];
    expected.push(("F", 1_000_000 % MAX_LINE));
    assert_eq!(sizes, expected);
}

#[tokio::test]
async fn a_burst_before_the_exit_is_all_logged() {
    const SIZE: usize = 50 << 20;
    let rig = Rig::piped();
    let io = rig.open();
    let text = "0123456789".repeat(9);
    let found = rig.run(&io, &format!("yes {text} | dd bs=1M count=50 iflag=fullblock status=none")).await;
    let (last, whole) = found.split_last().unwrap();
    assert!(whole.iter().all(|line| line.1 == "F" && line.2 == text.as_bytes()));
    assert_eq!(whole.len(), SIZE / (text.len() + 1));
    assert_eq!((last.1.as_str(), last.2.len()), ("P", SIZE % (text.len() + 1)));
}

#[tokio::test]
async fn a_writer_that_blocks_behind_an_unfinished_line_is_read() {
    let rig = Rig::piped();
    let io = rig.open();
    let script = "printf tail; sleep 0.3; head -c 3000000 /dev/zero | tr '\\0' '\\n' | dd bs=1000000 iflag=fullblock status=none";
    let found = rig.run(&io, script).await;
    assert_eq!(found[0], line("stdout", "F", b"tail"));
    assert_eq!(found.len(), 3_000_000);
}

#[tokio::test]
async fn a_limit_beyond_what_a_pipe_holds_blocks_nobody() {
    let rig = Rig::piped();
    let target = LogTarget::File { path: rig.log.clone(), max_line: 1 << 30 };
    let io = ContainerIo::open(rig.fifos.clone(), target).unwrap();
    let found = rig.run(&io, "head -c 1000000 /dev/zero | tr '\\0' x; echo").await;
    let (last, parts) = found.split_last().unwrap();
    assert!(parts.iter().all(|line| line.1 == "P") && last.1 == "F");
    assert_eq!(found.iter().map(|line| line.2.len()).sum::<usize>(), 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_and_doubles_nothing() {
    let rig = Rig::piped();
    let io = rig.open();
    let child = rig.count();
    let mut logs = Vec::new();
    for rotation in 0..50 {
        rig.grown().await;
        let rotated = rig.log.with_extension(format!("{rotation:04}"));
        fs::rename(&rig.log, &rotated).unwrap();
        io.reopen_log().await.unwrap();
        logs.push(rotated);
    }
    let last = rig.stop(child).await;
    assert!(io.drained(LONG).await);
    logs.push(rig.log.clone());
    assert_counted(&logs, last);
}

#[tokio::test]
async fn a_restart_under_load_loses_and_doubles_nothing() {
    let rig = Rig::piped();
    let mut io = rig.open();
    let shim = rig.shim();
    let child = rig.count();
    for _ in 0..50 {
        rig.grown().await;
        drop(io);
        tokio::task::yield_now().await;
        io = rig.open();
    }
    let last = rig.stop(child).await;
    drop(shim);
    assert!(io.drained(LONG).await);
    assert_counted(std::slice::from_ref(&rig.log), last);
}

#[tokio::test]
async fn an_unfinished_line_outlives_a_restart() {
    let rig = Rig::piped();
    let io = rig.open();
    let shim = rig.shim();
    exit(rig.sh("printf 'begin'")).await;
    // Time in which the first daemon meets it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(io);
    let io = rig.open();
    exit(rig.sh("echo ' and end'")).await;
    drop(shim);
    assert!(io.drained(LONG).await);
    assert_eq!(lines(&rig.log), [line("stdout", "F", b"begin and end")]);
}

/// A daemon that is killed; run by the test below, in a process of its own.
#[tokio::test]
#[ignore = "does nothing by itself"]
async fn doomed_daemon() {
    let Ok(dir) = std::env::var(DOOMED) else { return };
    let at = |stream: &str| Some(fs::read_to_string(Path::new(&dir).join(stream)).unwrap().into());
    let fifos = Fifos::from_task(None, at("stdout"), at("stderr"), false);
    let target = LogTarget::File { path: Path::new(&dir).join("logs/0.log"), max_line: MAX_LINE };
    let _io = ContainerIo::open(fifos, target).unwrap();
    std::future::pending::<()>().await;
}

const DOOMED: &str = "CRIDGE_DOOMED_DAEMON";

#[tokio::test]
async fn daemons_that_are_killed_lose_nothing() {
    const KILLS: usize = 10;
    let rig = Rig::piped();
    for (name, path) in [("stdout", &rig.fifos.stdout), ("stderr", &rig.fifos.stderr)] {
        fs::write(rig.dir.path().join(name), path.as_ref().unwrap().to_str().unwrap()).unwrap();
    }
    fs::create_dir(rig.log.parent().unwrap()).unwrap();
    fs::write(&rig.log, "").unwrap();
    let shim = rig.shim();
    let child = rig.count();
    for _ in 0..KILLS {
        let mut daemon = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::tests::doomed_daemon", "--ignored"])
            .env(DOOMED, rig.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        rig.grown().await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    let io = rig.open();
    let last = rig.stop(child).await;
    drop(shim);
    assert!(io.drained(LONG).await);

    // Lines may be torn or repeated where a daemon was killed, but for one look at most.
    let (mut next, mut repeated) = (1, 0);
    for found in fs::read(&rig.log).unwrap().split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(found);
        let Some(number) = text.split_once(" stdout F ").and_then(|(_, n)| n.parse::<usize>().ok()) else {
            continue;
        };
        if number == next {
            next += 1;
        } else {
            assert!(number < next, "{next} is missing");
            repeated += 1;
        }
    }
    assert_eq!(next - 1, last);
    assert!(repeated <= KILLS * source::LOOK / "1\n".len(), "{repeated} repeated");
}

#[tokio::test]
async fn what_was_written_while_no_daemon_ran_is_logged() {
    let rig = Rig::piped();
    let shim = rig.shim();
    exit(rig.sh("echo alone")).await;
    let io = rig.open();
    until(|| fs::metadata(&rig.log).unwrap().len() > 0).await;
    drop(shim);
    assert!(io.drained(LONG).await);
    assert_eq!(lines(&rig.log), [line("stdout", "F", b"alone")]);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
    let rig = Rig::piped();
    let io = rig.open();
    let mut child = rig.sh("echo $$; exec sleep 1000");
    until(|| fs::metadata(&rig.log).unwrap().len() > 0).await;
    assert!(!io.drained(Duration::from_millis(100)).await);
    assert_eq!(lines(&rig.log), [line("stdout", "F", child.id().to_string().as_bytes())]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(io.drained(LONG).await);
}

#[tokio::test]
async fn a_log_that_stays_full_does_not_hold_the_container() {
    let rig = Rig::piped();
    let target = LogTarget::File { path: "/dev/full".into(), max_line: MAX_LINE };
    let io = ContainerIo::open(rig.fifos.clone(), target).unwrap();
    exit(rig.sh("head -c 1000000 /dev/zero | tr '\\0' '\\n'")).await;
    assert!(io.drained(LONG).await);
    assert_eq!(io.dropped(), 1_000_000);
}

/// A file system of its own, which is full soon. Mounted privately: this machine's root does not share its mounts.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=1m", "small"];
        let mounted = Command::new("mount").args(options).arg(&path).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while_costs_nothing() {
    let mut rig = Rig::piped();
    let Some(disk) = SmallDisk::mount(rig.dir.path().join("disk")) else {
        eprintln!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    rig.log = disk.0.join("0.log");
    let io = rig.open();
    let child = rig.count();
    let mut logs = Vec::new();
    for rotation in 0..5 {
        rig.stuck().await;
        if rotation == 4 {
            // It blocks now, and what it has yet to write fits once there is room.
            rig.tell_to_stop();
        }
        let (rotated, kept) = (disk.0.join("0.log.1"), rig.dir.path().join(logs.len().to_string()));
        fs::rename(&rig.log, &rotated).unwrap();
        io.reopen_log().await.unwrap();
        fs::copy(&rotated, &kept).unwrap();
        fs::remove_file(&rotated).unwrap();
        logs.push(kept);
    }
    let last = rig.stop(child).await;
    assert!(io.drained(LONG).await);
    assert_eq!(io.dropped(), 0);
    logs.push(rig.log.clone());
    assert_counted(&logs, last);
}

#[tokio::test]
async fn without_a_log_output_is_read_and_dropped() {
    let rig = Rig::piped();
    let io = ContainerIo::open(rig.fifos.clone(), LogTarget::Discard).unwrap();
    exit(rig.sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2")).await;
    assert!(io.drained(LONG).await);
    io.reopen_log().await.unwrap();
    assert_eq!((io.dropped(), io.fifos()), (0, &rig.fifos));
}

#[tokio::test]
async fn standard_input_stays_open_until_the_daemon_lets_go() {
    let rig = Rig::new(false, Stdin::Open);
    let io = rig.open();
    let stdin = File::open(rig.fifos.stdin.as_ref().unwrap()).unwrap();
    let mut child = Command::new("cat").stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    let mut write = File::options().write(true).open(rig.fifos.stdin.as_ref().unwrap()).unwrap();
    write.write_all(b"typed").unwrap();
    drop(write);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(child.try_wait().unwrap().is_none(), "end of file came while the daemon holds its end");
    drop(io);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.stdout, b"typed");
}

#[tokio::test]
async fn dropping_it_closes_every_descriptor() {
    let rig = Rig::new(false, Stdin::Open);
    let open_here = || {
        let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).filter(|to| to.starts_with(rig.dir.path())).count()
    };
    let io = rig.open();
    assert_eq!(open_here(), 4, "stdin, stdout, stderr and the log");
    drop(io);
    until(|| open_here() == 0).await;
}

#[test]
fn fifos_are_found_again_by_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let of = |id: &str, stdin| Fifos::create(dir.path(), id, false, stdin).unwrap();
    let mut made = [("a".to_owned(), of("a", Stdin::Open)), ("b-c".to_owned(), of("b-c", Stdin::None))];
    std::fs::write(dir.path().join("neither"), "").unwrap();
    let mut found = Fifos::all_in(dir.path());
    found.sort_by(|one, other| one.0.cmp(&other.0));
    made.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found, made);
    assert_eq!(Fifos::all_in(&dir.path().join("nothing")), []);
}

#[test]
fn what_is_no_fifo_is_not_opened() {
    let rig = Rig::piped();
    let file = rig.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let fifos = Fifos { stdout: Some(file), ..rig.fifos.clone() };
    let error = ContainerIo::open(fifos, LogTarget::Discard).unwrap_err();
    assert!(error.to_string().starts_with("cannot open FIFO"), "{error}");
}

#[tokio::test]
async fn an_execs_output_is_kept_up_to_its_bound() {
    let rig = Rig::piped();
    let capture = Capture::open(rig.fifos.clone(), 100_000).unwrap();
    exit(rig.sh("head -c 1000000 /dev/zero; printf 'why\\377' >&2")).await;
    let captured = capture.finish(LONG).await;
    assert_eq!(captured.stdout, vec![0; 100_000]);
    assert_eq!(captured.stderr, b"why\xff");
}

#[tokio::test]
async fn an_exec_that_never_started_gives_nothing_at_once() {
    let rig = Rig::piped();
    let capture = Capture::open(rig.fifos.clone(), 100).unwrap();
    assert_eq!(capture.finish(LONG).await, Captured::default());
}

#[tokio::test]
async fn an_execs_grandchild_does_not_keep_its_output_back() {
    let rig = Rig::piped();
    let capture = Capture::open(rig.fifos.clone(), 100).unwrap();
    let said = rig.dir.path().join("said");
    let mut child = rig.sh(&format!("echo said; touch {}; exec sleep 1000", said.display()));
    until(|| said.exists()).await;
    let captured = capture.finish(Duration::from_millis(300)).await;
    assert_eq!(captured, Captured { stdout: b"said\n".to_vec(), stderr: Vec::new() });
    child.kill().unwrap();
    child.wait().unwrap();
}
