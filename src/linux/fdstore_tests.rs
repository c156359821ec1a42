//! Against a manager that is played, and with variables that no manager would set.

use std::io::IoSliceMut;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use super::*;

/// A service manager, as far as it has a store.
pub(crate) struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
    held: Vec<(String, OwnedFd)>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        Self { dir, socket, held: Vec::new() }
    }

    /// The store as the next process has it.
    pub(crate) fn store(&self) -> FdStore {
        self.store_of(usize::MAX)
    }

    fn store_of(&self, most: usize) -> FdStore {
        let mut inherited = Inherited::default();
        for (name, held) in &self.held {
            inherited.0.entry(name.clone()).or_default().push(held.try_clone().unwrap());
        }
        FdStore::behind(self.dir.path().join("notify"), inherited, most)
    }

    /// Does what it is told next; which it returns.
    pub(crate) async fn hears(&mut self) -> String {
        let (text, descriptor) = timeout(BUSY, self.message()).await.expect("it is told something");
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap().to_owned();
        match descriptor {
            Some(descriptor) => self.held.push((name, descriptor)),
            None => self.held.retain(|(held, _)| *held != name),
        }
        text
    }

    async fn message(&self) -> (String, Option<OwnedFd>) {
        let mut text = [0; 4096];
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let length = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?.bytes;
            let mut rights = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            });
            Ok((length, rights.next().and_then(|mut rights| rights.next())))
        };
        let (length, descriptor) = self.socket.async_io(Interest::READABLE, receive).await.unwrap();
        (String::from_utf8(text[..length].to_vec()).unwrap(), descriptor)
    }
}

/// A descriptor, and what file it is of.
fn some_file() -> (OwnedFd, u64) {
    let file = tempfile::tempfile().unwrap();
    let inode = file.metadata().unwrap().ino();
    (file.into(), inode)
}

fn inode(descriptor: &OwnedFd) -> u64 {
    rustix::fs::fstat(descriptor).unwrap().st_ino
}

#[tokio::test]
async fn what_is_kept_is_held_until_it_is_forgotten() {
    let mut manager = Manager::new();
    let store = manager.store();
    let (descriptor, file) = some_file();
    store.keep("one", descriptor.as_fd());
    assert_eq!(manager.hears().await, "FDSTORE=1\nFDPOLL=0\nFDNAME=one\n");
    assert_eq!((manager.held.len(), inode(&manager.held[0].1)), (1, file));
    store.forget("one");
    assert_eq!(manager.hears().await, "FDSTOREREMOVE=1\nFDNAME=one\n");
    // What is not there need not be told of.
    store.forget("one");
    store.forget("two");
    store.keep("three", descriptor.as_fd());
    assert_eq!(manager.hears().await, "FDSTORE=1\nFDPOLL=0\nFDNAME=three\n");
}

#[tokio::test]
async fn the_next_process_gets_it_back_and_may_replace_it() {
    let mut manager = Manager::new();
    let (descriptor, file) = some_file();
    manager.store().keep("one", descriptor.as_fd());
    manager.hears().await;

    let store = manager.store();
    assert_eq!(store.untaken(), ["one"]);
    assert!(store.path("one").unwrap().starts_with("/") && store.path("two").is_none());
    let taken = store.take("one");
    assert_eq!((taken.len(), inode(&taken[0])), (1, file));
    assert!(store.take("one").is_empty() && store.untaken().is_empty());
    let (other, other_file) = some_file();
    store.keep("one", other.as_fd());
    assert_eq!(manager.hears().await, "FDSTOREREMOVE=1\nFDNAME=one\n");
    manager.hears().await;
    assert_eq!((manager.held.len(), inode(&manager.held[0].1)), (1, other_file));

    let store = manager.store();
    store.forget("one");
    assert_eq!(manager.hears().await, "FDSTOREREMOVE=1\nFDNAME=one\n");
    assert!(store.take("one").is_empty() && manager.held.is_empty());
}

#[tokio::test]
async fn no_more_is_kept_than_the_manager_takes() {
    let mut manager = Manager::new();
    let store = manager.store_of(2);
    let (descriptor, _) = some_file();
    for name in ["one", "two", "three"] {
        store.keep(name, descriptor.as_fd());
    }
    store.forget("one");
    store.keep("four", descriptor.as_fd());
    for told in ["1\nFDPOLL=0\nFDNAME=one\n", "1\nFDPOLL=0\nFDNAME=two\n"] {
        assert_eq!(manager.hears().await, format!("FDSTORE={told}"));
    }
    assert_eq!(manager.hears().await, "FDSTOREREMOVE=1\nFDNAME=one\n");
    assert_eq!(manager.hears().await, "FDSTORE=1\nFDPOLL=0\nFDNAME=four\n");
}

#[tokio::test]
async fn no_more_is_kept_than_a_program_can_be_started_with() {
    let mut manager = Manager::new();
    let store = manager.store();
    let (descriptor, _) = some_file();
    for n in 0..1000 {
        store.keep(&format!("{n:0200}"), descriptor.as_fd());
    }
    store.forget(&format!("{:0200}", 0));
    while !manager.hears().await.starts_with("FDSTOREREMOVE=1") {}
    let names: Vec<_> = manager.held.iter().map(|(name, _)| name.as_str()).collect();
    let started = std::process::Command::new("true").env("LISTEN_FDNAMES", names.join(":")).status();
    assert!(started.unwrap().success());
    assert!(names.len() > 500, "{} names", names.len());
}

#[tokio::test]
async fn without_a_manager_nothing_is_kept() {
    let (descriptor, _) = some_file();
    let store = FdStore::default();
    store.keep("one", descriptor.as_fd());
    store.forget("one");
    assert!(store.take("one").is_empty() && store.untaken().is_empty());
    store.flush(BUSY).await;
}

#[tokio::test]
async fn a_manager_that_has_gone_holds_up_nobody() {
    let manager = Manager::new();
    let store = manager.store();
    drop(manager);
    let (descriptor, _) = some_file();
    store.keep("one", descriptor.as_fd());
    store.flush(BUSY).await;
}

/// A process that a manager has started; run by the test below, in a process of its own.
#[test]
#[ignore = "does nothing by itself"]
fn started_process() {
    if env::var_os("LISTEN_FDNAMES").is_none() {
        return;
    }
    let inherited = Inherited::take();
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        assert_eq!(env::var_os(name), None);
    }
    assert_eq!(inherited.0.keys().collect::<Vec<_>>(), ["one", "two"]);
    for (name, descriptors) in inherited.0 {
        let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
        assert!(rustix::io::fcntl_getfd(&descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(io::read_to_string(std::fs::File::from(descriptor)).unwrap(), name);
    }
    assert!(Inherited::take().0.is_empty());
}

#[test]
fn a_process_takes_what_it_was_handed_and_tells_no_child() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let script = r#"export LISTEN_PID=$$; exec "$0" "$@" 3<one 4<two"#;
    let started = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "linux::fdstore::tests::started_process", "--ignored"])
        .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "one:two")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&started.stdout);
    assert!(started.status.success() && told.contains("1 passed"), "{told}");
}

fn listed(pid: &str, count: &str, names: Option<&str>) -> Vec<(RawFd, String)> {
    handed_over(7, Some(pid), Some(count), names).collect()
}

#[test]
fn descriptors_are_those_from_the_third_on_with_their_names() {
    let some = |found: &[(RawFd, &str)]| found.iter().map(|(n, name)| (*n, (*name).to_owned())).collect();
    let cases: [(Vec<_>, Vec<_>); 8] = [
        (listed("7", "2", Some("one:two")), some(&[(3, "one"), (4, "two")])),
        (listed("7", "2", Some("one")), some(&[(3, "one"), (4, "unknown")])),
        (listed("7", "1", Some("one:two")), some(&[(3, "one")])),
        (listed("7", "3", Some("one::one")), some(&[(3, "one"), (4, ""), (5, "one")])),
        (listed("7", "1", None), some(&[(3, "unknown")])),
        // Another process' ones.
        (listed("8", "1", Some("one")), Vec::new()),
        (listed("7", "-1", Some("one")), Vec::new()),
        (handed_over(7, None, Some("1"), Some("one")).collect(), Vec::new()),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

proptest! {
    #[test]
    fn fuzz_any_variables_give_numbers_in_turn(
        pid in "[0-9]{0,3}|\\PC{0,12}",
        count in "[0-9]{0,20}|\\PC{0,12}",
        names in prop::option::of("([a-f0-9]{0,4}-std(in|out|err)|:|\\PC){0,40}"),
    ) {
        let handed: Vec<_> =
            handed_over(7, Some(&pid), Some(&count), names.as_deref()).take(100).collect();
        if pid.parse() != Ok(7u32) {
            prop_assert_eq!(&handed, &[]);
        }
        let told: usize = count.parse().unwrap_or(0);
        prop_assert!(handed.len() <= told);
        let given: Vec<_> = names.iter().flat_map(|names| names.split(':')).collect();
        for (n, (number, name)) in handed.iter().enumerate() {
            prop_assert_eq!(*number, FIRST + n as RawFd);
            prop_assert_eq!(name.as_str(), given.get(n).copied().unwrap_or(UNNAMED));
        }
    }
}
