//! Looks at the configuration folder again whenever something happens there.
//!
//! Never dies: a folder that is missing is waited for through its nearest existing ancestor, a removed one again, and
//! without inotify (no watches left) the folder is polled. Status and RunPodSandbox rescan by themselves, so nothing
//! but a log line is ever late.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask, Watches};
use tokio::time::sleep;

use super::folder::Folder;

/// How often the folder is looked at where it cannot be watched.
const POLL: Duration = Duration::from_secs(5);

/// Room for a good number of events at once; more are read in the next turn.
const BUFFER: usize = 4096;

/// Rescans the folder on each change, for ever: the owner drops the task.
pub(super) async fn follow(folder: Arc<Folder>) {
    let mut told = false;
    loop {
        if let Err(error) = follow_until_error(&folder).await
            && !told
        {
            told = true;
            tracing::warn!(folder = %folder.path.display(), "cannot watch for CNI networks, so polling: {error}");
        }
        sleep(POLL).await;
        folder.rescan();
    }
}

async fn follow_until_error(folder: &Folder) -> io::Result<()> {
    let mut events = Inotify::init()?.into_event_stream([0; BUFFER])?;
    loop {
        let watched = arm(&mut events.watches(), &folder.path)?;
        // What changed before the watch began is seen now, what changes later is an event.
        folder.rescan();
        if watched == Watched::Ancestor && folder.path.is_dir() {
            continue;
        }
        wait(&mut events).await?;
    }
}

/// One event, or an end that should not be.
async fn wait(events: &mut EventStream<[u8; BUFFER]>) -> io::Result<()> {
    while let Some(event) = events.next().await {
        // Tells only that a watch is gone, which its folder's own event told before.
        if event?.mask != EventMask::IGNORED {
            return Ok(());
        }
    }
    Err(io::Error::other("no more events"))
}

#[derive(Debug, PartialEq, Eq)]
enum Watched {
    Folder,
    Ancestor,
}

/// Watches the folder and its parent, which tells of a folder put in its place; or the nearest ancestor there is.
fn arm(watches: &mut Watches, folder: &Path) -> io::Result<Watched> {
    let within = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVE
        | WatchMask::DELETE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    let above = WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    let found = watches.add(folder, within);
    for ancestor in folder.ancestors().skip(1) {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match watches.add(ancestor, above) {
            Ok(_) => break,
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    match found {
        Ok(_) => Ok(Watched::Folder),
        Err(error) if is_missing(&error) => Ok(Watched::Ancestor),
        Err(error) => Err(error),
    }
}

/// A file in a folder's place is as good as none.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"t"}]}"#;

    /// Waits for as long as it takes: a watch that never sees it hangs, which the test run reports.
    async fn until(folder: &Folder, expected: Option<&str>) {
        let name =
            |loaded: &super::super::folder::Loaded| loaded.as_ref().ok().map(|all| all[0].name.clone());
        while name(&folder.last()).as_deref() != expected {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn write(path: &Path, name: &str) {
        fs::write(path.join("10-net.conflist"), LIST.replace("NAME", name)).unwrap();
    }

    #[tokio::test]
    async fn every_way_to_change_the_folder_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cni/net.d");
        let folder = Arc::new(Folder::new(path.clone(), 1));
        let _task = AbortOnDropHandle::new(tokio::spawn(follow(folder.clone())));
        until(&folder, None).await;
        // The folder appears, two levels at once.
        fs::create_dir_all(&path).unwrap();
        write(&path, "first");
        until(&folder, Some("first")).await;
        // Rewritten in place, replaced by rename, removed.
        write(&path, "second");
        until(&folder, Some("second")).await;
        fs::write(dir.path().join("new"), LIST.replace("NAME", "third")).unwrap();
        fs::rename(dir.path().join("new"), path.join("10-net.conflist")).unwrap();
        until(&folder, Some("third")).await;
        fs::remove_file(path.join("10-net.conflist")).unwrap();
        until(&folder, None).await;
        // The folder itself is removed and made again: where a watch on the folder alone dies.
        fs::remove_dir_all(dir.path().join("cni")).unwrap();
        fs::create_dir_all(&path).unwrap();
        write(&path, "fourth");
        until(&folder, Some("fourth")).await;
        // Another folder is put in its place.
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        write(&other, "fifth");
        fs::rename(&path, dir.path().join("old")).unwrap();
        fs::rename(&other, &path).unwrap();
        until(&folder, Some("fifth")).await;
        write(&path, "sixth");
        until(&folder, Some("sixth")).await;
    }
}
