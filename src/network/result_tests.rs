use proptest::prelude::*;

use super::super::pod_result::PodResult;
use super::*;

const V1: Version = Version(1, 0, 0);

const BRIDGE: &str = r#"{
    "cniVersion": "1.0.0",
    "interfaces": [
        {"name": "cni0", "mac": "aa:aa:aa:aa:aa:aa"},
        {"name": "veth1", "mac": "bb:bb:bb:bb:bb:bb"},
        {"name": "eth0", "mac": "cc:cc:cc:cc:cc:cc", "sandbox": "/var/run/netns/cni-1", "mtu": 1500}
    ],
    "ips": [
        {"interface": 2, "address": "fd00::3/64", "gateway": "fd00::1"},
        {"interface": 2, "address": "10.1.2.3/24", "gateway": "10.1.2.1"}
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.1.2.1", "priority": 5}],
    "dns": {},
    "vendor": {"kept": true}
}"#;

fn parse(text: &str) -> CniResult {
    CniResult::parse(text.as_bytes(), V1).unwrap()
}

#[test]
fn the_united_result_is_go_cnis() {
    let pod = PodResult::new("/var/run/netns/cni-1", &[parse(BRIDGE)]).unwrap();
    let json = serde_json::to_value(&pod).unwrap();
    assert_eq!(
        json,
        json!({
            "Interfaces": {
                "cni0": {"IPConfigs": null, "Mac": "aa:aa:aa:aa:aa:aa", "Sandbox": "", "PciID": "", "SocketPath": ""},
                "eth0": {
                    "IPConfigs": [{"IP": "fd00::3", "Gateway": "fd00::1"}, {"IP": "10.1.2.3", "Gateway": "10.1.2.1"}],
                    "Mac": "cc:cc:cc:cc:cc:cc", "Sandbox": "/var/run/netns/cni-1", "PciID": "", "SocketPath": ""
                },
                "lo": {
                    "IPConfigs": [{"IP": "127.0.0.1", "Gateway": ""}, {"IP": "::1", "Gateway": ""}],
                    "Mac": "00:00:00:00:00:00", "Sandbox": "/var/run/netns/cni-1", "PciID": "", "SocketPath": ""
                },
                "veth1": {"IPConfigs": null, "Mac": "bb:bb:bb:bb:bb:bb", "Sandbox": "", "PciID": "", "SocketPath": ""}
            },
            "DNS": [{}, {}],
            "Routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.1.2.1", "priority": 5}]
        })
    );
    assert_eq!(pod.ips(), ["fd00::3".parse::<IpAddr>().unwrap(), "10.1.2.3".parse().unwrap()]);
}

#[test]
fn no_networks_leave_eth0_without_addresses() {
    let json = serde_json::to_value(PodResult::new("/x", &[]).unwrap()).unwrap();
    assert_eq!(json["Interfaces"]["eth0"]["IPConfigs"], Value::Null);
    assert_eq!(json["Routes"], Value::Null);
}

#[test]
fn a_result_of_the_same_form_is_handed_on_whole() {
    let raw = parse(BRIDGE).as_version(Version::NEWEST).unwrap();
    assert_eq!(raw["cniVersion"], "1.1.0");
    assert_eq!(raw["vendor"], json!({"kept": true}));
    assert_eq!(raw["interfaces"][2]["mtu"], 1500);
}

#[test]
fn addresses_gain_and_lose_their_version() {
    let old = parse(BRIDGE).as_version(Version(0, 4, 0)).unwrap();
    assert_eq!(old["ips"][0]["version"], "6");
    assert_eq!(
        old["ips"][1],
        json!({"version": "4", "interface": 2, "address": "10.1.2.3/24", "gateway": "10.1.2.1"})
    );
    let back = CniResult::from_map(old, V1).unwrap().as_version(V1).unwrap();
    assert_eq!(back["ips"][1], json!({"interface": 2, "address": "10.1.2.3/24", "gateway": "10.1.2.1"}));
}

#[test]
fn the_oldest_form_goes_both_ways() {
    let oldest = parse(BRIDGE).as_version(Version(0, 2, 0)).unwrap();
    assert_eq!(oldest["ip6"], json!({"ip": "fd00::3/64", "gateway": "fd00::1"}));
    assert_eq!(oldest["ip4"]["routes"][1], json!({"dst": "10.0.0.0/8", "gw": "10.1.2.1"}));
    let back = CniResult::from_map(oldest, V1).unwrap();
    let pod = PodResult::new("/x", &[back]).unwrap();
    assert_eq!(pod.ips(), ["10.1.2.3".parse::<IpAddr>().unwrap(), "fd00::3".parse().unwrap()]);
    let none = CniResult::parse(b"{}", V1).unwrap();
    assert!(none.as_version(Version(0, 2, 0)).is_err());
}

#[test]
fn a_result_without_version_has_the_configurations() {
    for text in
        [r#"{"ips":[{"address":"10.0.0.2/8"}]}"#, r#"{"cniVersion":"","ips":[{"address":"10.0.0.2/8"}]}"#]
    {
        let result = CniResult::parse(text.as_bytes(), Version(0, 3, 1)).unwrap();
        assert_eq!(result.raw()["cniVersion"], "0.3.1");
        assert_eq!(PodResult::new("/x", &[result]).unwrap().ips().len(), 1, "no interface: it is the pod's");
    }
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", "EOF"),
        ("null", "JSON object"),
        ("[]", "JSON object"),
        (r#"{"cniVersion": 1}"#, "no text"),
        (r#"{"cniVersion": "one"}"#, "no version"),
        (r#"{"ips": [{"address": "10.0.0.2"}]}"#, "invalid"),
        (r#"{"ips": [{"address": "10.0.0.2/8", "interface": 0}]}"#, "interface 0 of 0"),
        (r#"{"ips": [{"address": "10.0.0.2/8", "interface": -1}]}"#, "-1"),
        (r#"{"interfaces": 5}"#, "expected"),
    ] {
        let error = CniResult::parse(text.as_bytes(), V1).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    CniResult::parse(br#"{"ips": null, "interfaces": null, "dns": null, "routes": null}"#, V1).unwrap();
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = CniResult::parse(&bytes, V1);
    }

    #[test]
    fn arbitrary_fields_never_panic(
        version in "[0-9]{0,2}[.][0-9]{0,2}[.][0-9]",
        ips in proptest::collection::vec(("[0-9.:a-f/]{0,20}", -2i64..4), 0..4),
        names in proptest::collection::vec("[a-z0-9]{0,5}", 0..4),
    ) {
        let ips: Vec<Value> = ips.iter().map(|(a, i)| json!({"address": a, "interface": i})).collect();
        let interfaces: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        let text = json!({"cniVersion": version, "ips": ips, "interfaces": interfaces}).to_string();
        if let Ok(result) = CniResult::parse(text.as_bytes(), V1) {
            let _ = PodResult::new("/x", std::slice::from_ref(&result)).unwrap().ips();
            for target in [Version(0, 2, 0), Version(0, 3, 1), Version(1, 1, 0)] {
                if let Ok(other) = result.as_version(target) {
                    CniResult::from_map(other, target).unwrap();
                }
            }
        }
    }
}
