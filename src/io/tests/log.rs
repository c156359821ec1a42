//! What comes through the pipes is in the log, and a log that cannot be written holds nobody up.

use super::*;

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
    let io = ContainerIo::open(rig.fifos.clone(), target, Keeper::default()).unwrap();
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
    let io = ContainerIo::open(rig.fifos.clone(), target, Keeper::default()).unwrap();
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
    let io = ContainerIo::open(rig.fifos.clone(), LogTarget::Discard, Keeper::default()).unwrap();
    exit(rig.sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2")).await;
    assert!(io.drained(LONG).await);
    io.reopen_log().await.unwrap();
    assert_eq!((io.dropped(), io.fifos()), (0, &rig.fifos));
}
