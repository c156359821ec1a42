use std::fs;

use super::edit::File as Role;
use super::record::Change;
use super::*;
use crate::check::kubelet::Kubelet;

const CONTAINERD: &str = "etc/containerd/config.toml";
const FLAGS: &str = "var/lib/kubelet/kubeadm-flags.env";
const CONFIG: &str = "var/lib/kubelet/config.yaml";
const INSTANCE: &str = "var/lib/kubelet/instance-config.yaml";

/// A node of files, whose systemctl writes down what it is told and fails at what is named.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let files_at = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            record::write(&files_at.path(path), text, 0o640).unwrap();
        }
        files_at.failing("nothing");
        files_at
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn failing(&self, at: &str) {
        let (log, program) = (self.path("told"), self.path("systemctl"));
        let text = format!(
            "#!/bin/sh\necho \"$*\" >>{}\nif [ \"$*\" = '{at}' ]; then echo it does not start >&2; exit 1; fi\n",
            log.display()
        );
        record::write(&program, &text, 0o755).unwrap();
    }

    fn told(&self) -> Vec<String> {
        let text = self.text("told");
        fs::remove_file(self.path("told")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn node(&self) -> Node {
        let systemd = Systemd { program: self.path("systemctl"), units: self.path("units") };
        Node { root: self.0.path().to_owned(), systemd, cridge: "/usr/bin/cridge".into() }
    }

    fn plan(&self, kubelet: Option<(&str, bool)>) -> Result<Record, SwitchError> {
        plan::switch(&Facts {
            root: self.0.path().to_owned(),
            containerd: self.path(CONTAINERD),
            major: 2,
            cridge: "/run/cridge/cridge.sock".into(),
            kubelet: kubelet.map(|(socket, by_flag)| Kubelet {
                socket: socket.into(),
                source: "a flag".into(),
                by_flag,
                config: Some(self.path(CONFIG)),
            }),
        })
    }
}

const USUAL: &str = "/run/containerd/containerd.sock";
const MINE: &str = "unix:///run/cridge/cridge.sock";

fn new_kubeadm() -> Files {
    Files::new(&[
        (CONTAINERD, "version = 3\n"),
        (FLAGS, "KUBELET_KUBEADM_ARGS=\"--x=y\"\n"),
        (CONFIG, "a: b\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"),
        (INSTANCE, "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"),
    ])
}

#[tokio::test]
async fn a_node_goes_there_and_back() {
    let files = new_kubeadm();
    let was = [CONTAINERD, FLAGS, CONFIG, INSTANCE].map(|path| files.text(path));
    let plan = files.plan(Some((USUAL, false))).unwrap();
    assert!(!plan.to_string().contains("kubeadm-flags"), "{plan}");
    let node = files.node();
    node.switch(&plan, Duration::from_secs(60)).await.unwrap();
    assert_eq!(
        files.told(),
        [
            "daemon-reload",
            "enable --now cridge-rollback.timer",
            "restart containerd.service",
            "enable cridge.service",
            "restart cridge.service",
            "restart kubelet.service"
        ]
    );
    assert!(files.text(CONTAINERD).contains("io.containerd.grpc.v1.cri"));
    assert!(files.text(CONFIG).contains(MINE) && files.text(INSTANCE).contains(MINE));
    assert!(files.text("units/cridge-rollback.service").contains("/usr/bin/cridge node rollback --apply"));
    assert!(files.text("units/cridge-rollback.timer").contains("OnActiveSec=60"));
    node.roll_back().await.unwrap();
    assert_eq!(was, [CONTAINERD, FLAGS, CONFIG, INSTANCE].map(|path| files.text(path)));
    assert_eq!(
        files.told(),
        [
            "disable --now cridge.service",
            "restart containerd.service",
            "restart kubelet.service",
            "disable --now cridge-rollback.timer",
            "daemon-reload"
        ]
    );
    assert_eq!(fs::read_dir(files.path("units")).unwrap().count(), 0);
    assert!(matches!(node.roll_back().await, Err(SwitchError::NotSwitched { .. })));
}

#[tokio::test]
async fn what_fails_is_taken_back_at_once() {
    let files = new_kubeadm();
    let was = [CONTAINERD, CONFIG].map(|path| files.text(path));
    files.failing("restart cridge.service");
    let plan = files.plan(Some((USUAL, false))).unwrap();
    let error = files.node().switch(&plan, Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(&error, SwitchError::TakenBack { why } if why.contains("it does not start")), "{error}");
    assert_eq!(was, [CONTAINERD, CONFIG].map(|path| files.text(path)));
    assert!(!files.path(RECORD).exists());
}

#[tokio::test]
async fn a_rollback_goes_on_past_what_fails_and_can_be_repeated() {
    let files = new_kubeadm();
    let node = files.node();
    node.switch(&files.plan(Some((USUAL, false))).unwrap(), Duration::from_secs(60)).await.unwrap();
    files.failing("restart containerd.service");
    assert!(matches!(node.roll_back().await, Err(SwitchError::Partly { .. })));
    assert!(files.told().contains(&"restart kubelet.service".to_owned()));
    assert_eq!(files.text(CONTAINERD), "version = 3\n");
    files.failing("nothing");
    node.roll_back().await.unwrap();
    assert!(!files.path(RECORD).exists());
}

#[test]
fn a_file_that_was_changed_meanwhile_keeps_that() {
    let files = Files::new(&[
        (CONTAINERD, "version = 3\n"),
        (FLAGS, "A=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock\"\n"),
    ]);
    let plan = files.plan(Some((USUAL, true))).unwrap();
    plan.changes.iter().for_each(|change| change.make().unwrap());
    for path in [CONTAINERD, FLAGS] {
        fs::write(files.path(path), format!("{}# mine\n", files.text(path))).unwrap();
    }
    plan.changes.iter().for_each(|change| change.take_back(&plan).unwrap());
    assert_eq!(files.text(CONTAINERD), "disabled_plugins = []\nversion = 3\n# mine\n");
    assert_eq!(
        files.text(FLAGS),
        "A=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock\"\n# mine\n"
    );
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let files = Files::new(&[(CONFIG, "a: b\n")]);
    let plan = files.plan(Some((USUAL, false))).unwrap();
    plan.changes.iter().for_each(|change| change.make().unwrap());
    assert_eq!(files.text(CONFIG), format!("a: b\ncontainerRuntimeEndpoint: {MINE}\n"));
    plan.changes.iter().for_each(|change| change.take_back(&plan).unwrap());
    assert!(!files.path(CONTAINERD).exists());
    assert_eq!(files.text(CONFIG), "a: b\n");
}

#[test]
fn a_kubelet_that_is_told_elsewhere_is_not_switched() {
    let files = new_kubeadm();
    let error = files.plan(Some((USUAL, true))).unwrap_err();
    assert!(matches!(error, SwitchError::Elsewhere { .. }), "{error}");
    let without = files.plan(None).unwrap();
    assert_eq!(without.changes.iter().map(|change| change.file).collect::<Vec<_>>(), [Role::Containerd]);
}

#[test]
fn a_record_keeps_everything() {
    let files = Files::new(&[]);
    let change = Change { path: "/x".into(), file: Role::Flags, was: None, is: "y".into() };
    let record = Record { cridge: MINE.into(), before: String::new(), kubelet: true, changes: vec![change] };
    let path = files.path(RECORD);
    record.save(&path).unwrap();
    assert_eq!(Record::load(&path).unwrap(), record);
    fs::write(&path, "{").unwrap();
    assert!(matches!(Record::load(&path), Err(SwitchError::Record { .. })));
}
