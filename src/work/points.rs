//! Fail points, in debug builds only: every step of every operation is one before it and one after it. Tests find out
//! which there are by doing the operation once, so that there is no list to keep.
//!
//! `CRIDGE_POINTS` names a folder, which is looked into at every point:
//!
//! ```text
//! hit   every point is appended to it: `RunPodSandbox/attach the network`, and the same with `, done`
//! die   has the name of a point: the daemon kills itself there
//! hold  likewise: whoever comes there waits until the file is gone
//! clock has a number of seconds: by so much the daemon's wall clock goes wrong (`time.rs`)
//! ```

use super::Operation;

#[cfg(not(debug_assertions))]
pub(super) async fn before(_: Operation, _: &str) {}

#[cfg(not(debug_assertions))]
pub(super) async fn after(_: Operation, _: &str) {}

#[cfg(debug_assertions)]
pub(super) use active::{after, before};

#[cfg(debug_assertions)]
mod active {
    use std::fs;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;
    use std::time::Duration;

    use super::Operation;

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("CRIDGE_POINTS").map(PathBuf::from));
    /// Between two looks for a file that has the daemon wait.
    const LOOK: Duration = Duration::from_millis(5);

    pub async fn before(operation: Operation, step: &str) {
        if let Some(folder) = &*FOLDER {
            reach(folder, &format!("{}/{step}", operation.name())).await;
        }
    }

    pub async fn after(operation: Operation, step: &str) {
        if let Some(folder) = &*FOLDER {
            reach(folder, &format!("{}/{step}, done", operation.name())).await;
        }
    }

    async fn reach(folder: &Path, point: &str) {
        let hit = fs::File::options().create(true).append(true).open(folder.join("hit"));
        if let Err(error) = hit.and_then(|mut file| file.write_all(format!("{point}\n").as_bytes())) {
            tracing::error!("a point is not noted: {error}");
        }
        let armed =
            |file: &str| fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim_end() == point);
        if armed("die") {
            // Not to return from.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
        while armed("hold") {
            tokio::time::sleep(LOOK).await;
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn a_point_is_noted_and_waits_while_it_is_told_to() {
            let folder = tempfile::tempdir().unwrap();
            let hold = folder.path().join("hold");
            fs::write(&hold, "PullImage/name the image").unwrap();
            reach(folder.path(), "PullImage/take a lease").await;
            let waiting = reach(folder.path(), "PullImage/name the image");
            let freeing = async {
                tokio::time::sleep(10 * LOOK).await;
                fs::remove_file(&hold).unwrap();
            };
            tokio::select! {
                biased;
                () = waiting => panic!("it did not wait"),
                () = freeing => {}
            }
            let hit = fs::read_to_string(folder.path().join("hit")).unwrap();
            assert_eq!(hit, "PullImage/take a lease\nPullImage/name the image\n");
        }
    }
}
