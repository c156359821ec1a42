//! One network's configuration (CNI spec, "Network configuration format"), from a file or from the cache.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::result::CniResult;
use super::version::Version;

/// A network: plugins to run in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NetworkList {
    pub name: String,
    pub version: Version,
    pub plugins: Vec<PluginConf>,
    /// The whole list as JSON: what the cache keeps for DEL.
    pub source: Vec<u8>,
    /// Whether the folder named as the network may add plugins (CNI spec 1.1, `loadOnlyInlinedPlugins`).
    pub takes_more_plugins: bool,
}

/// One plugin's part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PluginConf {
    /// The name of the program.
    pub kind: String,
    /// Which capability arguments it asks for.
    pub capabilities: BTreeSet<String>,
    pub json: Map<String, Value>,
}

impl NetworkList {
    /// Reads a `.conflist`. It may lack plugins where its folder adds them.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let list = object(bytes)?;
        let name = network_name(&list)?;
        let version = version(&list)?;
        let inlined_only = flag(&list, "loadOnlyInlinedPlugins")?;
        let plugins = match list.get("plugins") {
            Some(Value::Array(plugins)) if !plugins.is_empty() => plugins
                .iter()
                .enumerate()
                .map(|(n, plugin)| nth_plugin(n, plugin))
                .collect::<Result<_, _>>()?,
            Some(Value::Array(_)) => return Err("the list \"plugins\" is empty".into()),
            Some(_) => return Err("\"plugins\" is not a list".into()),
            None if inlined_only => return Err("\"plugins\" is missing".into()),
            None => Vec::new(),
        };
        Ok(Self { name, version, plugins, source: bytes.to_vec(), takes_more_plugins: !inlined_only })
    }

    /// Reads a `.conf` or `.json`: one plugin, made a list of one.
    pub fn parse_single(bytes: &[u8]) -> Result<Self, String> {
        let conf = object(bytes)?;
        if conf.contains_key("plugins") && !conf.contains_key("type") {
            return Err("a list of plugins belongs in a file named .conflist".into());
        }
        let mut list = Map::from_iter([("name".to_owned(), json!(network_name(&conf)?))]);
        if let Some(version) = conf.get("cniVersion") {
            list.insert("cniVersion".into(), version.clone());
        }
        list.insert("plugins".into(), json!([conf]));
        let list = Self::parse(&to_bytes(&list))?;
        Ok(Self { takes_more_plugins: false, ..list })
    }

    /// Appends plugins of the network's own folder, so that the source tells all that will be run.
    pub fn append(&mut self, plugins: Vec<PluginConf>) -> Result<(), String> {
        if !plugins.is_empty() {
            self.plugins.extend(plugins);
            let mut list = object(&self.source)?;
            list.insert(
                "plugins".into(),
                self.plugins.iter().map(|p| Value::Object(p.json.clone())).collect(),
            );
            list.insert("loadOnlyInlinedPlugins".into(), json!(true));
            self.source = to_bytes(&list);
        }
        if self.plugins.is_empty() { Err("no plugins".into()) } else { Ok(()) }
    }

    /// What `plugin` gets on stdin for a command (CNI spec, "Deriving execution configuration").
    pub fn execution_config(
        &self,
        plugin: &PluginConf,
        previous: Option<&CniResult>,
        capabilities: &Map<String, Value>,
    ) -> Result<Vec<u8>, String> {
        let mut conf = plugin.json.clone();
        conf.insert("name".into(), json!(self.name));
        conf.insert("cniVersion".into(), json!(self.version.to_string()));
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), Value::Object(previous.as_version(self.version)?));
        }
        let asked = |(key, _): &(&String, &Value)| plugin.capabilities.contains(*key);
        let granted: Map<String, Value> =
            capabilities.iter().filter(asked).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !granted.is_empty() {
            conf.insert("runtimeConfig".into(), Value::Object(granted));
        }
        Ok(to_bytes(&conf))
    }

    /// Whether all it does is to bring up `lo`, which every namespace here has up from its start.
    pub fn is_loopback(&self) -> bool {
        self.plugins.iter().all(|plugin| plugin.kind == "loopback")
    }
}

impl PluginConf {
    /// Reads one plugin's configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::from_map(object(bytes)?)
    }

    fn from_map(json: Map<String, Value>) -> Result<Self, String> {
        let kind = match json.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return Err("\"type\" is not a text".into()),
            None => return Err("\"type\" is missing".into()),
        };
        // It becomes a path below the plugin folders.
        if kind.is_empty() || kind.contains(['/', '\0']) || kind == "." || kind == ".." {
            return Err(format!("\"type\" {kind:?} is not the name of a program"));
        }
        let capabilities = match json.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(all)) => {
                all.iter().filter(|(_, on)| **on == Value::Bool(true)).map(|(name, _)| name.clone()).collect()
            }
            Some(_) => return Err("\"capabilities\" is not an object".into()),
        };
        Ok(Self { kind, capabilities, json })
    }
}

fn nth_plugin(n: usize, plugin: &Value) -> Result<PluginConf, String> {
    let Value::Object(conf) = plugin else { return Err(format!("plugin {n} is not an object")) };
    PluginConf::from_map(conf.clone()).map_err(|reason| format!("plugin {n}: {reason}"))
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("not a JSON object: {e}"))
}

fn to_bytes(object: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(object).expect("a JSON object of text keys can be written")
}

/// The name becomes part of a file name in the cache: CNI spec, "Network configuration format".
fn network_name(list: &Map<String, Value>) -> Result<String, String> {
    let name = match list.get("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err("\"name\" is not a text".into()),
        None => return Err("\"name\" is missing".into()),
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    // File names end at 255 bytes, of which the container's id and the interface need 90.
    if !starts_well || !name.bytes().all(allowed) || name.len() > 160 {
        return Err(format!(
            "\"name\" {:?} is not a network's name",
            name.chars().take(80).collect::<String>()
        ));
    }
    Ok(name.clone())
}

/// The highest of `cniVersions` that this program speaks, or `cniVersion` as it is.
fn version(list: &Map<String, Value>) -> Result<Version, String> {
    let parse = |key: &str, value: &Value| {
        let text = value.as_str().ok_or_else(|| format!("{key:?} is not a text"))?;
        Version::parse(text).ok_or_else(|| format!("{key:?} {text:?} is not a version"))
    };
    let single = match list.get("cniVersion") {
        Some(value) => parse("cniVersion", value)?,
        None => Version::OLDEST,
    };
    let offered = match list.get("cniVersions") {
        Some(Value::Array(all)) => all.iter().map(|v| parse("cniVersions", v)).collect::<Result<_, _>>()?,
        Some(_) => return Err("\"cniVersions\" is not a list".into()),
        None => Vec::new(),
    };
    let spoken = offered.iter().copied().filter(|v| *v <= Version::NEWEST);
    Ok(match spoken.max() {
        Some(best) if single > Version::NEWEST => best,
        Some(best) => best.max(single),
        None => single,
    })
}

/// A boolean, or its text, as libcni takes both.
fn flag(list: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{key:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[
        {"type":"bridge","ipam":{"type":"host-local"}},
        {"type":"portmap","capabilities":{"portMappings":true,"dns":false},"name":"overridden"}]}"#;

    #[test]
    fn a_plugin_gets_the_networks_name_version_and_only_what_it_asked_for() {
        let list = NetworkList::parse(LIST.as_bytes()).unwrap();
        let capabilities = json!({"portMappings": [1], "dns": {}, "bandwidth": {}});
        let previous = CniResult::parse(
            br#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/8"}]}"#,
            Version::NEWEST,
        );
        let stdin = |n: usize, previous| {
            let bytes =
                list.execution_config(&list.plugins[n], previous, capabilities.as_object().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        assert_eq!(
            stdin(0, None),
            json!({"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": {"type": "host-local"}})
        );
        let second = stdin(1, Some(&previous.unwrap()));
        assert_eq!(second["name"], "net");
        assert_eq!(second["runtimeConfig"], json!({"portMappings": [1]}));
        assert_eq!(second["prevResult"], json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/8"}]}));
    }

    #[test]
    fn a_single_plugin_becomes_a_list_that_can_be_read_back() {
        let list = NetworkList::parse_single(br#"{"cniVersion":"0.3.1","name":"one","type":"ptp"}"#).unwrap();
        assert_eq!((list.name.as_str(), list.version, list.plugins.len()), ("one", Version(0, 3, 1), 1));
        let back = NetworkList::parse(&list.source).unwrap();
        assert_eq!(back.plugins, list.plugins);
    }

    #[test]
    fn the_best_offered_version_is_taken() {
        let version = |versions: &str| {
            let text = format!(r#"{{"name":"n",{versions},"plugins":[{{"type":"t"}}]}}"#);
            NetworkList::parse(text.as_bytes()).unwrap().version
        };
        assert_eq!(version(r#""cniVersions":["0.4.0","1.1.0","2.0.0"]"#), Version(1, 1, 0));
        assert_eq!(version(r#""cniVersion":"1.0.0","cniVersions":["0.4.0"]"#), Version(1, 0, 0));
        assert_eq!(version(r#""cniVersion":"9.0.0","cniVersions":["0.4.0"]"#), Version(0, 4, 0));
        assert_eq!(version(r#""cniVersion":"9.0.0""#), Version(9, 0, 0));
        assert_eq!(version(r#""disableCheck":true"#), Version::OLDEST);
    }

    #[test]
    fn appended_plugins_are_part_of_the_source() {
        let mut list = NetworkList::parse(br#"{"name":"n","cniVersion":"1.1.0"}"#).unwrap();
        assert!(list.takes_more_plugins);
        assert!(list.clone().append(vec![]).is_err(), "a network needs a plugin");
        list.append(vec![PluginConf::parse(br#"{"type":"late"}"#).unwrap()]).unwrap();
        let back = NetworkList::parse(&list.source).unwrap();
        assert_eq!(back.plugins[0].kind, "late");
        assert!(!back.takes_more_plugins);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            (r#"{"plugins":[{"type":"t"}]}"#, "\"name\" is missing"),
            (r#"{"name":"../x","plugins":[{"type":"t"}]}"#, "not a network's name"),
            (r#"{"name":"n","plugins":[]}"#, "empty"),
            (r#"{"name":"n","plugins":{}}"#, "not a list"),
            (r#"{"name":"n","plugins":[{}]}"#, "plugin 0: \"type\" is missing"),
            (r#"{"name":"n","plugins":[{"type":"../sh"}]}"#, "name of a program"),
            (r#"{"name":"n","plugins":[{"type":"t","capabilities":[]}]}"#, "capabilities"),
            (r#"{"name":"n","cniVersion":"x","plugins":[{"type":"t"}]}"#, "not a version"),
            (r#"{"name":"n","loadOnlyInlinedPlugins":true}"#, "\"plugins\" is missing"),
        ] {
            let error = NetworkList::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = NetworkList::parse_single(LIST.as_bytes()).unwrap_err();
        assert!(error.contains(".conflist"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NetworkList::parse(&bytes);
            let _ = NetworkList::parse_single(&bytes);
        }

        #[test]
        fn an_accepted_name_is_a_file_name(name in ".{0,200}") {
            let text = json!({"name": name, "plugins": [{"type": "t"}]}).to_string();
            if let Ok(list) = NetworkList::parse(text.as_bytes()) {
                prop_assert!(!list.name.contains('/') && list.name.len() <= 160 && !list.name.starts_with('.'));
            }
        }
    }
}
