use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A plugin folder with one shell script, `stub`.
fn stub(body: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stub");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{body}\n", dir.path().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn call() -> Call {
    Call { command: "ADD", plugin: "stub".into(), network: "net".into() }
}

async fn run_with(dir: &Path, deadline: Duration, stdin: &[u8]) -> Result<Vec<u8>, NetworkError> {
    let dirs = [PathBuf::from("/nonexistent"), dir.to_owned()];
    let args = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
    let env = Environment { container_id: "c1", netns: Some(Path::new("/ns")), if_name: "eth0", args: &args };
    Runner { dirs: &dirs, deadline, lock: None }.run(&call(), &env, stdin).await
}

async fn run(body: &str) -> Result<Vec<u8>, NetworkError> {
    run_with(stub(body).path(), Duration::from_secs(60), b"{}").await
}

fn said(outcome: Result<Vec<u8>, NetworkError>) -> PluginSaid {
    match outcome.unwrap_err() {
        NetworkError::Plugin { said, .. } => said,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_gets_the_call_and_its_configuration() {
    let dir = stub("cat >stdin; env | grep ^CNI_ | sort");
    let printed = run_with(dir.path(), Duration::from_secs(60), b"{\"name\":1}").await.unwrap();
    assert_eq!(fs::read(dir.path().join("stdin")).unwrap(), b"{\"name\":1}");
    let expected = format!(
        "CNI_ARGS=A=1;B=2\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\nCNI_NETNS=/ns\n\
         CNI_PATH=/nonexistent:{}\n",
        dir.path().display()
    );
    assert_eq!(String::from_utf8(printed).unwrap(), expected);
}

#[tokio::test]
async fn an_error_is_told_in_the_plugins_own_words() {
    let json = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"no address left","details":"pool 10.0.0.0/30"}'; exit 1"#;
    let error = run(json).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Unavailable);
    assert_eq!(
        error.to_string(),
        "ADD of CNI plugin \"stub\" for network \"net\" failed: no address left; pool 10.0.0.0/30 (CNI code 11)"
    );
    assert_eq!(said(run("echo oops >&2; exit 3").await).text, "exit status: 3 without a CNI error: oops");
    assert_eq!(said(run("echo garbage; exit 3").await).text, "exit status: 3 without a CNI error: garbage");
    assert!(said(run("exit 3").await).text.contains("without a word"));
    assert!(said(run("kill -SEGV $$").await).text.contains("signal: 11"));
    let long = said(run("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1").await).text;
    assert!(long.chars().count() < MAX_SAID + 100, "{}", long.len());
}

#[tokio::test]
async fn a_missing_plugin_names_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = run_with(dir.path(), Duration::from_secs(60), b"").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"stub\"") && text.contains("/nonexistent"), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    fs::write(dir.path().join("stub"), "not a program").unwrap();
    let error = run_with(dir.path(), Duration::from_secs(60), b"").await.unwrap_err();
    assert!(matches!(error, NetworkError::Start { .. }), "{error:?}");
}

/// Whether the process whose pid a stub wrote is gone, waiting for the kernel to end it.
fn goes_away(file: &Path) -> bool {
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        !crate::linux::process::is_alive(pid)
    })
}

#[tokio::test]
async fn the_deadline_kills_the_plugin_and_its_children() {
    let dir = stub("sleep 600 & echo $! >child; echo $$ >leader; wait");
    let error = run_with(dir.path(), Duration::from_millis(700), b"").await.unwrap_err();
    assert!(matches!(error, NetworkError::Timeout { .. }), "{error:?}");
    assert_eq!(error.kind(), crate::error::Kind::DeadlineExceeded);
    assert!(goes_away(&dir.path().join("child")) && goes_away(&dir.path().join("leader")));
}

#[tokio::test]
async fn a_dropped_call_kills_the_plugin_and_its_children() {
    let dir = stub("sleep 600 & echo $! >tmp; mv tmp child; wait");
    let child = dir.path().join("child");
    let started = async {
        while !child.exists() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = run_with(dir.path(), Duration::from_secs(600), b"") => panic!("{outcome:?}"),
        () = started => {}
    }
    assert!(goes_away(&child));
}

#[tokio::test]
async fn a_child_left_behind_with_the_output_open_does_not_hold_the_call() {
    let dir = stub("sleep 600 & echo $! >child; echo '{}'");
    assert_eq!(run_with(dir.path(), Duration::from_secs(60), b"").await.unwrap(), b"{}\n");
    let pid: i32 = fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
    assert!(crate::linux::process::is_alive(pid), "a plugin may leave a daemon");
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_flood_is_bounded_and_input_need_not_be_read() {
    let error = run("head -c 3000000 /dev/zero").await.unwrap_err();
    assert!(
        matches!(&error, NetworkError::BadResult { reason, .. } if reason.contains("more than")),
        "{error:?}"
    );
    let dir = stub("echo '{}'");
    let unread = vec![b' '; 1 << 20];
    assert_eq!(run_with(dir.path(), Duration::from_secs(60), &unread).await.unwrap(), b"{}\n");
}
