//! FIFOs, standard input, and the output of commands.

use super::*;

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
    let error = ContainerIo::open(fifos, LogTarget::Discard, Keeper::default()).unwrap_err();
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

#[tokio::test]
async fn a_process_input_waits_for_its_reader() {
    let rig = Rig::new(false, Stdin::Open);
    let path = rig.fifos.stdin.clone().unwrap();
    let opening = tokio::spawn({
        let path = path.clone();
        async move { Inflow::open(&path).await.unwrap().write(b"said").await.unwrap() }
    });
    // Several tries of it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!opening.is_finished(), "nobody reads yet");
    let read = tokio::task::spawn_blocking(move || fs::read(path).unwrap());
    opening.await.unwrap();
    assert_eq!(read.await.unwrap(), b"said");
}
