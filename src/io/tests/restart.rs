//! Daemons that come and go while a container writes.

use super::*;

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
    let _io = ContainerIo::open(fifos, target, Keeper::default()).unwrap();
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
            .args(["--exact", "io::tests::restart::doomed_daemon", "--ignored"])
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
