use std::slice::from_ref;

use super::super::seen::{Folder, Mount, Snapshot};
use super::*;

/// An id of one letter.
fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn record(letter: char, role: Role) -> Record {
    Record {
        id: id(letter),
        ours: true,
        role,
        name: format!("name-{letter}"),
        snapshot: SnapshotKey::new(id(letter)),
        pins: vec![format!("cni-{letter}")],
    }
}

fn container(letter: char, pod: char) -> Record {
    Record { pins: Vec::new(), ..record(letter, Role::Container { pod: Some(id(pod)) }) }
}

fn shim(pid: u32, letter: char) -> ShimSeen {
    let shim = Shim { pid, id: id(letter), namespace: "k8s.io".into(), address: "/run/c.sock".into() };
    ShimSeen { shim, ours: true, has_children: false }
}

fn foreign(pid: u32, letter: char) -> ShimSeen {
    let mut seen = shim(pid, letter);
    seen.ours = false;
    seen.shim.address = "/run/other.sock".into();
    seen
}

fn task(letter: char, pid: u32, parent: Option<u32>) -> Task {
    Task { id: id(letter), pid, parent }
}

fn cgroup(letter: char, members: &[u32]) -> NamedCgroup {
    let path = PathBuf::from("k8s.io").join(id(letter));
    let folders = vec![Path::new("/sys/fs/cgroup/pids").join(&path)];
    NamedCgroup { id: id(letter), path, folders, members: members.into() }
}

fn pin(letter: char, process: Option<u32>) -> Pin {
    Pin { path: format!("/run/netns/cni-{letter}").into(), process }
}

fn trace(letter: char, kind: TraceKind, pin: Option<char>) -> TraceSeen {
    let file = format!("/cni/{kind:?}-{letter}");
    let netns = pin.map(|pin| format!("/run/netns/cni-{pin}"));
    TraceSeen { trace: Trace::of(&id(letter), &file, kind, netns.as_deref()), has_netns: pin.is_some() }
}

fn address(letter: char) -> TraceSeen {
    trace(letter, TraceKind::Address([10, 0, 0, 1].into()), None)
}

fn folder(letter: char) -> Folder {
    Folder { path: Path::new("/lib/containers").join(id(letter)), id: id(letter), restoring: false }
}

fn mounted(letter: char) -> Mount {
    Mount { path: Path::new("/run/sandboxes").join(id(letter)).join("shm"), id: id(letter) }
}

fn snapshot(letter: char) -> Snapshot {
    Snapshot { snapshotter: "overlayfs".into(), key: SnapshotKey::new(id(letter)), id: id(letter) }
}

/// A pod `a` with a container `b`, both running.
fn pod() -> Seen {
    Seen {
        shims: vec![ShimSeen { has_children: true, ..shim(10, 'a') }],
        cgroups: vec![cgroup('a', &[11]), cgroup('b', &[12])],
        traces: vec![trace('a', TraceKind::Result, Some('a')), address('a')],
        pins: vec![pin('a', Some(11))],
        mounts: vec![mounted('a')],
        folders: vec![folder('a'), folder('b')],
        snapshots: vec![snapshot('a'), snapshot('b')],
        leases: vec![LeaseId::new(id('a')), LeaseId::new("cridge-image-1")],
        sandboxes: vec![id('a')],
        tasks: vec![task('a', 11, Some(10)), task('b', 12, Some(10))],
        records: vec![record('a', Role::Pod), container('b', 'a')],
        making: Making::Nothing,
    }
}

/// All that a pod `e` may leave.
fn left_behind() -> Seen {
    Seen {
        shims: vec![shim(20, 'e')],
        cgroups: vec![cgroup('e', &[])],
        traces: vec![trace('e', TraceKind::Result, Some('e')), address('e')],
        pins: vec![pin('e', None)],
        mounts: vec![mounted('e')],
        folders: vec![folder('e')],
        snapshots: vec![snapshot('e')],
        leases: vec![LeaseId::new(id('e'))],
        sandboxes: vec![id('e')],
        ..Seen::default()
    }
}

fn both(mut one: Seen, other: Seen) -> Seen {
    one.shims.extend(other.shims);
    one.cgroups.extend(other.cgroups);
    one.traces.extend(other.traces);
    one.pins.extend(other.pins);
    one.mounts.extend(other.mounts);
    one.folders.extend(other.folders);
    one.snapshots.extend(other.snapshots);
    one.leases.extend(other.leases);
    one.sandboxes.extend(other.sandboxes);
    one.tasks.extend(other.tasks);
    one.records.extend(other.records);
    one
}

fn kinds(seen: &Seen) -> Vec<Kind> {
    judge(seen).orphans.iter().map(|orphan| orphan.thing.kind()).collect()
}

#[test]
fn what_a_pod_owns_is_left_alone() {
    assert_eq!(judge(&pod()), Verdict::default());
    assert_eq!(judge(&Seen::default()), Verdict::default());
}

#[test]
fn each_kind_is_found_in_the_order_of_its_removal_and_nothing_of_a_pod() {
    let verdict = judge(&both(pod(), left_behind()));
    let found: Vec<_> = verdict.orphans.iter().map(|orphan| orphan.thing.kind()).collect();
    let expected = [
        Kind::Shim,
        Kind::Cgroup,
        Kind::NetworkResult,
        Kind::Address,
        Kind::Netns,
        Kind::Mount,
        Kind::Folder,
        Kind::Snapshot,
        Kind::Lease,
        Kind::SandboxRecord,
    ];
    assert_eq!(found, expected);
    assert!(verdict.notes.is_empty(), "{:?}", verdict.notes);
    for orphan in &verdict.orphans {
        let what = orphan.thing.to_string();
        let is_its = what.contains(&id('e')) || what.ends_with("-e");
        assert!(is_its && !orphan.why.is_empty(), "{what}: {}", orphan.why);
    }
}

#[test]
fn whoever_has_a_record_or_is_in_the_making_owns_what_bears_the_id() {
    let of_namespace = Record { ours: false, ..record('e', Role::Other) };
    for record in [record('e', Role::Pod), record('e', Role::Other), of_namespace] {
        let mut seen = both(pod(), left_behind());
        seen.shims.clear();
        seen.records.push(record);
        assert_eq!(kinds(&seen), []);
    }
    let mut seen = left_behind();
    seen.pins.clear();
    seen.making = Making::These([id('e')].into());
    assert_eq!(kinds(&seen), []);
    seen.making = Making::These([id('1')].into());
    assert_eq!(kinds(&seen).len(), 7);
}

#[test]
fn only_names_that_are_ids_count() {
    let seen = Seen {
        leases: vec![LeaseId::new("e"), LeaseId::new(id('E'))],
        sandboxes: vec!["e".into()],
        folders: vec![Folder { id: "e".into(), ..folder('e') }],
        ..Seen::default()
    };
    assert_eq!(kinds(&seen), []);
}

#[test]
fn a_shim_serves_whose_processes_are_below_it() {
    let seen = |shim: ShimSeen, tasks: &[Task], records: &[Record]| Seen {
        shims: vec![shim],
        tasks: tasks.into(),
        records: records.into(),
        ..Seen::default()
    };
    let (pod, of_pod) = (record('a', Role::Pod), container('b', 'a'));
    let cases: [(&str, Seen, usize); 8] = [
        ("its own task", seen(shim(10, 'a'), &[task('a', 11, None)], from_ref(&pod)), 0),
        ("a container's", seen(shim(10, 'a'), &[task('b', 12, Some(10))], &[pod.clone(), of_pod]), 0),
        // A virtual machine's.
        ("itself", seen(shim(10, 'a'), &[task('b', 10, Some(1))], &[container('b', 'a')]), 0),
        ("a task without a record", seen(shim(10, 'e'), &[task('e', 11, Some(10))], &[]), 1),
        ("no task", seen(shim(10, 'a'), &[], from_ref(&pod)), 1),
        (
            "processes of who knows whom",
            seen(ShimSeen { has_children: true, ..shim(10, 'a') }, &[], &[pod]),
            0,
        ),
        ("no task of nerdctl's", seen(shim(10, 'a'), &[], &[record('a', Role::Other)]), 0),
        ("another containerd's", seen(foreign(10, 'e'), &[], &[]), 0),
    ];
    for (what, mut seen, found) in cases {
        seen.records.iter_mut().for_each(|record| record.pins.clear());
        let shims: Vec<_> = kinds(&seen).into_iter().filter(|kind| *kind == Kind::Shim).collect();
        assert_eq!(shims.len(), found, "{what}");
    }
}

#[test]
fn beside_another_daemon_a_shim_with_a_record_may_be_starting() {
    let mut seen = Seen { shims: vec![shim(10, 'a')], ..Seen::default() };
    seen.records.push(record('a', Role::Pod));
    assert_eq!(kinds(&seen), [Kind::Shim]);
    seen.making = Making::Unknown;
    assert_eq!(kinds(&seen), []);
    seen.records.clear();
    assert_eq!(kinds(&seen), [Kind::Shim]);
}

#[test]
fn while_an_ended_task_has_no_shim_none_is_judged() {
    let mut seen = Seen { shims: vec![shim(10, 'e')], ..Seen::default() };
    seen.records = vec![record('a', Role::Pod), container('b', 'a')];
    seen.tasks = vec![task('b', 12, None)];
    let verdict = judge(&seen);
    assert_eq!(verdict.orphans, []);
    assert!(verdict.notes[0].contains(&id('b')), "{:?}", verdict.notes);
}

#[test]
fn a_cgroup_with_processes_is_told_of_and_left() {
    let mut seen = left_behind();
    seen.cgroups = vec![cgroup('e', &[33])];
    let verdict = judge(&seen);
    assert!(!verdict.orphans.iter().any(|orphan| orphan.thing.kind() == Kind::Cgroup));
    assert!(verdict.notes[0].contains("process 33"), "{:?}", verdict.notes);
}

#[test]
fn a_used_namespace_of_nobodys_keeps_all_pins_and_their_results() {
    let mut seen = left_behind();
    seen.pins.push(pin('0', Some(44)));
    let verdict = judge(&seen);
    let found: Vec<_> = verdict.orphans.iter().map(|orphan| orphan.thing.kind()).collect();
    for kept in [Kind::Netns, Kind::NetworkResult, Kind::Address] {
        assert!(!found.contains(&kept), "{found:?}");
    }
    assert!(verdict.notes[0].contains("process 44 in /run/netns/cni-0"), "{:?}", verdict.notes);
}

#[test]
fn a_result_of_a_namespace_elsewhere_has_an_owner() {
    let mut seen =
        Seen { traces: vec![trace('e', TraceKind::Result, Some('e')), address('e')], ..Seen::default() };
    assert_eq!(kinds(&seen), [], "its namespace stands, where nobody looked");
    seen.traces[0].has_netns = false;
    assert_eq!(kinds(&seen), [Kind::NetworkResult, Kind::Address]);
}

#[test]
fn a_place_that_another_containerd_uses_is_not_judged() {
    let stranger = |seen: Seen| both(seen, Seen { shims: vec![foreign(50, 'f')], ..Seen::default() });
    assert_eq!(kinds(&stranger(left_behind())).len(), 10, "it uses none of these places");
    let mut seen = stranger(left_behind());
    seen.folders.push(folder('f'));
    seen.traces.push(address('f'));
    seen.cgroups.push(cgroup('f', &[51]));
    let verdict = judge(&seen);
    let found: Vec<_> = verdict.orphans.iter().map(|orphan| orphan.thing.kind()).collect();
    let judged = [Kind::Shim, Kind::Netns, Kind::Snapshot, Kind::Lease, Kind::SandboxRecord];
    assert_eq!(found, judged);
    assert_eq!(verdict.notes.len(), 3);
    assert!(verdict.notes.iter().all(|note| note.contains("/run/other.sock")), "{:?}", verdict.notes);
}

#[test]
fn a_container_without_its_pod_goes_and_one_of_unknown_pod_stays() {
    let mut seen = pod();
    seen.records.remove(0);
    assert!(kinds(&seen).contains(&Kind::Container));
    seen.records[0].role = Role::Container { pod: None };
    assert!(!kinds(&seen).contains(&Kind::Container));
}

#[test]
fn a_restored_container_in_the_making_has_a_folder_before_its_record() {
    let mut seen = Seen { folders: vec![Folder { restoring: true, ..folder('e') }], ..Seen::default() };
    assert_eq!(kinds(&seen), [Kind::Folder]);
    seen.making = Making::Unknown;
    assert_eq!(kinds(&seen), []);
}

#[test]
fn a_name_has_one_holder_among_its_like() {
    let mut seen = pod();
    seen.records.push(Record { name: "name-a".into(), ..container('c', 'a') });
    assert_eq!(kinds(&seen), [], "a container may be called as a pod is");
    seen.records.push(Record { name: "name-a".into(), ..record('d', Role::Pod) });
    let verdict = judge(&seen);
    let [Orphan { thing: Thing::Name { holders, .. }, .. }] = &verdict.orphans[..] else {
        panic!("{verdict:?}");
    };
    assert_eq!(*holders, [id('a'), id('d')]);
}
