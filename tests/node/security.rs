//! What the spec is for, seen from inside: users, capabilities, seccomp, devices, mounts, limits.

use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{MountPropagation, SupplementalGroupsPolicy};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::cases;
use crate::harness::cgroups::{self, Parent};
use crate::harness::{Case, Container, ContainerBuilder, Test, on_cridge};

pub fn cases() -> Vec<Case> {
    cases!["security":
        a_user_gets_the_groups_of_the_image,
        a_strict_policy_leaves_the_images_groups_out,
        a_user_by_name,
        the_images_user_and_folder_and_environment,
        capabilities,
        privileged,
        privileged_needs_a_privileged_pod,
        no_new_privileges,
        a_read_only_root,
        masked_and_read_only_paths,
        seccomp_profiles,
        devices,
        resources_are_in_the_cgroup,
        oom_score_adj,
        environment_and_working_dir,
        a_terminal,
        read_only_mounts,
        mounts_of_the_node_reach_the_container,
        mounts_of_the_container_reach_the_node,
        volumes_of_the_image_have_its_content,
        a_pod_cgroup_is_the_parent;
    cridge only:
        a_missing_host_path_of_a_mount_is_made,
    ]
}

/// What a container of the usual image prints.
async fn printed(
    t: &Test,
    script: &str,
    change: impl FnOnce(ContainerBuilder) -> ContainerBuilder,
) -> String {
    let pod = t.pod().run().await;
    // One stream, so that the lines stay in their order.
    change(pod.container("app").shell(&format!("exec 2>&1; {script}"))).output().await
}

fn id(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

/// The numbers that `id -G` prints, in order.
fn groups(line: &str) -> Vec<u32> {
    let mut groups: Vec<u32> = line.split(' ').map(|group| group.parse().expect("a number")).collect();
    groups.sort_unstable();
    groups
}

const WHO: &str = "id -u; id -g; id -G";

async fn a_user_gets_the_groups_of_the_image(t: Test) {
    let who = printed(&t, WHO, |app| {
        app.security(|security| {
            security.run_as_user = id(1000);
            security.supplemental_groups = vec![4242];
        })
    })
    .await;
    let lines: Vec<_> = who.lines().collect();
    assert_eq!(lines[..2], ["1000", "1000"]);
    assert_eq!(groups(lines[2]), [1000, 4242, 50000]);
    let unlisted = printed(&t, WHO, |app| {
        app.security(|security| (security.run_as_user, security.run_as_group) = (id(4001), id(4002)))
    })
    .await;
    assert_eq!(unlisted, "4001\n4002\n4002");
}

async fn a_strict_policy_leaves_the_images_groups_out(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").security(|security| {
        security.run_as_user = id(1000);
        security.supplemental_groups = vec![4242];
        security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
    });
    if t.node().release.starts_with("1.") && !on_cridge() {
        return;
    }
    let app = app.start().await;
    assert_eq!(groups(&app.sh("id -G").await), [1000, 4242]);
    // And so it is told.
    let user = app.status().await.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 4242]));
}

async fn a_user_by_name(t: Test) {
    let who = printed(&t, WHO, |app| app.security(|security| security.run_as_username = "www-data".into()));
    assert_eq!(who.await, "33\n33\n33");
    let pod = t.pod().run().await;
    let nobody = pod.container("app").security(|security| security.run_as_username = "no-such-user".into());
    let refused = nobody.try_create().await.map(|made| made.id).unwrap_err();
    assert!(!on_cridge() || refused.message().contains("no-such-user"), "should name the user: {refused:?}");
}

async fn the_images_user_and_folder_and_environment(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/configured:1";
    t.node().pull(IMAGE).await;
    let pod = t.pod().run().await;
    let app = pod.container("app").image(IMAGE).image_command().start().await;
    app.logs("/srv/work").await;
    let log = app.log_text();
    assert!(log.starts_with("hello from the image\nuid=1000(default-user) gid=1000(default-user)"), "{log}");
    assert!(log.ends_with("/srv/work"), "{log}");
    // Arguments replace the image's command alone.
    let args = pod.container("args").image(IMAGE).image_command();
    let args = args.with(|config| config.args = vec!["echo only $GREETING".into()]);
    assert_eq!(args.output().await, "only hello from the image");
}

/// A set of capabilities, as the kernel prints it.
async fn capabilities_of(container: &Container, set: &str) -> u64 {
    let line = container.sh(&format!("grep {set}: /proc/1/status")).await;
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
}

/// What a file of containerd's process says.
fn of_containerd(t: &Test, file: &str) -> String {
    let pid = std::fs::read_to_string(t.node().dir.join("containerd.pid")).unwrap();
    std::fs::read_to_string(format!("/proc/{}/{file}", pid.trim())).unwrap()
}

/// The set in effect of containerd's process: nobody's here is larger.
fn capabilities_of_containerd(t: &Test) -> u64 {
    let status = of_containerd(t, "status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap()
}

async fn capabilities(t: Test) {
    // CAP_SYS_ADMIN and CAP_CHOWN, by their bits.
    const SYS_ADMIN: u64 = 1 << 21;
    const CHOWN: u64 = 1;
    // The fourteen that docker has made the usual ones.
    const USUAL: u64 = 0xa80425fb;
    let pod = t.pod().run().await;
    let with = |name: &str, add: &[&str], drop: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (add_capabilities, drop_capabilities) = (words(add), words(drop));
        let app = pod.container(name).security(|security| {
            security.capabilities =
                Some(cri::Capability { add_capabilities, drop_capabilities, ..Default::default() });
        });
        async move { app.start().await }
    };
    let usual = with("usual", &[], &[]).await;
    assert_eq!(capabilities_of(&usual, "CapEff").await, USUAL);
    assert_eq!(capabilities_of(&usual, "CapBnd").await, USUAL);
    assert_eq!(capabilities_of(&usual, "CapInh").await, 0);
    let changed = with("changed", &["SYS_ADMIN"], &["chown"]).await;
    assert_eq!(capabilities_of(&changed, "CapEff").await, (USUAL | SYS_ADMIN) & !CHOWN);
    let one = with("one", &["SYS_ADMIN"], &["ALL"]).await;
    assert_eq!(capabilities_of(&one, "CapBnd").await, SYS_ADMIN);
    // A user other than root has none in effect.
    let user = pod.container("user").security(|security| security.run_as_user = id(1000)).start().await;
    assert_eq!(capabilities_of(&user, "CapEff").await, 0);
}

async fn privileged(t: Test) {
    let pod = t.pod().security(|security| security.privileged = true).run().await;
    let app = pod.container("app").security(|security| security.privileged = true).start().await;
    assert_eq!(capabilities_of(&app, "CapEff").await, capabilities_of_containerd(&t));
    // The node's devices, a writable /sys and /proc/sys, nothing masked, no seccomp.
    app.sh("[ -c /dev/fuse ] && [ -c /dev/kmsg ] && head -c 0 /dev/kmsg").await;
    app.sh("[ -w /sys/kernel/uevent_seqnum ] || mount | grep '^sysfs' | grep -q rw").await;
    assert_eq!(app.sh("mount | grep -c ' /proc/' || true").await, "0");
    assert_eq!(app.sh("awk '/^Seccomp:/ { print $2 }' /proc/1/status").await, "0");
    app.sh("mkdir /m && mount -t tmpfs none /m && umount /m").await;
}

async fn privileged_needs_a_privileged_pod(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").security(|security| security.privileged = true);
    app.try_create().await.map(|made| made.id).expect_err("its pod is not privileged");
}

async fn no_new_privileges(t: Test) {
    const STATUS: &str = "awk '/^NoNewPrivs:/ { print $2 }' /proc/self/status";
    assert_eq!(printed(&t, STATUS, |app| app).await, "0");
    assert_eq!(printed(&t, STATUS, |app| app.security(|s| s.no_new_privs = true)).await, "1");
}

async fn a_read_only_root(t: Test) {
    let script = "touch /file && echo root written; touch /mnt/file && echo mount written; touch /dev/shm/x && echo shm";
    let folder = t.folder().to_owned();
    let log =
        printed(&t, script, |app| app.mount(folder, "/mnt").security(|s| s.readonly_rootfs = true)).await;
    assert!(log.contains("Read-only file system"), "{log}");
    assert!(log.ends_with("mount written\nshm"), "{log}");
}

async fn masked_and_read_only_paths(t: Test) {
    let script = "wc -c </proc/timer_list; ls /proc/irq | wc -l; echo 1 >/proc/sys/kernel/core_uses_pid";
    let masked = printed(&t, script, |app| {
        app.security(|security| {
            security.masked_paths = vec!["/proc/timer_list".into(), "/proc/irq".into()];
            security.readonly_paths = vec!["/proc/sys".into()];
        })
    })
    .await;
    assert!(masked.starts_with("0\n0\n"), "{masked}");
    assert!(masked.contains("Read-only file system"), "{masked}");
}

async fn seccomp_profiles(t: Test) {
    const MODE: &str =
        "awk '/^Seccomp:/ { print $2 }' /proc/self/status; mkdir /made 2>/dev/null && echo made";
    let profile = |kind: ProfileType, file: &Path| {
        Some(cri::SecurityProfile { profile_type: kind as i32, localhost_ref: file.display().to_string() })
    };
    let none = Path::new("");
    let unconfined = profile(ProfileType::Unconfined, none);
    assert_eq!(printed(&t, MODE, |app| app.security(|s| s.seccomp = unconfined)).await, "0\nmade");
    let default = profile(ProfileType::RuntimeDefault, none);
    assert_eq!(printed(&t, MODE, |app| app.security(|s| s.seccomp = default)).await, "2\nmade");
    let file = t.folder().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&file, text).unwrap();
    let own = profile(ProfileType::Localhost, &file);
    assert_eq!(printed(&t, MODE, |app| app.security(|s| s.seccomp = own)).await, "2");
    let missing = profile(ProfileType::Localhost, &t.folder().join("missing.json"));
    let pod = t.pod().run().await;
    let refused = pod.container("app").security(|s| s.seccomp = missing).try_create().await;
    let refused = refused.map(|made| made.id).unwrap_err();
    assert!(refused.message().contains("missing.json"), "should name the file: {refused:?}");
}

async fn devices(t: Test) {
    let device = |host: &str, inside: &str, permissions: &str| cri::Device {
        host_path: host.into(),
        container_path: inside.into(),
        permissions: permissions.into(),
    };
    let script = "stat -c '%F %t %T' /dev/mine; ls /dev/fuse; head -c 0 /dev/mine && echo read";
    let log = printed(&t, script, |app| {
        app.with(|config| config.devices = vec![device("/dev/fuse", "/dev/mine", "rw")])
    })
    .await;
    assert!(log.starts_with("character special file a e5"), "{log}");
    assert!(log.contains("No such file"), "only where it was asked for: {log}");
    // What was not given cannot be used even by its numbers.
    let made = printed(&t, "mknod /dev/other c 10 229 && head -c 1 /dev/other", |app| app).await;
    assert!(made.contains("Operation not permitted"), "{made}");
    let pod = t.pod().run().await;
    let missing = device("/dev/no-such-device", "/dev/x", "rwm");
    let refused = pod.container("app").with(|config| config.devices = vec![missing]).try_create().await;
    let refused = refused.map(|made| made.id).unwrap_err();
    assert!(refused.message().contains("/dev/no-such-device"), "should name the device: {refused:?}");
}

async fn resources_are_in_the_cgroup(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").resources(|resources| {
        resources.cpu_shares = 512;
        resources.cpu_period = 100_000;
        resources.cpu_quota = 20_000;
        resources.memory_limit_in_bytes = 64 << 20;
        resources.cpuset_cpus = "0".into();
    });
    let app = app.start().await;
    let memory = app.cgroup_file("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (64 << 20).to_string());
    assert_eq!(app.cgroup_file("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    if cgroups::unified() {
        assert_eq!(app.cgroup_file("", "", "cpu.max"), "20000 100000");
    } else {
        assert_eq!(app.cgroup_file("cpu", "cpu.shares", ""), "512");
        assert_eq!(app.cgroup_file("cpu", "cpu.cfs_quota_us", ""), "20000");
    }
    let told = app.status().await.resources.unwrap().linux.unwrap();
    assert_eq!((told.cpu_shares, told.cpu_quota, told.cpu_period), (512, 20_000, 100_000));
    assert_eq!((told.memory_limit_in_bytes, told.cpuset_cpus.as_str()), (64 << 20, "0"));
}

async fn oom_score_adj(t: Test) {
    const SCORE: &str = "cat /proc/self/oom_score_adj";
    let log = printed(&t, SCORE, |app| app.resources(|resources| resources.oom_score_adj = 777)).await;
    assert_eq!(log, "777");
    // Where containerd itself may not lower it, it is raised to what containerd has; the container runs all the same.
    const SYS_RESOURCE: u64 = 1 << 24;
    let lowest = match capabilities_of_containerd(&t) & SYS_RESOURCE {
        0 => of_containerd(&t, "oom_score_adj").trim().parse().unwrap(),
        _ => -1000,
    };
    let log = printed(&t, SCORE, |app| app.resources(|resources| resources.oom_score_adj = -998)).await;
    assert_eq!(log, lowest.max(-998).to_string());
}

async fn environment_and_working_dir(t: Test) {
    let env = |key: &str, value: &str| cri::KeyValue { key: key.into(), value: value.into() };
    let pod = t.pod().run().await;
    let app = pod.container("app").shell("pwd; echo \"$ONE|$TWO|$HOSTNAME|$PATH\"").with(|config| {
        config.working_dir = "/var/www".into();
        config.envs = vec![env("ONE", "a b=c"), env("TWO", ""), env("PATH", "/bin:/extra")];
    });
    assert_eq!(app.output().await, format!("/var/www\na b=c||{}|/bin:/extra", pod.config.hostname));
    // A folder that the image lacks is made.
    let made = pod.container("made").shell("pwd").with(|config| config.working_dir = "/not/there/yet".into());
    assert_eq!(made.output().await, "/not/there/yet");
}

async fn a_terminal(t: Test) {
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo $TERM; echo to stderr >&2";
    let pod = t.pod().run().await;
    let app = pod.container("app").shell(script).with(|config| config.tty = true).start().await;
    app.exited().await;
    let log = app.log();
    assert!(log.iter().all(|line| line.stream == "stdout"), "a terminal has one stream: {log:?}");
    let lines: Vec<_> = log.iter().map(|line| line.text.trim_end_matches('\r')).collect();
    assert_eq!(lines, ["xterm", "to stderr"]);
}

async fn read_only_mounts(t: Test) {
    let volume = t.folder().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "text\n").unwrap();
    let script = "cat /data/file; echo x >/data/file";
    let log =
        printed(&t, script, |app| app.mount_with(&volume, "/data", |mount| mount.readonly = true)).await;
    assert!(log.starts_with("text\n") && log.contains("Read-only file system"), "{log}");
    let log = printed(&t, "cat /one; echo y >/one", |app| app.mount(volume.join("file"), "/one")).await;
    assert_eq!(log, "text");
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "y\n");
}

async fn mounts_of_the_node_reach_the_container(t: Test) {
    let volume = t.folder().join("volume");
    std::fs::create_dir_all(volume.join("late")).unwrap();
    let pod = t.pod().run().await;
    let propagated =
        |mount: &mut cri::Mount| mount.propagation = MountPropagation::PropagationHostToContainer as i32;
    let follower = pod.container("follower").mount_with(&volume, "/data", propagated).start().await;
    let private = pod.container("private").mount(&volume, "/data").start().await;
    let late = volume.join("late");
    mount("none", &late, "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(late.join("file"), "mounted late\n").unwrap();
    let (seen, unseen) = (follower.sh("cat /data/late/file").await, private.sh("ls /data/late").await);
    unmount(&late, UnmountFlags::empty()).unwrap();
    assert_eq!((seen.as_str(), unseen.as_str()), ("mounted late", ""));
    assert_eq!(follower.sh("ls /data/late").await, "");
}

async fn mounts_of_the_container_reach_the_node(t: Test) {
    let volume = t.folder().join("volume");
    std::fs::create_dir_all(volume.join("made")).unwrap();
    let pod = t.pod().security(|security| security.privileged = true).run().await;
    let mounter = pod.container("mounter").security(|security| security.privileged = true);
    let mounter = mounter.mount_with(&volume, "/data", |mount| {
        mount.propagation = MountPropagation::PropagationBidirectional as i32;
    });
    let mounter = mounter.start().await;
    mounter.sh("mount -t tmpfs none /data/made && echo from inside >/data/made/file").await;
    let seen = std::fs::read_to_string(volume.join("made/file"));
    mounter.sh("umount /data/made").await;
    assert_eq!(seen.unwrap(), "from inside\n");
}

async fn volumes_of_the_image_have_its_content(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/configured:1";
    t.node().pull(IMAGE).await;
    let pod = t.pod().run().await;
    let one = pod.container("one").image(IMAGE).start().await;
    let two = pod.container("two").image(IMAGE).start().await;
    assert_eq!(one.sh("cat /srv/data/from-image").await, "what the image has below its volume");
    one.sh("grep -q ' /srv/data ' /proc/mounts && echo mine >/srv/data/own").await;
    assert_eq!(two.sh("ls /srv/data").await, "from-image");
    // What the pod mounts there comes before.
    let covered = pod.container("covered").image(IMAGE).mount(t.folder(), "/srv/data").start().await;
    covered.sh("[ ! -e /srv/data/from-image ]").await;
}

async fn a_missing_host_path_of_a_mount_is_made(t: Test) {
    let missing = t.folder().join("not/there");
    let log = printed(&t, "ls -d /data", |app| app.mount(&missing, "/data")).await;
    assert_eq!(log, "/data");
    assert!(missing.is_dir());
}

async fn a_pod_cgroup_is_the_parent(t: Test) {
    let parent = Parent::new(&t);
    let pod = t.pod().linux(|linux| linux.cgroup_parent = parent.name.clone()).run().await;
    let app = pod.container("app").start().await;
    let below = std::fs::read_dir(parent.folder("memory")).expect("the pod's cgroup").flatten();
    let below: Vec<_> = below.map(|entry| entry.file_name().into_string().unwrap()).collect();
    for id in [&pod.id, &app.id] {
        assert!(below.iter().any(|name| name.contains(id.as_str())), "no {id} in {below:?}");
    }
    pod.remove().await;
    parent.remove();
}
