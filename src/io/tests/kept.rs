//! Ends of FIFOs that outlive the daemon, in the hands of a service manager.

use super::*;
use crate::linux::fdstore::tests::Manager;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn keeper(manager: &Manager) -> Keeper {
    Keeper::new(manager.store(), ID)
}

#[tokio::test]
async fn the_last_words_outlive_the_shim_and_the_daemon() {
    let rig = Rig::piped();
    let mut manager = Manager::new();
    let io = rig.open_with(keeper(&manager));
    for stream in ["stdout", "stderr"] {
        assert!(manager.hears().await.ends_with(&format!("\nFDNAME=0123456789abcdef-{stream}\n")));
    }
    let shim = rig.shim();
    exit(rig.sh("echo first")).await;
    until(|| fs::metadata(&rig.log).unwrap().len() > 0).await;
    io.leave().await;
    exit(rig.sh("printf 'last\\nwords'")).await;
    drop(shim);

    let next = keeper(&manager);
    let paths = [&rig.fifos.stdout, &rig.fifos.stderr];
    let found = next.fifos(false).unwrap();
    assert_eq!([&found.stdout, &found.stderr, &found.stdin], [paths[0], paths[1], &None]);
    let io = rig.open_with(next.clone());
    assert!(io.drained(LONG).await);
    let expected =
        [line("stdout", "F", b"first"), line("stdout", "F", b"last"), line("stdout", "P", b"words")];
    assert_eq!(lines(&rig.log), expected);
    next.forget_all();
    for _ in 0..2 {
        assert!(manager.hears().await.starts_with("FDSTOREREMOVE=1\n"));
    }
    assert_eq!(keeper(&manager).fifos(false), None);
}

#[tokio::test]
async fn without_a_keeper_they_go_with_the_shim() {
    let rig = Rig::piped();
    let io = rig.open();
    let shim = rig.shim();
    io.leave().await;
    exit(rig.sh("echo last words")).await;
    drop(shim);
    let io = rig.open();
    assert!(io.drained(LONG).await);
    assert_eq!(lines(&rig.log), []);
}

#[tokio::test]
async fn a_standard_input_outlives_the_daemon_and_ends_when_it_is_let_go() {
    let rig = Rig::new(false, Stdin::Open);
    let mut manager = Manager::new();
    let io = rig.open_with(keeper(&manager));
    for _ in 0..3 {
        manager.hears().await;
    }
    let stdin = File::open(rig.fifos.stdin.as_ref().unwrap()).unwrap();
    let mut child = Command::new("cat").stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    io.leave().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(child.try_wait().unwrap().is_none(), "end of file came with the daemon's end");

    let mut io = rig.open_with(keeper(&manager));
    io.stdin().unwrap().unwrap().write(b"typed").await.unwrap();
    io.close_stdin();
    assert_eq!(manager.hears().await, "FDSTOREREMOVE=1\nFDNAME=0123456789abcdef-stdin\n");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.stdout, b"typed");
}

#[tokio::test]
async fn an_end_of_another_fifo_is_not_taken_for_this_ones() {
    let (before, rig) = (Rig::piped(), Rig::piped());
    let mut manager = Manager::new();
    drop(before.open_with(keeper(&manager)));
    for _ in 0..2 {
        manager.hears().await;
    }
    let io = rig.open_with(keeper(&manager));
    for _ in 0..2 {
        assert!(manager.hears().await.starts_with("FDSTOREREMOVE=1\n"));
        assert!(manager.hears().await.starts_with("FDSTORE=1\n"));
    }
    assert_eq!(rig.run(&io, "echo here").await, [line("stdout", "F", b"here")]);
    assert_eq!(keeper(&manager).fifos(false).unwrap().stdout, rig.fifos.stdout);
}

#[tokio::test]
async fn a_daemon_that_leaves_makes_room() {
    let rig = Rig::piped();
    let io = rig.open();
    let shim = rig.shim();
    io.leave().await;
    let most: usize = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap().trim().parse().unwrap();
    // Not all of it: pages of a pipe may stay half empty. Were there no more room than usual, it would wait for ever.
    let much = most / 2;
    exit(rig.sh(&format!("head -c {much} /dev/zero | tr '\\0' '\\n'"))).await;
    let io = rig.open();
    until(|| fs::metadata(&rig.log).unwrap().len() > 0).await;
    drop(shim);
    assert!(io.drained(LONG).await);
    assert_eq!(lines(&rig.log).len(), much);
}
