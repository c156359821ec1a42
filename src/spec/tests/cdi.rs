//! What CDI devices make of a spec.

use std::path::Path;

use super::*;

/// The edits of a file's only device; its nodes are of the same kind, wherever they are.
fn edits(edits: &str) -> Result<CdiEdits, String> {
    let text = format!(
        r#"{{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
    );
    let look = |path: &Path| match path.to_str() {
        Some("/dev/missing") => Err("it is gone".to_owned()),
        _ => Ok(DeviceNode { mode: 0o640, ..fuse("/any") }),
    };
    CdiDocument::parse(&text)?.devices["d"].complete(look)
}

fn made(wanted: &[&str], change: impl FnOnce(&mut Bench)) -> Value {
    let mut bench = Bench::new();
    bench.cdi = wanted.iter().map(|wanted| edits(wanted).unwrap()).collect();
    change(&mut bench);
    bench.container().unwrap()
}

#[test]
fn variables_replace_those_of_their_name() {
    let spec = made(&[r#"{"env": ["A=2", "NEW=x=y"]}"#, r#"{"env": ["NEW=z"]}"#], |_| {});
    let env: Vec<_> =
        spec["process"]["env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(env.iter().filter(|entry| entry.starts_with("A=")).collect::<Vec<_>>(), [&"A=2"]);
    assert_eq!(env.iter().filter(|entry| entry.starts_with("NEW=")).collect::<Vec<_>>(), [&"NEW=z"]);
}

#[test]
fn device_nodes_come_with_their_rules() {
    let found = |edits: &str| {
        let spec = made(&[edits], |bench| {
            bench.security().run_as_user = Some(cri::Int64Value { value: 33 });
        });
        let rules = spec["linux"]["resources"]["devices"].as_array().unwrap()[1..].to_vec();
        (spec["linux"]["devices"].as_array().unwrap().last().unwrap().clone(), rules)
    };
    // As it is on the host, but for the owner: the container's user.
    let (node, rules) = found(r#"{"deviceNodes": [{"path": "/dev/g", "hostPath": "/dev/h"}]}"#);
    assert_eq!(
        node,
        json!({"path": "/dev/g", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 33, "gid": 33})
    );
    assert_eq!(rules, [json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"})]);
    // As the file says, the host unseen.
    let whole = r#"{"deviceNodes": [{"path": "/dev/missing", "type": "b", "major": 8, "minor": 1, "fileMode": 384,
        "permissions": "r", "uid": 1, "gid": 2}]}"#;
    let (node, rules) = found(whole);
    assert_eq!(
        node,
        json!({"path": "/dev/missing", "type": "b", "major": 8, "minor": 1, "fileMode": 0o600, "uid": 1, "gid": 2})
    );
    assert_eq!(rules, [json!({"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"})]);
    // Without a rule.
    assert!(found(r#"{"deviceNodes": [{"path": "/dev/g", "permissions": "none"}]}"#).1.is_empty());
    assert!(found(r#"{"deviceNodes": [{"path": "/dev/p", "type": "p"}]}"#).1.is_empty());
}

#[test]
fn a_node_takes_the_place_of_another_at_its_path() {
    let spec =
        made(&[r#"{"deviceNodes": [{"path": "/dev/g", "type": "c", "major": 1, "minor": 2}]}"#], |bench| {
            bench.devices.push(PreparedDevice { nodes: vec![fuse("/dev/g")], permissions: "r".into() });
        });
    let nodes = spec["linux"]["devices"].as_array().unwrap();
    let at: Vec<_> = nodes.iter().filter(|node| node["path"] == "/dev/g").collect();
    assert_eq!((at.len(), &at[0]["major"]), (1, &json!(1)));
}

#[test]
fn nodes_that_cannot_be_are_told() {
    for (node, word) in [
        (r#"{"path": "/dev/missing"}"#, "it is gone"),
        (r#"{"path": "/dev/x", "hostPath": "/dev/missing", "type": "c"}"#, "it is gone"),
        (r#"{"path": "/dev/x", "type": "b"}"#, "another type"),
    ] {
        let why = edits(&format!(r#"{{"deviceNodes": [{node}]}}"#)).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn mounts_are_ordered_and_replace_what_is_there() {
    let wanted = r#"{"mounts": [{"hostPath": "/lib/v", "containerPath": "/usr/lib/v", "options": ["ro", "bind"]},
        {"hostPath": "/h", "containerPath": "/etc/hosts", "type": "bind", "options": ["rbind"]}]}"#;
    let spec = made(&[wanted], |_| {});
    let mounts = spec["mounts"].as_array().unwrap();
    let at = |path: &str| mounts.iter().filter(|mount| mount["destination"] == path).collect::<Vec<_>>();
    assert_eq!(
        at("/etc/hosts"),
        [&json!({"destination": "/etc/hosts", "source": "/h", "type": "bind", "options": ["rbind"]})]
    );
    assert_eq!(
        at("/usr/lib/v"),
        [&json!({"destination": "/usr/lib/v", "source": "/lib/v", "options": ["ro", "bind"]})]
    );
    let depths: Vec<_> = mounts
        .iter()
        .map(|mount| Path::new(mount["destination"].as_str().unwrap()).components().count())
        .collect();
    assert!(depths.is_sorted(), "{depths:?}");
}

#[test]
fn hooks_groups_and_the_rest_are_added() {
    let wanted = r#"{"hooks": [
            {"hookName": "prestart", "path": "/a"},
            {"hookName": "createContainer", "path": "/b", "args": ["b", "-x"], "env": ["E=1"], "timeout": 5},
            {"hookName": "createContainer", "path": "/c"}],
        "additionalGids": [0, 44, 44], "netDevices": [{"hostInterfaceName": "ib0", "name": "net1"}],
        "intelRdt": {"closID": "gold", "l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50"], "enableMonitoring": true}}"#;
    let spec = made(&[wanted], |bench| bench.security().run_as_user = Some(cri::Int64Value { value: 33 }));
    let hooks = json!({"prestart": [{"path": "/a"}], "createContainer":
        [{"path": "/b", "args": ["b", "-x"], "env": ["E=1"], "timeout": 5}, {"path": "/c"}]});
    assert_eq!(spec["hooks"], hooks);
    let groups = spec["process"]["user"]["additionalGids"].as_array().unwrap();
    assert_eq!(groups.iter().filter(|gid| **gid == json!(44)).count(), 1, "{groups:?}");
    assert_eq!(spec["linux"]["netDevices"], json!({"ib0": {"name": "net1"}}));
    let rdt = json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50"], "enableMonitoring": true});
    assert_eq!(spec["linux"]["intelRdt"], rdt);
}
