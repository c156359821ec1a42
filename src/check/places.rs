//! Who runs cridge, where it listens and where it keeps state.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::Finding;
use crate::config::Config;

/// How long a live server may take to accept a connection.
const ANSWER: Duration = Duration::from_secs(2);

pub fn user() -> Finding {
    const NAME: &str = "user";
    if rustix::process::geteuid().is_root() {
        return Finding::ok(NAME, "root");
    }
    Finding::fail(NAME, "not root: neither mounts nor namespaces can be made", "run cridge as root")
}

pub async fn findings(config: &Config) -> Vec<Finding> {
    vec![
        socket(&config.listen).await,
        folder("persistent state", &config.root),
        folder("volatile state", &config.state),
    ]
}

/// Free, stale or in use: all fine, since a running cridge is checked as well as one to come.
async fn socket(path: &Path) -> Finding {
    const NAME: &str = "CRI socket";
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::ok(NAME, format!("{shown} is free"));
        }
        Err(error) => {
            return Finding::fail(NAME, format!("{shown}: {error}"), "see to its folder, or set listen");
        }
        Ok(found) if !found.file_type().is_socket() => {
            let text = format!("{shown} is there and no socket");
            return Finding::fail(NAME, text, "remove it, or set listen to another path");
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Ok(_)) => Finding::ok(NAME, format!("a server answers on {shown}")),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            Finding::ok(NAME, format!("{shown} is left over from an earlier run and will be replaced"))
        }
        Ok(Err(error)) => Finding::fail(NAME, format!("{shown}: {error}"), "run cridge check as root"),
        Err(_) => Finding::warn(
            NAME,
            format!("whoever listens on {shown} does not accept connections"),
            "see whether a hung cridge must be restarted",
        ),
    }
}

/// Whether somebody accepts connections there.
pub async fn answers(socket: &Path) -> bool {
    matches!(tokio::time::timeout(ANSWER, UnixStream::connect(socket)).await, Ok(Ok(_)))
}

/// The folder, or the nearest above it that is there, must be one that can be written.
fn folder(name: &'static str, path: &Path) -> Finding {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let shown = there.display();
    if !there.is_dir() {
        return Finding::fail(name, format!("{shown} is no folder"), "remove it, or set root and state");
    }
    let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK);
    let full = rustix::fs::statvfs(there).is_ok_and(|fs| fs.f_bavail == 0);
    match writable {
        Err(error) => {
            Finding::fail(name, format!("{shown}: {error}"), "mount it writable, or set root and state")
        }
        Ok(()) if full => Finding::fail(name, format!("no room is left in {shown}"), "make room"),
        Ok(()) if there == path => Finding::ok(name, format!("in {shown}")),
        Ok(()) => Finding::ok(name, format!("{} will be made", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[tokio::test]
    async fn a_socket_is_free_stale_or_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        assert!(socket(&path).await.text.ends_with("is free"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(socket(&path).await.text.starts_with("a server answers"));
        drop(listener);
        let stale = socket(&path).await;
        assert!(stale.outcome == Outcome::Ok && stale.text.ends_with("will be replaced"), "{stale}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(socket(&path).await.outcome, Outcome::Fail);
    }

    #[test]
    fn folders_are_there_or_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(folder("f", dir.path()).text.starts_with("in "));
        assert!(folder("f", &dir.path().join("a/b")).text.ends_with("a/b will be made"));
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(folder("f", &dir.path().join("file/x")).outcome, Outcome::Fail);
    }
}
