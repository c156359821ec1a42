use super::cache;
use super::conflist::{NetworkList, PluginConf};
use super::result::CniResult;
use super::version::Version;
use crate::fuzz::fuzz;

const VERSIONS: [Version; 4] = [Version::OLDEST, Version::LISTS, Version::PLAIN_ADDRESSES, Version::NEWEST];

#[test]
fn no_result_does_harm() {
    fuzz("cni-result", |input, _| {
        for version in VERSIONS {
            let Ok(result) = CniResult::parse(input, version) else { continue };
            let ips = result.facts().expect("it was parsed").ips.len();
            for other in VERSIONS {
                let Ok(told) = result.as_version(other) else { continue };
                let again = CniResult::from_map(told, other).expect("it was written by us");
                // Before 0.3.0 a plugin is told of one address of each family.
                assert!(other < Version::LISTS || again.facts().unwrap().ips.len() == ips);
            }
        }
    });
}

/// What is run is a program of the plugins' folders, whatever a list says.
fn check(list: &NetworkList) {
    for plugin in &list.plugins {
        assert!(!plugin.kind.is_empty() && !plugin.kind.contains(['/', '\0']), "{:?}", plugin.kind);
        assert!(!matches!(plugin.kind.as_str(), "." | ".."));
        let config = list.execution_config(plugin, None, &serde_json::Map::new()).unwrap();
        PluginConf::parse(&config).expect("it was written by us");
    }
}

#[test]
fn no_network_list_does_harm() {
    fuzz("conflist", |input, _| {
        for list in [NetworkList::parse(input), NetworkList::parse_single(input)].into_iter().flatten() {
            check(&list);
        }
        if let Ok(plugin) = PluginConf::parse(input)
            && let Ok(mut list) = NetworkList::parse(br#"{"name": "more"}"#)
        {
            list.append(vec![plugin]).unwrap();
            check(&list);
            assert_eq!(NetworkList::parse(&list.source).unwrap().plugins[0].kind, list.plugins[0].kind);
        }
    });
}

#[test]
fn no_file_of_the_cache_does_harm() {
    fuzz("cni-cache", |input, _| {
        let Ok((mut entry, list)) = cache::parse(input) else { return };
        check(&list);
        for name in [&entry.network_name, &entry.if_name] {
            assert!(!name.contains('/'), "{name:?}");
        }
        // JSON's fractions may lose their last digit.
        (entry.capability_args, entry.result) = (None, None);
        let (again, _) = cache::parse(&serde_json::to_vec(&entry).unwrap()).expect("it was written by us");
        assert_eq!(again, entry);
    });
}
