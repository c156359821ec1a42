//! What README.md and docs/ have people type, and which test types it. Each test uses what it needs of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

/// One command of a page, as `tests/typed` tells it.
#[derive(Clone, Debug)]
pub struct Typed {
    pub page: String,
    pub section: String,
    /// On a line of its own, and not within a sentence, where a command may be called by its name alone.
    pub in_block: bool,
    pub command: String,
}

/// Who types a command.
#[derive(Clone, Copy, Debug)]
pub enum Typist {
    /// `tests/node/docs.rs`, which goes through all of these, on a node that is well.
    Node,
    /// That file, which has these words.
    Test(&'static str, &'static str),
    /// None, since that is missing.
    Nobody(&'static str),
}
use Typist::{Nobody, Node, Test};

/// Which commands are meant.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Is(&'static str),
    Begins(&'static str),
    /// The blocks of a page's section.
    Blocks(&'static str, &'static str),
}
use Which::{Begins, Blocks, Is};

const MACHINE: &str = "tests/deb/machine";
const CLUSTER: &str = "tests/go/kubernetes/cluster/pages_test.go";

/// The first that fits counts.
pub const TYPISTS: &[(Which, Typist)] = &[
    // What makes cridge, and what has no place in a test.
    (Is("hack/test"), Test(".ci/run", "hack/test")),
    (Is("hack/deb /tmp"), Test("hack/test", "hack/deb --debug")),
    (Begins("cargo build --release"), Test("hack/deb", "--profile \"$profile\"")),
    (Is("cargo build --features traces"), Test("hack/test", "--features traces")),
    (Begins("docker "), Nobody("a docker, and a registry to have others' images of")),
    (Begins("kind "), Nobody("a docker, and a node image of kind's")),
    // Which pods the demonstration runs is README's example.
    (Blocks("README.md", "See it run"), Test("tests/demo", "hack/demo")),
    (Is("cridge play examples/web-and-sidecar.yaml"), Test("hack/demo", "play web-and-sidecar")),
    // A cluster.
    (Begins("kubectl "), Test(CLUSTER, "node.Typed(\"kubectl\", \"helm\")")),
    (Begins("helm "), Test(CLUSTER, "node.Typed(\"kubectl\", \"helm\")")),
    // A machine with systemd and dpkg.
    (Begins("kubeadm "), Test(MACHINE, "^kubeadm join ")),
    (Blocks("docs/install.md", "The package"), Test(MACHINE, "docs/install.md \"The package\"")),
    (
        Blocks("docs/install.md", "A node that has pods"),
        Test(MACHINE, "docs/install.md \"A node that has pods\""),
    ),
    (
        Blocks("docs/install.md", "Without the package"),
        Test(MACHINE, "docs/install.md \"Without the package\""),
    ),
    (Blocks("docs/switching.md", "Prepare"), Test(MACHINE, "docs/switching.md Prepare")),
    (Blocks("docs/switching.md", "Switch"), Test(MACHINE, "docs/switching.md Switch")),
    (Blocks("docs/switching.md", "Verify"), Test(MACHINE, "docs/switching.md Verify")),
    (Blocks("docs/switching.md", "Roll back"), Test(MACHINE, "docs/switching.md \"Roll back\"")),
    (
        Blocks("docs/troubleshooting.md", "Away from cridge, now"),
        Test(MACHINE, "docs/troubleshooting.md \"Away from cridge, now\""),
    ),
    (Begins("cridge node confirm"), Test(MACHINE, "\"A node that has pods\"")),
    (Begins("cridge node rollback"), Test(MACHINE, "\"Away from cridge, now\"")),
    (Begins("cridge node"), Test(MACHINE, "cridge node switch")),
    (Is("dpkg --configure -a"), Test(MACHINE, "dpkg --configure -a")),
    (Is("dpkg --configure cridge"), Test(MACHINE, "dpkg --configure cridge")),
    (Is("systemctl stop"), Test(MACHINE, "systemctl stop cridge")),
    (Begins("systemctl "), Test(MACHINE, LOOKS)),
    (Begins("systemd-analyze "), Test(MACHINE, LOOKS)),
    (Begins("journalctl "), Test(MACHINE, LOOKS)),
    (Begins("ps "), Test(MACHINE, LOOKS)),
    (Is("man cridge"), Test("tests/deb/contents", "man8/cridge")),
    // It tells of a mount namespace like the one that the node's test types in.
    (Is("cridge check"), Test(MACHINE, "block:docs/troubleshooting.md")),
    // A node.
    (Is("cridge serve"), Test("tests/node/harness/node.rs", "\"serve\"")),
    (Is("crictl inspect"), Test("tests/node/crictl.rs", "\"inspect\"")),
    (Is("crictl inspectp"), Test("tests/node/crictl.rs", "\"inspectp\"")),
    (Begins("cridge "), Node),
    (Begins("crictl "), Node),
    (Begins("curl "), Node),
];
/// In `tests/deb/machine`, what it takes of every page.
const LOOKS: &str = "systemctl|systemd-analyze|journalctl|ps";

impl Which {
    pub fn fits(&self, typed: &Typed) -> bool {
        match *self {
            Is(command) => typed.command == command,
            Begins(words) => typed.command.starts_with(words),
            Blocks(page, section) => typed.in_block && typed.page == page && typed.section == section,
        }
    }
}

impl Typed {
    /// Who types it, by the place in the table.
    pub fn typist(&self) -> Option<(usize, Typist)> {
        let place = TYPISTS.iter().position(|(which, _)| which.fits(self))?;
        Some((place, TYPISTS[place].1))
    }
}

/// All commands of all pages.
pub fn typed() -> Vec<Typed> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/typed");
    let output = Command::new(program).output().expect("tests/typed can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let typed = |line: &str| {
        let [page, section, kind, command] = *line.splitn(4, '\t').collect::<Vec<_>>() else {
            panic!("tests/typed said {line:?}");
        };
        Typed {
            page: page.into(),
            section: section.into(),
            in_block: kind == "block",
            command: command.into(),
        }
    };
    text.lines().map(typed).collect()
}

/// What the tables of a section have in their first column, which is what somebody sees; quotes are taken off.
pub fn symptoms(page: &str, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a page");
    let after = text.split_once(&format!("\n## {section}\n")).expect("the section is there").1;
    let rows = after.split("\n## ").next().unwrap_or_default().lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    // The head and its rule.
    let cells: Vec<_> = cells.skip(2).map(|cell| cell.trim_matches('`').to_owned()).collect();
    assert!(!cells.is_empty(), "{page} has no table in {section}");
    cells
}
