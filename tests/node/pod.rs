//! The pod as the books describe it: what its containers share, what they do not, and what the world sees of it.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;

use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};

use crate::cases;
use crate::harness::cgroups::Parent;
use crate::harness::{Case, Container, Shell, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["pod":
        containers_share_hostname_and_localhost,
        containers_share_ipc_network_and_uts_but_not_files_and_processes,
        a_volume_outlives_a_containers_restart,
        the_ip_stays_over_container_restarts,
        two_pods_reach_each_other,
        a_host_port_answers,
        with_shared_pids_pause_is_the_first_process_and_reaps,
        resolv_conf_and_hosts_say_what_was_asked_for,
        without_dns_the_nodes_resolv_conf_is_taken,
        sysctls_are_set_in_the_pod_alone,
        a_stopped_pod_is_not_ready_and_its_containers_have_ended,
        a_running_pod_is_removed_with_its_containers,
        what_was_asked_for_is_told_verbatim,
        many_pods_at_once;
    cridge only:
        unprivileged_processes_may_listen_on_low_ports,
        nothing_is_created_in_a_stopped_pod,
        what_a_killed_runtime_left_of_the_pause_goes_with_the_pod,
    ]
}

/// Serves one page on a port.
const WEB: &str = "mkdir -p /w; hostname >/w/index.html; exec httpd -f -p 8080 -h /w";

/// Fetches a page from within a container, once it is served.
async fn fetch(from: &Container, url: &str) -> String {
    until(format!("{url} answers"), || async {
        let output = from.try_exec(&["wget", "-qO-", url], 0).await.unwrap();
        (output.code == 0).then(|| output.stdout.trim().to_owned())
    })
    .await
}

async fn containers_share_hostname_and_localhost(t: Test) {
    let pod = t.pod().run().await;
    let web = pod.container("web").shell(WEB).start().await;
    let client = pod.container("client").start().await;
    assert_eq!(web.sh("hostname; cat /etc/hostname").await, format!("{0}\n{0}", pod.config.hostname));
    assert_eq!(client.sh("hostname").await, pod.config.hostname);
    assert_eq!(fetch(&client, "http://localhost:8080/").await, pod.config.hostname);
}

async fn containers_share_ipc_network_and_uts_but_not_files_and_processes(t: Test) {
    let pod = t.pod().run().await;
    let (one, two) = (pod.container("one").start().await, pod.container("two").start().await);
    for (namespace, shared) in [("ipc", true), ("net", true), ("uts", true), ("mnt", false), ("pid", false)] {
        let link = format!("readlink /proc/1/ns/{namespace}");
        let (of_one, of_two) = (one.sh(&link).await, two.sh(&link).await);
        assert_eq!(of_one == of_two, shared, "{namespace}: {of_one} and {of_two}");
        let of_node = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(of_one, of_node.display().to_string());
    }
    one.sh("echo to my neighbour >/dev/shm/letter; echo mine >/tmp/letter").await;
    assert_eq!(two.sh("cat /dev/shm/letter; ls /tmp").await, "to my neighbour");
    // 64 MiB, and its usual rights.
    assert_eq!(two.sh("df -k /dev/shm | awk 'END { print $2 }'; stat -c %a /dev/shm").await, "65536\n1777");
}

async fn a_volume_outlives_a_containers_restart(t: Test) {
    let pod = t.pod().run().await;
    let volume = t.folder().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let write = "echo kept >/data/file; echo lost >/root/file";
    let first = pod.container("app").shell(write).mount(&volume, "/data").start().await;
    assert_eq!(first.exited().await.exit_code, 0);
    let again = pod.container("app").shell("cat /data/file; ls /root").mount(&volume, "/data");
    let again = again.with(|config| config.metadata.as_mut().unwrap().attempt = 1);
    assert_eq!(again.with(|config| config.log_path = "app/1.log".into()).output().await, "kept");
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "kept\n");
}

async fn the_ip_stays_over_container_restarts(t: Test) {
    let pod = t.pod().run().await;
    let ip = pod.ip().await;
    assert!(ip.starts_with(&t.node().subnet), "{ip} should be of {}0/24", t.node().subnet);
    for attempt in 0..2 {
        let app = pod.container("app").with(|config| config.metadata.as_mut().unwrap().attempt = attempt);
        let app = app.start().await;
        let inside = app.sh("ip -4 -o addr show eth0 | awk '{ sub(\"/.*\", \"\", $4); print $4 }'").await;
        assert_eq!(inside, ip);
        app.stop(10).await;
        app.remove().await;
        assert_eq!(pod.ip().await, ip);
    }
}

async fn two_pods_reach_each_other(t: Test) {
    let (one, two) = (t.pod(), t.pod());
    let (one, two) = tokio::join!(one.run(), two.run());
    let (ip_one, ip_two) = (one.ip().await, two.ip().await);
    assert_ne!(ip_one, ip_two);
    let web = one.container("web").shell(WEB).start().await;
    let other = two.container("web").shell(WEB).start().await;
    assert_eq!(fetch(&other, &format!("http://{ip_one}:8080/")).await, one.config.hostname);
    assert_eq!(fetch(&web, &format!("http://{ip_two}:8080/")).await, two.config.hostname);
}

async fn a_host_port_answers(t: Test) {
    let pod = t.pod().host_port(18080, 8080).run().await;
    pod.container("web").shell(WEB).start().await;
    let address = format!("{}1:18080", t.node().subnet);
    let page = until(format!("{address} answers"), || {
        let address = address.clone();
        async move { tokio::task::spawn_blocking(move || get(&address)).await.unwrap().ok() }
    })
    .await;
    assert!(page.ends_with(&format!("{}\n", pod.config.hostname)), "{page}");
    pod.stop().await;
    assert!(get(&address).is_err(), "the port of a stopped pod still answers");
}

fn get(address: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect_timeout(
        &address.parse().expect("an address"),
        std::time::Duration::from_secs(5),
    )?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

async fn with_shared_pids_pause_is_the_first_process_and_reaps(t: Test) {
    let pod = t.pod().shared_pids().run().await;
    // Whoever leaves orphans behind ends first: they are the first process' then.
    let parent = pod.container("parent").shell("for i in 1 2 3; do sleep 0.1 & done").start().await;
    parent.exited().await;
    let watcher = pod.container("watcher").start().await;
    assert_eq!(watcher.sh("cat /proc/1/comm").await, "pause");
    assert_ne!(watcher.sh("echo $$").await, "1");
    // More orphans, of a process that goes on living.
    watcher.sh("(sleep 0.1 & sleep 0.2 & ) & exec true").await;
    until("no zombie is left", || async {
        let states = watcher.sh("cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true").await;
        (states == "0").then_some(())
    })
    .await;
}

async fn resolv_conf_and_hosts_say_what_was_asked_for(t: Test) {
    let pod = t.pod().with(|config| {
        config.dns_config = Some(cri::DnsConfig {
            servers: vec!["10.9.8.7".into(), "10.9.8.6".into()],
            searches: vec!["one.example".into(), "two.example".into()],
            options: vec!["ndots:5".into()],
        });
    });
    let app = pod.run().await.container("app").start().await;
    let resolv = app.sh("cat /etc/resolv.conf").await;
    let mut lines: Vec<_> = resolv.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["nameserver 10.9.8.6", "nameserver 10.9.8.7", "options ndots:5", "search one.example two.example"]
    );
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(app.sh("cat /etc/hosts").await, hosts.trim_end_matches('\n'));
}

async fn without_dns_the_nodes_resolv_conf_is_taken(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    let of_node = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(app.sh("cat /etc/resolv.conf").await, of_node.trim_end_matches('\n'));
}

async fn sysctls_are_set_in_the_pod_alone(t: Test) {
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let pod = t.pod().linux(|linux| {
        linux.sysctls.insert("net.ipv4.ip_local_port_range".into(), "2000 2999".into());
        linux.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    });
    let app = pod.run().await.container("app").start().await;
    let values = app.sh("cd /proc/sys; cat net/ipv4/ip_local_port_range kernel/shm_rmid_forced").await;
    assert_eq!(values.split_whitespace().collect::<Vec<_>>(), ["2000", "2999", "1"]);
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap(), before);
}

async fn unprivileged_processes_may_listen_on_low_ports(t: Test) {
    let app = t.pod().run().await.container("app").start().await;
    assert_eq!(app.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await, "0");
    let range = app.sh("cat /proc/sys/net/ipv4/ping_group_range").await;
    assert_eq!(range.split_whitespace().collect::<Vec<_>>(), ["0", "2147483647"]);
}

async fn a_stopped_pod_is_not_ready_and_its_containers_have_ended(t: Test) {
    let pod = t.pod().run().await;
    let running = pod.container("running").start().await;
    let created = pod.container("created").create().await;
    let before = pod.status().await;
    assert_eq!(before.state(), PodSandboxState::SandboxReady);
    assert!(before.created_at > 0);
    pod.stop().await;
    let after = pod.status().await;
    assert_eq!(after.state(), PodSandboxState::SandboxNotready);
    assert_eq!(after.created_at, before.created_at);
    assert_eq!(pod.ip().await, "");
    let ended = running.exited().await;
    assert_eq!(ended.exit_code, 137, "{ended:?}");
    assert_ne!(created.state().await, ContainerState::ContainerRunning);
    pod.stop().await;
}

async fn nothing_is_created_in_a_stopped_pod(t: Test) {
    let pod = t.pod().run().await;
    let created = pod.container("created").create().await;
    pod.stop().await;
    let refused = pod.container("late").try_create().await.map(|made| made.id).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains(&pod.id), "should name the pod: {refused:?}");
    created.try_start().await.expect_err("its pod is stopped");
}

async fn a_running_pod_is_removed_with_its_containers(t: Test) {
    let pod = t.pod().run().await;
    let running = pod.container("running").start().await;
    let created = pod.container("created").create().await;
    let exited = pod.container("exited").shell("exit 3").start().await;
    exited.exited().await;
    pod.remove().await;
    assert_eq!(pod.try_status().await.unwrap_err().code(), tonic::Code::NotFound);
    for container in [running, created, exited] {
        assert_eq!(container.try_status().await.unwrap_err().code(), tonic::Code::NotFound);
    }
    // A repeat has nothing to do.
    pod.remove().await;
    pod.stop().await;
}

async fn what_was_asked_for_is_told_verbatim(t: Test) {
    let pod = t.pod().with(|config| {
        config.labels.insert("example.org/label".into(), "a value, with = and ünicode".into());
        config.annotations.insert("example.org/note".into(), "{\"any\":\n\"text\"}".into());
        config.metadata.as_mut().unwrap().attempt = 7;
    });
    let pod = pod.run().await;
    let status = pod.status().await;
    assert_eq!(status.id, pod.id);
    assert_eq!(pod.id.len(), 64);
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!(status.labels, pod.config.labels);
    assert_eq!(status.annotations, pod.config.annotations);
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    let asked = pod.config.linux.as_ref().unwrap().security_context.as_ref().unwrap();
    assert_eq!(Some(options), asked.namespace_options);
    let app = pod.container("app").with(|config| {
        config.annotations.insert("io.kubernetes.container.hash".into(), "abc".into());
        config.metadata.as_mut().unwrap().attempt = 3;
    });
    let app = app.shell(Shell::WAIT).mount(t.folder(), "/mnt").create().await;
    let status = app.status().await;
    assert_eq!(status.metadata, app.config.metadata);
    assert_eq!(status.labels, app.config.labels);
    assert_eq!(status.annotations, app.config.annotations);
    assert_eq!(status.log_path, app.log_file().display().to_string());
    let mount = &status.mounts[0];
    assert_eq!(
        (mount.host_path.as_str(), mount.container_path.as_str()),
        (t.folder().to_str().unwrap(), "/mnt")
    );
    assert!(status.created_at > 0 && status.started_at == 0 && status.finished_at == 0, "{status:?}");
    assert!(!status.image_ref.is_empty() && !status.image.unwrap().image.is_empty());
}

async fn many_pods_at_once(t: Test) {
    let builders: Vec<_> = (0..8).map(|_| t.pod()).collect();
    let pods = futures::future::join_all(builders.iter().map(|builder| builder.run())).await;
    let apps: Vec<_> = pods.iter().map(|pod| pod.container("app")).collect();
    let apps = futures::future::join_all(apps.iter().map(|app| app.start())).await;
    let mut ips = futures::future::join_all(pods.iter().map(|pod| pod.ip())).await;
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), pods.len(), "each has an address of its own: {ips:?}");
    for app in &apps {
        assert_eq!(app.state().await, ContainerState::ContainerRunning);
    }
    futures::future::join_all(pods.iter().map(|pod| pod.remove())).await;
}

async fn what_a_killed_runtime_left_of_the_pause_goes_with_the_pod(t: Test) {
    let parent = Parent::new(&t);
    let pod = t.pod().linux(|linux| linux.cgroup_parent = parent.name.clone()).run().await;
    pod.stop().await;
    let (mut process, left) = parent.left_by(&pod.id);
    until("the process is in its cgroup", async || {
        std::fs::read_to_string(left.join("cgroup.procs"))
            .is_ok_and(|members| !members.is_empty())
            .then_some(())
    })
    .await;
    pod.remove().await;
    assert!(!left.exists());
    assert_eq!(process.wait().await.unwrap().signal(), Some(9));
    parent.remove();
}
