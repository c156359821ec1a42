//! Pods with user ids of their own: root inside is nobody in particular on the node.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_cri::v1::NamespaceMode;
use rustix::process::Signal;
use tonic::Code;

use crate::cases;
use crate::harness::{BUSYBOX, Case, ContainerBuilder, NodeOptions, PodBuilder, Test};

pub fn cases() -> Vec<Case> {
    cases!["users": ; cridge only:
        root_inside_is_not_root_on_the_node,
        the_root_and_the_pods_files_belong_to_the_pods_root,
        any_user_opens_its_streams_again,
        the_network_belongs_to_the_pod,
        volumes_are_seen_with_the_pods_ids,
        volumes_of_the_image_are_seen_with_the_pods_ids,
        an_image_as_a_volume_is_seen_with_the_pods_ids,
        beside_the_nodes_network,
        containers_are_created_and_started_after_a_death_of_cridge,
        what_cannot_be_mapped_is_refused_by_its_field,
        a_runtime_without_idmapped_mounts_is_named,
    ]
}

/// The first id of the pods' root, on the node.
const ROOT: u32 = 200_000;
const LENGTH: u32 = 65_536;

fn mapping(host_id: u32) -> Vec<cri::IdMapping> {
    vec![cri::IdMapping { host_id, container_id: 0, length: LENGTH }]
}

/// A pod whose uids and gids are its own.
fn pod(t: &Test) -> PodBuilder {
    in_own_users(t.pod())
}

pub fn in_own_users(pod: PodBuilder) -> PodBuilder {
    pod.namespaces(|namespaces| {
        namespaces.userns_options = Some(cri::UserNamespace {
            mode: NamespaceMode::Pod as i32,
            uids: mapping(ROOT),
            gids: mapping(ROOT),
        });
    })
}

/// The volume's mappings, as the kubelet sends them.
fn mapped(mount: &mut cri::Mount) {
    (mount.uid_mappings, mount.gid_mappings) = (mapping(ROOT), mapping(ROOT));
}

async fn root_inside_is_not_root_on_the_node(t: Test) {
    let pod = pod(&t).run().await;
    let volume = t.folder().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let app = pod.container("app").mount_with(&volume, "/data", mapped).start().await;
    assert_eq!(app.sh("id -u; awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map").await, {
        let line = format!("0 {ROOT} {LENGTH}");
        format!("0\n{line}\n{line}")
    });
    let own = std::fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
    assert_ne!(app.sh("readlink /proc/self/ns/user").await, own);
    // A second container is in the same one.
    let other = pod.container("other").start().await;
    assert_eq!(other.sh("readlink /proc/1/ns/user").await, app.sh("readlink /proc/1/ns/user").await);
    // Seen from the node: the process that writes is the mapped root's.
    let pid = pid_of(&t, &app.id).await;
    let process = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((process.uid(), process.gid()), (ROOT, ROOT));
    app.stop(0).await;
    pod.stop().await;
}

/// A container's process, by the verbose status.
async fn pid_of(t: &Test, id: &str) -> u64 {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let info = t.node().runtime().container_status(request).await.unwrap().into_inner().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    info["pid"].as_u64().expect("a pid")
}

async fn the_root_and_the_pods_files_belong_to_the_pods_root(t: Test) {
    let pod = pod(&t).run().await;
    let app = pod.container("app").start().await;
    for path in ["/", "/bin", "/bin/sh", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm"] {
        assert_eq!(app.sh(&format!("stat -c %u:%g {path}")).await, "0:0", "{path}");
    }
    // A fresh file, one of a lower layer, and those of the pod can be changed.
    app.sh("echo fresh >/fresh && chown 1000:1000 /fresh && chmod 700 /bin && echo '1.2.3.4 x' >>/etc/hosts")
        .await;
    app.sh("echo shared >/dev/shm/file && [ $(stat -c %u /fresh) = 1000 ]").await;
    // What another pod sees of the same image is as before.
    let plain = t.pod().run().await.container("app").start().await;
    assert_eq!(plain.sh("stat -c '%u %a' /bin").await, "0 755");
}

async fn any_user_opens_its_streams_again(t: Test) {
    let pod = pod(&t).run().await;
    const SCRIPT: &str = "echo by $(id -u) >/dev/stdout; echo too >>/proc/self/fd/2";
    for user in [0, 1234] {
        let app = pod.container(&format!("by-{user}")).shell(SCRIPT);
        let app = app.security(|security| security.run_as_user = Some(cri::Int64Value { value: user }));
        let app = app.start().await;
        app.exited().await;
        let mut lines: Vec<_> = app.log().into_iter().map(|line| line.text).collect();
        lines.sort();
        assert_eq!(lines, [format!("by {user}"), "too".into()]);
    }
}

/// Over a network that is another user namespace's, the capability gives nothing.
fn network_admin(app: ContainerBuilder) -> ContainerBuilder {
    app.security(|security| {
        let capabilities = security.capabilities.get_or_insert_default();
        capabilities.add_capabilities = vec!["NET_ADMIN".into()];
    })
}

async fn the_network_belongs_to_the_pod(t: Test) {
    let pod = pod(&t)
        .linux(|linux| drop(linux.sysctls.insert("net.ipv4.ip_default_ttl".into(), "77".into())))
        .run()
        .await;
    let app = pod.container("app").shell("while :; do echo served | nc -l -p 80; done");
    let app = network_admin(app).start().await;
    assert_eq!(app.sh("cat /proc/sys/net/ipv4/ip_default_ttl; ls /sys/class/net").await, "77\neth0\nlo");
    app.sh("ip addr add 10.9.9.9/32 dev lo").await;
    let address = format!("{}:80", pod.ip().await);
    let served = crate::harness::until("the port is served", || {
        let address = address.clone();
        async move {
            use tokio::io::AsyncReadExt as _;
            let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            Some(text)
        }
    });
    assert_eq!(served.await, "served\n");
    // What is read for the pod from outside is read here, too.
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = t.node().runtime().pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    let linux = stats.linux.unwrap();
    assert_eq!(linux.network.unwrap().default_interface.unwrap().name, "eth0");
    assert!(linux.process.unwrap().process_count.unwrap().value >= 1);
}

async fn volumes_are_seen_with_the_pods_ids(t: Test) {
    let volume = t.folder().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("of-root"), "").unwrap();
    std::os::unix::fs::chown(volume.join("of-root"), Some(0), Some(33)).unwrap();
    let pod = pod(&t).run().await;
    let app = pod.container("app").mount_with(&volume, "/data", mapped).mount(&volume, "/plain");
    let app = app.start().await;
    assert_eq!(app.sh("stat -c %u:%g /data/of-root").await, "0:33");
    // Without mappings, the node's root is nobody here.
    assert_eq!(app.sh("stat -c %u:%g /plain/of-root").await, "65534:65534");
    app.sh("echo text >/data/made && chown 7:8 /data/made && ! echo text >/plain/made").await;
    let made = std::fs::metadata(volume.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8));
}

async fn volumes_of_the_image_are_seen_with_the_pods_ids(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/configured:1";
    t.node().pull(IMAGE).await;
    let app = pod(&t).run().await.container("app").image(IMAGE).start().await;
    // As the image has them: the same as in a pod with the node's ids.
    let plain = t.pod().run().await.container("app").image(IMAGE).start().await;
    const OWNERS: &str = "stat -c '%u:%g %a' /srv/data /srv/data/from-image";
    assert_eq!(app.sh(OWNERS).await, plain.sh(OWNERS).await);
    assert_eq!(app.sh("cat /srv/data/from-image").await, "what the image has below its volume");
}

async fn an_image_as_a_volume_is_seen_with_the_pods_ids(t: Test) {
    const CONFIGURED: &str = "docker.io/cridge-tests/configured:1";
    t.node().pull(CONFIGURED).await;
    let pod = pod(&t).run().await;
    for (name, image) in [("one-layer", BUSYBOX), ("layers", CONFIGURED)] {
        let app = pod.container(name).mount_with("", "/image", |mount| {
            mapped(mount);
            mount.image = Some(cri::ImageSpec { image: image.into(), ..Default::default() });
            mount.readonly = true;
        });
        let app = app.start().await;
        assert_eq!(app.sh("stat -c %u:%g /image/bin /image/bin/busybox").await, "0:0\n0:0", "{name}");
        app.sh("! touch /image/file").await;
    }
}

async fn beside_the_nodes_network(t: Test) {
    let pod = pod(&t).host_network().run().await;
    let app = network_admin(pod.container("app")).start().await;
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(app.sh("readlink /proc/self/ns/net").await, own);
    assert!(app.sh("ls /sys/class/net").await.contains(&t.node().bridge));
    assert_eq!(app.sh("cut -c1-30 /proc/self/uid_map | awk '{print $2}'").await, ROOT.to_string());
    app.sh("! ip addr add 10.9.9.9/32 dev lo").await;
}

async fn containers_are_created_and_started_after_a_death_of_cridge(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = in_own_users(t.pod_on(&node)).run().await;
    let running = pod.container("running").start().await;
    let created = pod.container("created").create().await;
    node.end(Signal::KILL).await;
    node.start().await;
    created.start().await;
    let fresh = pod.container("fresh").start().await;
    for app in [&running, &created, &fresh] {
        assert_eq!(app.sh("stat -c %u:%g / /bin").await, "0:0\n0:0");
    }
    pod.remove().await;
}

async fn what_cannot_be_mapped_is_refused_by_its_field(t: Test) {
    const AT: &str = "config.linux.security_context.";
    type Spoil = fn(&mut cri::NamespaceOption);
    let spoils: [(&str, Spoil); 6] = [
        ("namespace_options.userns_options.gids", |o| o.userns_options.as_mut().unwrap().gids.clear()),
        ("namespace_options.userns_options.uids", |o| {
            let uids = &mut o.userns_options.as_mut().unwrap().uids;
            *uids = [mapping(ROOT), mapping(2 * ROOT)].concat();
        }),
        ("namespace_options.userns_options.uids", |o| {
            o.userns_options.as_mut().unwrap().uids[0].container_id = 1;
        }),
        ("namespace_options.userns_options", |o| {
            o.userns_options.as_mut().unwrap().mode = NamespaceMode::Node as i32;
        }),
        ("namespace_options.pid", |o| o.pid = NamespaceMode::Node as i32),
        ("namespace_options.ipc", |o| o.ipc = NamespaceMode::Node as i32),
    ];
    for (field, spoil) in spoils {
        let refused = pod(&t).namespaces(spoil).try_run().await.map(|pod| pod.id).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(&format!("{AT}{field}: ")), "should name {field}: {refused:?}");
    }
    let pod = pod(&t).run().await;
    let stranger = pod.container("stranger").security(|security| {
        security.run_as_user = Some(cri::Int64Value { value: i64::from(LENGTH) });
    });
    let elsewhere = pod.container("elsewhere").security(|security| {
        security.namespace_options.get_or_insert_default().userns_options = None;
    });
    for (container, field) in [(stranger, "run_as_user"), (elsewhere, "namespace_options.userns_options")] {
        let refused = container.try_create().await.map(|made| made.id).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(&format!("{AT}{field}: ")), "should name {field}: {refused:?}");
    }
}

async fn a_runtime_without_idmapped_mounts_is_named(t: Test) {
    let configure = |_: &Path, config: &mut String| {
        let runc = crate::harness::runc("1.1");
        config.push_str(&format!(
            "\n[runtime.handlers.old]\noptions = {{ BinaryName = \"{}\" }}\n",
            runc.display()
        ));
    };
    let options = NodeOptions { configure: Some(configure), ..Default::default() };
    let node = t.own_node(options).await;
    let status = node.runtime().status(cri::StatusRequest { verbose: true }).await.unwrap().into_inner();
    let can = |name: &str| {
        let handler = status.runtime_handlers.iter().find(|handler| handler.name == name).unwrap();
        handler.features.as_ref().unwrap().user_namespaces
    };
    assert_eq!(["", "runc", "old"].map(can), [true, true, false]);
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert_eq!(config["handlers"]["runc"]["userNamespaces"], true);
    let missing = config["handlers"]["old"]["userNamespaces"].as_str().unwrap();
    assert!(missing.contains("runc has them from 1.2 on"), "{missing}");
    let mut pod = in_own_users(t.pod_on(&node));
    pod.handler = "old".into();
    let refused = pod.try_run().await.map(|pod| pod.id).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for word in ["userns_options", "\"old\"", "idmapped mounts; runc has them from 1.2 on"] {
        assert!(refused.message().contains(word), "should say {word}: {refused:?}");
    }
    // The same handler runs other pods.
    let mut plain = t.pod_on(&node);
    plain.handler = "old".into();
    plain.run().await.remove().await;
}
