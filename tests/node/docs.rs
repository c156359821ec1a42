//! What README.md and docs/ have people type on a node, typed there; and what they say is seen, seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::cases;
use crate::fsck::CGROUPS;
use crate::harness::{Case, Node, NodeOptions, Test, until};
use crate::metrics::telling_node;
use crate::pages::{self, Typist};

pub fn cases() -> Vec<Case> {
    cases!["docs": ; cridge only:
        what_people_are_to_type_works,
        an_image_for_kind_is_made,
        a_start_that_cannot_be_says_why,
        whatever_is_not_ready_is_seen,
    ]
}

/// Puts what a node has where the pages say it is, for a command and nobody else: `NODE FOLDER COMMAND`. What the
/// command does in /etc goes with it.
const DESK: &str = r#"
mount -t tmpfs desk "$2"
mkdir "$2"/upper "$2"/work
mount -t overlay -o lowerdir=/etc,upperdir="$2"/upper,workdir="$2"/work etc /etc
mkdir -p /etc/cridge /etc/containerd
cp "$1"/cridge.toml /etc/cridge/config.toml
cp "$1"/containerd.toml /etc/containerd/config.toml
cp dist/crictl.yaml /etc/crictl.yaml
mount -t tmpfs run /run
mkdir /run/cridge /run/containerd
mount --bind "$1" /run/cridge
touch /run/containerd/containerd.sock
mount --bind "$1"/containerd.sock /run/containerd/containerd.sock
exec bash -ec "$3"
"#;

/// Where somebody types who is on a node.
struct Desk<'a> {
    node: &'a Node,
    folder: PathBuf,
}

impl<'a> Desk<'a> {
    fn on(t: &Test, node: &'a Node) -> Self {
        let folder = t.folder().join("desk");
        fs::create_dir_all(&folder).unwrap();
        Self { node, folder }
    }

    fn command(&self, typed: &str) -> Command {
        let folder_of = |program: &Path| program.parent().expect("a folder").display().to_string();
        let cridge = folder_of(Path::new(env!("CARGO_BIN_EXE_cridge")));
        let tools = folder_of(&self.node.tool("crictl"));
        let mut command = Command::new("unshare");
        command
            // What the daemon mounts and unmounts meanwhile is so here too.
            .args(["--mount", "--propagation", "slave", "bash", "-ec", DESK, "desk"])
            .args([&self.node.dir, &self.folder])
            .arg(typed)
            .env("PATH", format!("{cridge}:{tools}:{}", std::env::var("PATH").expect("a PATH")))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// What a command that has to succeed printed.
    async fn says(&self, typed: &str) -> String {
        let output = self.command(typed).output().await.expect("unshare can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "`{typed}`: {}: {said}{errors}", output.status);
        said
    }

    /// Sees a command say something that does not end by itself.
    async fn begins(&self, typed: &str) {
        let mut child = self.command(typed).stdout(Stdio::piped()).spawn().expect("unshare can be run");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        assert!(line.expect("it says something").unwrap().is_some(), "`{typed}` ended in silence");
        child.kill().await.unwrap();
    }
}

/// A command, with what stands for something filled in.
fn meant(typed: &str, pod: &str) -> String {
    typed
        .replace("NAME", pod)
        .replace("--unit-dropin FILE", "--unit-dropin /etc/cridge/environment.conf")
        .replace("FILE", "/etc/cridge/config.toml")
}

async fn what_people_are_to_type_works(t: Test) {
    let _alone = CGROUPS.lock().await;
    let node = telling_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    let name = pod.config.metadata.as_ref().unwrap().name.clone();
    let desk = Desk::on(&t, &node);
    let ours = pages::typed().into_iter().filter(|typed| matches!(typed.typist(), Some((_, Typist::Node))));
    let commands: BTreeSet<_> = ours.map(|typed| meant(&typed.command, &name)).collect();
    assert!(commands.len() > 12, "only {commands:?} were found");
    let (repairs, others): (Vec<_>, Vec<_>) = commands.iter().partition(|typed| typed.contains("--repair"));
    for typed in others {
        if typed.ends_with("--watch") {
            desk.begins(typed).await;
        } else {
            desk.says(typed).await;
        }
    }
    // No cridge may serve meanwhile.
    assert!(node.end(Signal::TERM).await.success());
    for typed in repairs {
        desk.says(typed).await;
    }
    node.start().await;
    let pods = desk.says("crictl pods").await;
    assert!(pods.contains(&name) && pods.contains("Ready"), "the repair has spared it: {pods}");
}

async fn an_image_for_kind_is_made(t: Test) {
    let desk = Desk::on(&t, t.node());
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/kind/Dockerfile");
    let dockerfile = fs::read_to_string(dockerfile).unwrap();
    let run = dockerfile.split_once("\nRUN ").expect("it runs something").1.replace("\\\n", "");
    // The image has no configuration of cridge's, one of containerd's that disables nothing, and what is copied there.
    let before = "containerd() { echo containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b71; }
        rm /etc/cridge/config.toml
        echo 'version = 3' >/etc/containerd/config.toml
        echo 'runtime-endpoint: unix:///run/containerd/containerd.sock' >/etc/crictl.yaml
        mkdir -p /etc/systemd/system
        cp dist/cridge.service /etc/systemd/system";
    let after = "cridge config check >&2
        readlink /etc/systemd/system/multi-user.target.wants/cridge.service
        cat /etc/crictl.yaml /etc/containerd/config.toml";
    let said = desk.says(&format!("{before}\n{run}\n{after}")).await;
    let is_so = |text: &str| assert!(said.contains(text), "no {text} in {said}");
    is_so("/etc/systemd/system/cridge.service\nruntime-endpoint: unix:///run/cridge/cridge.sock\n");
    is_so("\ndisabled_plugins = [\"io.containerd.cri.v1.images\", ");
}

/// What `cridge serve` says of why it does not.
async fn refused(t: &Test, config: &str) -> String {
    let file = t.folder().join("config.toml");
    fs::write(&file, config).unwrap();
    let serve = Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), serve).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Whether it has all parts of that, in their order, with anything in place of an ellipsis.
fn has(said: &str, symptom: &str) -> bool {
    let mut rest = said;
    symptom.split('…').all(|part| {
        let found = rest.split_once(part);
        rest = found.map_or("", |(_, after)| after);
        found.is_some()
    })
}

async fn a_start_that_cannot_be_says_why(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let own = fs::read_to_string(node.dir.join("cridge.toml")).unwrap();
    let other = own.replace("/cridge/root", "/other/root").replace("/cridge/state", "/other/state");
    for symptom in pages::symptoms("docs/troubleshooting.md", "cridge does not start") {
        let said = match symptom.split('…').next().unwrap() {
            "containerd's own CRI plugin (" => {
                assert!(node.end(Signal::TERM).await.success());
                node.end_containerd(Signal::TERM).await;
                node.start_containerd_with_plugin();
                let said = refused(&t, &own).await;
                node.end_containerd(Signal::TERM).await;
                node.start_containerd();
                node.start().await;
                said
            }
            "containerd does not answer on " => {
                refused(&t, &other.replace("containerd.sock", "nowhere.sock")).await
            }
            "another cridge uses " => refused(&t, &own).await,
            "something answers on " => refused(&t, &other).await,
            "config.toml:7: " => refused(&t, "\n\n\n\n\n\nlisten = 7\n").await,
            // The unit says that; tests/deb/machine has one.
            "Assertion failed on job for cridge.service" => continue,
            unknown => panic!("nobody sees “{unknown}”"),
        };
        assert!(has(&said, &symptom), "not “{symptom}”, but: {said}");
    }
}

async fn whatever_is_not_ready_is_seen(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let desk = Desk::on(&t, &node);
    let ready = async |condition: &str| {
        let info: Value = serde_json::from_str(&desk.says("crictl info").await).unwrap();
        let conditions = info["status"]["conditions"].as_array().unwrap().iter();
        let found =
            conditions.filter(|found| found["type"] == condition).map(|found| found["status"] == true);
        found.collect::<Vec<_>>() == [true]
    };
    assert!(ready("RuntimeReady").await && ready("NetworkReady").await);
    node.end_containerd(Signal::KILL).await;
    until("containerd is missed", || async { (!ready("RuntimeReady").await).then_some(()) }).await;
    node.start_containerd();
    until("it is back", || async { ready("RuntimeReady").await.then_some(()) }).await;

    let (folder, aside) = (node.dir.join("cni/net.d"), node.dir.join("cni/aside"));
    fs::rename(&folder, &aside).unwrap();
    until("the network is missed", || async { (!ready("NetworkReady").await).then_some(()) }).await;
    let config = node.dir.join("cridge.toml");
    let check = Command::new(env!("CARGO_BIN_EXE_cridge")).args(["check", "--config"]).arg(config).output();
    let check = check.await.unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let named = |line: &str| line.starts_with("FAIL") && line.contains(&folder.display().to_string());
    assert!(check.status.code() == Some(1) && said.lines().any(named), "{said}");
    fs::rename(&aside, &folder).unwrap();
    until("the network is back", || async { ready("NetworkReady").await.then_some(()) }).await;
}
