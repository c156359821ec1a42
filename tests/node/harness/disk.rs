//! File systems of a test's own: one that is full soon, and one whose writers can be had to wait.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Is gone from its place when it is dropped.
pub struct Disk {
    pub path: PathBuf,
}

impl Disk {
    /// One of so many bytes.
    pub fn small(path: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(path).expect("a folder");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "small", text(path)]);
        Self { path: path.to_owned() }
    }

    /// One that can be frozen, with its image beside it.
    pub fn freezable(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("a folder");
        let image = path.with_extension("img");
        std::fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("a file");
        run("mkfs.ext4", &["-q", text(&image)]);
        run("mount", &["-o", "loop", text(&image), text(path)]);
        Self { path: path.to_owned() }
    }

    /// Whoever writes from now on sleeps, and cannot be woken by any signal.
    pub fn freeze(&self) {
        run("fsfreeze", &["-f", text(&self.path)]);
    }

    pub fn thaw(&self) {
        run("fsfreeze", &["-u", text(&self.path)]);
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let filled = std::fs::File::create(self.ballast())
            .and_then(|mut file| std::io::copy(&mut std::io::repeat(0), &mut file).map(drop));
        assert_eq!(filled.map_err(|error| error.kind()), Err(std::io::ErrorKind::StorageFull));
    }

    /// Gives the room back.
    pub fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that has failed may have left it frozen; else this is refused.
        let _ = Command::new("fsfreeze").args(["-u", text(&self.path)]).output();
        let _ = Command::new("umount").args(["-l", text(&self.path)]).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|why| panic!("{program}: {why}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain characters")
}
