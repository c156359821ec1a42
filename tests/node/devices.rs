//! Devices of vendors' files (CDI) and classes of block I/O and RDT, as a container has them.

use std::path::Path;
use std::sync::Arc;

use k8s_cri::v1 as cri;
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{Case, ContainerBuilder, Node, NodeOptions, Test, assert_field};

pub fn cases() -> Vec<Case> {
    cases!["devices": ; cridge only:
        a_container_has_what_its_devices_ask_for,
        annotations_name_devices_too,
        a_changed_file_counts_at_once,
        devices_that_cannot_be_had,
        devices_that_are_switched_off,
        classes_that_the_node_has_not,
        a_class_of_block_io_is_in_the_spec,
    ]
}

/// A node with folders of its own: `cdi-a`, and `cdi-b` which beats it.
async fn node(t: &Test) -> Arc<Node> {
    let configure = |dir: &Path, config: &mut String| {
        let [a, b] = ["cdi-a", "cdi-b"].map(|name| dir.join(name));
        std::fs::create_dir(&a).unwrap();
        set(config, &format!("cdi_spec_dirs = [{a:?}, {b:?}]"));
    };
    t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await
}

/// Adds a line to the configuration of the runtime.
fn set(config: &mut String, line: &str) {
    *config = match config.contains("[runtime]\n") {
        true => config.replace("[runtime]\n", &format!("[runtime]\n{line}\n")),
        false => format!("{config}\n[runtime]\n{line}\n"),
    };
}

/// Writes a file with one device.
fn write(node: &Node, file: &str, device: &str, edits: &str) {
    let text = format!(
        "cdiVersion: 0.7.0\nkind: vendor.example/thing\ncontainerEdits: {{env: [\"FILE={file}\"]}}\n\
         devices:\n- name: {device}\n  containerEdits: {edits}\n"
    );
    let file = node.dir.join(file);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

fn asking(app: ContainerBuilder, devices: &[&str]) -> ContainerBuilder {
    let devices =
        devices.iter().map(|device| cri::CdiDevice { name: format!("vendor.example/thing={device}") });
    let devices: Vec<_> = devices.collect();
    app.with(|config| config.cdi_devices = devices)
}

async fn a_container_has_what_its_devices_ask_for(t: Test) {
    let node = node(&t).await;
    std::fs::write(t.folder().join("letter"), "for the device\n").unwrap();
    let edits = format!(
        "{{env: [\"THING=one\"], deviceNodes: [{{path: /dev/thing, hostPath: /dev/fuse, permissions: rw}}], \
          mounts: [{{hostPath: {}, containerPath: /opt/letter, options: [ro, bind]}}], additionalGids: [4242]}}",
        t.folder().join("letter").display()
    );
    write(&node, "cdi-a/one.yaml", "one", &edits);
    let pod = t.pod_on(&node).run().await;
    let app = asking(pod.container("app"), &["one"]).start().await;
    assert_eq!(app.sh("echo $THING $FILE").await, "one cdi-a/one.yaml");
    assert_eq!(app.sh("cat /opt/letter").await, "for the device");
    assert_eq!(app.sh("[ -c /dev/thing ] && stat -c %t:%T /dev/thing").await, "a:e5");
    assert!(app.sh("id -G").await.split(' ').any(|group| group == "4242"));
    // The cgroup's rules let it be opened.
    app.sh("exec 3<>/dev/thing").await;
    let plain = pod.container("plain").start().await;
    assert_eq!(plain.sh("echo ${THING:-none}; [ -e /dev/thing ] || echo none").await, "none\nnone");
}

async fn annotations_name_devices_too(t: Test) {
    let node = node(&t).await;
    write(&node, "cdi-a/one.json", "one", "{env: [\"ONE=1\"]}");
    write(&node, "cdi-a/two.yaml", "two", "{env: [\"TWO=2\"]}");
    let pod = t.pod_on(&node).run().await;
    // As the kubelet does for a device plugin: in the field, and in an annotation as well.
    let app = asking(pod.container("app"), &["one"]).with(|config| {
        let value = "vendor.example/thing=one,vendor.example/thing=two";
        config.annotations.insert("cdi.k8s.io/plugin_id".into(), value.into());
    });
    assert_eq!(app.start().await.sh("echo $ONE $TWO").await, "1 2");
}

async fn a_changed_file_counts_at_once(t: Test) {
    let node = node(&t).await;
    write(&node, "cdi-a/one.yaml", "one", "{env: [\"THING=old\"]}");
    let pod = t.pod_on(&node).run().await;
    let thing = async |name: &str| {
        let app = asking(pod.container(name), &["one"]).start().await;
        app.sh("echo $THING $FILE").await
    };
    assert_eq!(thing("first").await, "old cdi-a/one.yaml");
    // A later folder's counts, and one that was not there before.
    write(&node, "cdi-b/other.yaml", "one", "{env: [\"THING=new\"]}");
    assert_eq!(thing("second").await, "new cdi-b/other.yaml");
    write(&node, "cdi-b/other.yaml", "one", "{env: [\"THING=newest\"]}");
    assert_eq!(thing("third").await, "newest cdi-b/other.yaml");
    std::fs::remove_dir_all(node.dir.join("cdi-b")).unwrap();
    assert_eq!(thing("fourth").await, "old cdi-a/one.yaml");
}

async fn refused(app: &ContainerBuilder) -> Status {
    app.try_create().await.map(|made| made.id).unwrap_err()
}

async fn devices_that_cannot_be_had(t: Test) {
    let node = node(&t).await;
    let pod = t.pod_on(&node).run().await;
    let folders = ["cdi-a", "cdi-b"].map(|name| node.dir.join(name).display().to_string());
    let fails = async |device: &str, words: &[&str]| {
        let error = refused(&asking(pod.container("app"), &[device])).await;
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        for word in ["config.CDI_devices[0].name", "vendor.example/thing", device].iter().chain(words) {
            assert!(error.message().contains(word), "should name {word}: {error:?}");
        }
    };
    fails("one", &[&folders[0], &folders[1]]).await;
    write(&node, "cdi-a/one.yaml", "one", "{env: [\"A=1\"], novel: 1}");
    fails("one", &[&folders[0], "one.yaml", "novel"]).await;
    write(&node, "cdi-a/one.yaml", "one", "{deviceNodes: [{path: /dev/no-such-thing}]}");
    fails("one", &["one.yaml", "/dev/no-such-thing"]).await;
    write(&node, "cdi-a/two.yaml", "one", "{env: [\"A=1\"]}");
    fails("one", &["one.yaml", "two.yaml"]).await;
    let long = "x".repeat(1 << 20);
    for name in ["", "foobar", "v/c=", "/dev/null", "v/c=a\0b", long.as_str()] {
        let name = name.to_owned();
        let app = pod.container("app").with(|config| config.cdi_devices = vec![cri::CdiDevice { name }]);
        assert_field(&refused(&app).await, "config.CDI_devices[0].name");
    }
    let app = pod.container("app").with(|config| {
        config.annotations.insert("cdi.k8s.io/plugin".into(), "foobar".into());
    });
    assert_field(&refused(&app).await, "cdi.k8s.io/plugin");
    // The name of the container is free after all of that.
    std::fs::remove_file(node.dir.join("cdi-a/one.yaml")).unwrap();
    assert_eq!(asking(pod.container("app"), &["one"]).start().await.sh("echo $A").await, "1");
}

async fn devices_that_are_switched_off(t: Test) {
    let configure = |_: &Path, config: &mut String| set(config, "enable_cdi = false");
    let node = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let error = refused(&asking(pod.container("app"), &["one"])).await;
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
    assert!(error.message().contains("enable_cdi"), "{error:?}");
    pod.container("app").start().await;
}

async fn classes_that_the_node_has_not(t: Test) {
    let pod = t.pod().run().await;
    // The tests' nodes have no resctrl.
    for (key, word) in
        [("io.kubernetes.cri.rdt-class", "RDT"), ("io.kubernetes.cri.blockio-class", "blockio_config_file")]
    {
        let app =
            pod.container("app").with(|config| drop(config.annotations.insert(key.into(), "gold".into())));
        let error = refused(&app).await;
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        assert!(error.message().contains(key) && error.message().contains(word), "{error:?}");
    }
    let key = "rdt.resources.beta.kubernetes.io/container.app";
    let pod = t.pod().with(|config| drop(config.annotations.insert(key.into(), "gold".into()))).run().await;
    let error = refused(&pod.container("app")).await;
    assert!(error.message().contains(key), "{error:?}");
    pod.container("other").start().await;
}

async fn a_class_of_block_io_is_in_the_spec(t: Test) {
    let configure = |dir: &Path, config: &mut String| {
        let file = dir.join("blockio.yaml");
        std::fs::write(&file, "Classes:\n  slow:\n  - Devices: [/dev/no-such-disk]\n    Weight: 50\n")
            .unwrap();
        set(config, &format!("blockio_config_file = {file:?}\nignore_rdt_not_enabled_errors = true"));
    };
    let node = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let of = |class: &str| {
        let class = class.to_owned();
        pod.container("app").with(|config| {
            config.annotations.insert("io.kubernetes.cri.blockio-class".into(), class);
            config.annotations.insert("io.kubernetes.cri.rdt-class".into(), "gold".into());
        })
    };
    let error = refused(&of("fast")).await;
    assert!(error.message().contains("fast") && error.message().contains("slow"), "{error:?}");
    let app = of("slow").start().await;
    let spec = app.spec().await;
    assert!(spec["linux"]["resources"]["blockIO"].is_object(), "{spec}");
    assert!(spec["linux"]["intelRdt"].is_null(), "{spec}");
}
