//! What a container writes is in its log: whole, in order, in the CRI's format.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use k8s_cri::v1 as cri;
use tonic::Code;

use crate::cases;
use crate::harness::{Case, Container, Disk, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["logs":
        lines_have_their_time_and_stream,
        long_lines_are_split_and_an_open_end_is_a_part,
        all_that_was_written_is_there_when_the_end_is_told,
        rotation_under_load_loses_and_doubles_nothing,
        a_restart_appends_nowhere_else,
        without_a_path_nothing_is_written,
        a_log_that_cannot_be_reopened_goes_on,
        only_a_running_containers_log_is_reopened;
    cridge only:
        what_a_full_disk_costs_is_counted_and_told,
        a_stranger_at_the_pipe_costs_no_line_and_no_stop,
    ]
}

async fn reopen(container: &Container) -> Result<(), tonic::Status> {
    let request = cri::ReopenContainerLogRequest { container_id: container.id.clone() };
    container.pod.node.runtime().reopen_container_log(request).await.map(drop)
}

async fn lines_have_their_time_and_stream(t: Test) {
    let pod = t.pod().run().await;
    let before = now();
    let script =
        "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf 'three\\n\\n'; echo ' four  and\ttabs '";
    let app = pod.container("app").shell(script).start().await;
    app.exited().await;
    let log = app.log();
    let lines: Vec<_> =
        log.iter().map(|line| (line.stream.as_str(), line.tag.as_str(), line.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("stdout", "F", "one"),
            ("stderr", "F", "two"),
            ("stdout", "F", "three"),
            ("stdout", "F", ""),
            ("stdout", "F", " four  and\ttabs "),
        ]
    );
    let times: Vec<_> = log.iter().map(|line| nanos(&line.time)).collect();
    assert!(times.is_sorted(), "{log:?}");
    assert!(times[0] >= before && times[4] <= now(), "{log:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(app.log_file()).unwrap());
    assert_eq!(mode & 0o777, 0o640);
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

/// The same of an RFC 3339 time, which must have its fraction and zone.
fn nanos(time: &str) -> i128 {
    let parsed = humantime::parse_rfc3339(time).unwrap_or_else(|why| panic!("{time:?} is no time: {why}"));
    parsed.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

async fn long_lines_are_split_and_an_open_end_is_a_part(t: Test) {
    let script = "head -c 40000 /dev/zero | tr '\\0' a; echo; printf 'no end'";
    let app = t.pod().run().await.container("app").shell(script).start().await;
    app.exited().await;
    let log = app.log();
    let parts: Vec<_> = log.iter().map(|line| (line.tag.as_str(), line.text.len())).collect();
    // Kept as the kubelet's reader joins them: parts of 16 KiB, and the end of the line.
    assert_eq!(parts, [("P", 16384), ("P", 16384), ("F", 40000 - 2 * 16384), ("P", 6)]);
    assert!(log[..3].iter().all(|line| line.text.bytes().all(|byte| byte == b'a')));
}

async fn all_that_was_written_is_there_when_the_end_is_told(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("seq 1 50000; seq 1 1000 >&2").start().await;
    app.exited().await;
    let log = app.log();
    for (stream, count) in [("stdout", 50000), ("stderr", 1000)] {
        let numbers: Vec<u32> =
            log.iter().filter(|line| line.stream == stream).map(|line| line.text.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=count), "{stream}: {} lines", numbers.len());
    }
}

async fn rotation_under_load_loses_and_doubles_nothing(t: Test) {
    let pod = t.pod().run().await;
    let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo $i; done; echo end";
    let app = pod.container("app").shell(script).start().await;
    let mut rotated = Vec::new();
    for number in 0..20 {
        // As the kubelet does it: rename, then tell.
        app.logs("").await;
        let to = app.log_file().with_extension(format!("{number}"));
        std::fs::rename(app.log_file(), &to).unwrap();
        rotated.push(to);
        if let Err(refused) = reopen(&app).await {
            // It may have come to its end.
            assert_ne!(refused.code(), Code::NotFound, "{refused:?}");
            std::fs::rename(rotated.pop().unwrap(), app.log_file()).unwrap();
            break;
        }
    }
    app.exited().await;
    let mut lines = Vec::new();
    for file in rotated.iter().chain([&app.log_file()]) {
        let text = std::fs::read_to_string(file).unwrap();
        lines.extend(text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()));
    }
    assert_eq!(lines.pop().unwrap(), "end");
    let numbers: Vec<u32> = lines.iter().map(|line| line.parse().expect("a whole line")).collect();
    let wrong = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect::<Vec<_>>();
    assert!(numbers.iter().copied().eq(1..=30000), "{} lines, {wrong:?}", numbers.len());
    assert!(rotated.len() > 1, "it ended before its log could be rotated");
}

async fn a_restart_appends_nowhere_else(t: Test) {
    let pod = t.pod().run().await;
    for attempt in 0..2 {
        let app = pod.container("app").shell(&format!("echo attempt {attempt}")).with(|config| {
            config.metadata.as_mut().unwrap().attempt = attempt;
            config.log_path = format!("app/{attempt}.log");
        });
        assert_eq!(app.output().await, format!("attempt {attempt}"));
    }
    // A file that is there already is appended to, as after a restart of the kubelet.
    let again = pod.container("app").shell("echo again").with(|config| {
        config.metadata.as_mut().unwrap().attempt = 2;
        config.log_path = "app/1.log".into();
    });
    assert_eq!(again.output().await, "attempt 1\nagain");
}

async fn without_a_path_nothing_is_written(t: Test) {
    let pod = t.pod().run().await;
    // More than a pipe holds: it has to be read even so.
    let app = pod.container("app").shell("seq 1 100000").with(|config| config.log_path.clear()).start().await;
    assert_eq!(app.exited().await.exit_code, 0);
    assert!(app.status().await.log_path.is_empty());
    let written = std::fs::read_dir(&pod.config.log_directory).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(written, 0);
}

/// A kubelet renames the log back then, and tries again later.
async fn a_log_that_cannot_be_reopened_goes_on(t: Test) {
    let pod = t.pod().run().await;
    let counting =
        "i=0; while [ ! -e /stop ]; do echo line $i.; i=$((i + 1)); sleep 0.01; done; echo $i lines";
    let app = pod.container("app").shell(counting).start().await;
    app.logs("line 3.").await;
    let (log, aside) = (app.log_file(), app.log_file().with_extension("aside"));
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    let refused = reopen(&app).await.expect_err("a folder is no log");
    assert!(refused.message().contains("app/0.log"), "should name the file: {refused:?}");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    app.sh("touch /stop").await;
    assert_eq!(app.exited().await.exit_code, 0);
    let lines: Vec<_> = app.log().into_iter().map(|line| line.text).collect();
    let (last, counted) = lines.split_last().unwrap();
    assert_eq!(*last, format!("{} lines", counted.len()));
    assert!(counted.iter().enumerate().all(|(n, line)| *line == format!("line {n}.")), "{lines:?}");
}

async fn only_a_running_containers_log_is_reopened(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("exit 0").create().await;
    reopen(&app).await.expect_err("it does not run yet");
    app.start().await;
    app.exited().await;
    reopen(&app).await.expect_err("it has ended");
    app.remove().await;
    assert_eq!(reopen(&app).await.unwrap_err().code(), Code::NotFound);
}

/// Where the shim writes what a container says.
fn pipe_of(container: &Container) -> PathBuf {
    let [_, state] = container.pod.node.server_dirs();
    let folders = std::fs::read_dir(state.join("containers").join(&container.id).join("io")).unwrap();
    let mut pipes = folders.map(|folder| folder.unwrap().path().join(format!("{}-stdout", container.id)));
    pipes.find(|path| path.exists()).expect("a FIFO")
}

async fn a_stranger_at_the_pipe_costs_no_line_and_no_stop(t: Test) {
    let pod = t.pod().run().await;
    let script = "trap 'echo last; exit 5' TERM; echo first; while :; do sleep 0.02; done";
    for name in ["reader", "writer"] {
        let app = pod.container(name).shell(script).start().await;
        app.logs("first").await;
        let mut options = std::fs::File::options();
        options.read(name == "reader").write(name == "writer");
        let no_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let stranger = options.custom_flags(no_wait).open(pipe_of(&app)).unwrap();
        app.stop(60).await;
        assert_eq!(app.status().await.exit_code, 5);
        assert_eq!(app.log_text(), "first\nlast");
        app.remove().await;
        drop(stranger);
    }
}

async fn what_a_full_disk_costs_is_counted_and_told(t: Test) {
    let pod = t.pod().run().await;
    let disk = Disk::small(&Path::new(&pod.config.log_directory).join("app"), 256 << 10);
    disk.fill();
    let counting =
        "i=0; while [ ! -e /data/stop ]; do i=$((i + 1)); echo $i; sleep 0.01; done; echo $i > /data/last";
    let app = pod.container("app").shell(counting).mount(t.folder(), "/data").start().await;
    let path = app.log_file().display().to_string();
    let told = async |what: &str| {
        until(what.to_owned(), || async {
            t.node().log_of(std::slice::from_ref(&path)).into_iter().find(|line| line.contains(what))
        })
        .await
    };
    // For the first seconds there is hope; then the container has to go on.
    told("its output waits").await;
    told("its output is dropped").await;
    disk.empty();
    let again = told("container log is written again").await;
    std::fs::write(t.folder().join("stop"), "").unwrap();
    assert_eq!(app.exited().await.exit_code, 0);

    let dropped: usize = again.split_once("dropped=").unwrap().1.trim().parse().unwrap();
    let last: u32 = std::fs::read_to_string(t.folder().join("last")).unwrap().trim().parse().unwrap();
    let logged: Vec<u32> = app.log().iter().map(|line| line.text.parse().expect("a whole line")).collect();
    assert!(logged.is_sorted_by(|one, next| one < next), "{logged:?}");
    let missing = (1..=last).filter(|number| logged.binary_search(number).is_err());
    assert_eq!(missing.map(|number| number.to_string().len() + 1).sum::<usize>(), dropped);
    assert!(dropped > 0);
    pod.remove().await;
}
