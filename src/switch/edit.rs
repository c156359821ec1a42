//! The texts of the files that a switch changes, in and out: what was not meant is kept byte for byte.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::check::built_in_plugins;

const LIST: &str = "disabled_plugins";
const FLAG: &str = "--container-runtime-endpoint";
const KEY: &str = "containerRuntimeEndpoint:";
/// What a plugin is called in containerd's oldest format.
const SHORT: &[&str] = &["cri"];

/// Which of a node's files one is, and so how it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum File {
    /// containerd's config.toml.
    Containerd,
    /// kubeadm's arguments for the kubelet.
    Flags,
    /// The kubelet's configuration.
    Configuration,
}

/// A containerd's configuration with the built-in plugin taken out. `None` for a file that is not there; `major` is the
/// release's.
///
/// # Errors
/// Why the text is not understood.
pub fn without_plugin(text: Option<&str>, major: u32) -> Result<String, String> {
    let Some(text) = text else {
        let version = if major == 1 { 2 } else { 3 };
        return Ok(format!("version = {version}\n{LIST} = [{}]\n", quoted(built_in_plugins(major))));
    };
    let (version, list) = read(text)?;
    let wanted = if major == 1 && version < 2 { SHORT } else { built_in_plugins(major) };
    let Some(list) = list else { return Ok(format!("{LIST} = [{}]\n{text}", quoted(wanted))) };
    let missing: Vec<&str> =
        wanted.iter().filter(|name| !list.names.iter().any(|there| there == *name)).copied().collect();
    if missing.is_empty() {
        return Ok(text.to_owned());
    }
    Ok(match list.last_end {
        Some(end) => format!("{}, {}{}", &text[..end], quoted(&missing), &text[end..]),
        None => format!("{}[{}]{}", &text[..list.start], quoted(&missing), &text[list.end..]),
    })
}

/// The same with the plugin put back, however else it was changed meanwhile.
pub fn with_plugin(text: &str) -> Result<String, String> {
    let (_, Some(list)) = read(text)? else { return Ok(text.to_owned()) };
    let ours = [SHORT, built_in_plugins(1), built_in_plugins(2)].concat();
    let rest: Vec<&str> = list.names.iter().map(String::as_str).filter(|name| !ours.contains(name)).collect();
    Ok(format!("{}[{}]{}", &text[..list.start], quoted(&rest), &text[list.end..]))
}

struct List {
    names: Vec<String>,
    start: usize,
    end: usize,
    /// Where its last element ends.
    last_end: Option<usize>,
}

/// The format's version, and the list where there is one.
fn read(text: &str) -> Result<(i64, Option<List>), String> {
    let table = DeTable::parse(text).map_err(|error| error.message().to_owned())?;
    let table = table.get_ref();
    let version = match table.get("version").map(Spanned::get_ref) {
        Some(DeValue::Integer(version)) => version.as_str().parse().unwrap_or(1),
        _ => 1,
    };
    let Some(value) = table.get(LIST) else { return Ok((version, None)) };
    let DeValue::Array(elements) = value.get_ref() else { return Err(format!("{LIST} is no list")) };
    let names = elements.iter().map(|element| match element.get_ref() {
        DeValue::String(name) => Ok(name.clone().into_owned()),
        _ => Err(format!("{LIST} has an element that is no string")),
    });
    let span = value.span();
    let last_end = elements.iter().last().map(|element| element.span().end);
    Ok((
        version,
        Some(List { names: names.collect::<Result<_, _>>()?, start: span.start, end: span.end, last_end }),
    ))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// kubeadm's arguments with that endpoint in them; `None` where they name none.
pub fn pointed_flags(text: &str, endpoint: &str) -> Option<String> {
    let start = text.find(FLAG)? + FLAG.len();
    let value = start + text[start..].find(|letter| !['=', ' '].contains(&letter))?;
    let end = text[value..].find(['"', '\'', ' ', '\n']).map_or(text.len(), |length| value + length);
    Some(format!("{}{endpoint}{}", &text[..value], &text[end..]))
}

/// The kubelet's configuration with that endpoint in it, as a line of its own where there was none.
///
/// # Errors
/// Where the file has no lines of keys.
pub fn pointed_configuration(text: &str, endpoint: &str) -> Result<String, String> {
    if text.trim_start().starts_with('{') {
        return Err(format!("it is JSON: set {KEY} {endpoint} by hand"));
    }
    let line = format!("{KEY} {endpoint}\n");
    let mut lines = text.split_inclusive('\n');
    if !lines.clone().any(|line| line.starts_with(KEY)) {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{text}{newline}{line}"));
    }
    Ok(lines.by_ref().map(|old| if old.starts_with(KEY) { line.as_str() } else { old }).collect())
}

/// The text that takes back what a switch did to `now`, in a file that somebody else has changed since.
pub fn taken_back(file: File, now: &str, cridge: &str, before: &str) -> Result<String, String> {
    match file {
        File::Containerd => with_plugin(now),
        File::Flags | File::Configuration => Ok(now.replace(cridge, before)),
    }
}

/// `unix:///run/cridge/cridge.sock`.
pub fn endpoint(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = r#""io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox""#;

    #[test]
    fn the_plugin_is_taken_out_of_any_configuration() {
        let cases = [
            (None, 1, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n".to_owned()),
            (None, 2, format!("version = 3\ndisabled_plugins = [{ALL}]\n")),
            (
                Some("version = 2\n[grpc]\n"),
                1,
                "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\nversion = 2\n[grpc]\n".into(),
            ),
            (Some("[grpc]\n"), 1, "disabled_plugins = [\"cri\"]\n[grpc]\n".into()),
            (
                Some("version = 3\ndisabled_plugins = []\n"),
                2,
                format!("version = 3\ndisabled_plugins = [{ALL}]\n"),
            ),
            (
                Some("disabled_plugins = [\n  \"x\", # why\n]\nversion = 2\n"),
                1,
                "disabled_plugins = [\n  \"x\", \"io.containerd.grpc.v1.cri\", # why\n]\nversion = 2\n"
                    .into(),
            ),
            (Some("disabled_plugins = ['cri']"), 1, "disabled_plugins = ['cri']".into()),
        ];
        for (text, major, expected) in cases {
            let changed = without_plugin(text, major).unwrap();
            assert_eq!(changed, expected, "{text:?}");
            toml::from_str::<toml::Table>(&changed).unwrap();
            assert_eq!(without_plugin(Some(&changed), major).unwrap(), changed, "twice: {text:?}");
            assert!(!with_plugin(&changed).unwrap().contains("cri"), "{text:?}");
        }
        for wrong in ["disabled_plugins = 7", "disabled_plugins = [7]", "x = ["] {
            without_plugin(Some(wrong), 2).unwrap_err();
        }
    }

    #[test]
    fn the_kubelet_is_pointed_elsewhere_and_nothing_else_is_touched() {
        let flags = "KUBELET_KUBEADM_ARGS=\"--a=b --container-runtime-endpoint=unix:///run/containerd/containerd.sock --c\"\n";
        let pointed = pointed_flags(flags, "unix:///x.sock").unwrap();
        assert_eq!(
            pointed,
            "KUBELET_KUBEADM_ARGS=\"--a=b --container-runtime-endpoint=unix:///x.sock --c\"\n"
        );
        assert_eq!(
            pointed_flags("A='--container-runtime-endpoint unix:///o'", "unix:///x").unwrap(),
            "A='--container-runtime-endpoint unix:///x'"
        );
        assert_eq!(pointed_flags("KUBELET_KUBEADM_ARGS=\"--a\"\n", "unix:///x"), None);
        let cases = [
            (
                "a: b\ncontainerRuntimeEndpoint: \"unix:///old\"\nc: d\n",
                "a: b\ncontainerRuntimeEndpoint: unix:///x\nc: d\n",
            ),
            ("a: b", "a: b\ncontainerRuntimeEndpoint: unix:///x\n"),
            ("", "containerRuntimeEndpoint: unix:///x\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(pointed_configuration(text, "unix:///x").unwrap(), expected, "{text:?}");
        }
        pointed_configuration("{\"a\": 1}", "unix:///x").unwrap_err();
    }
}
