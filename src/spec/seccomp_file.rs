//! Seccomp profiles of the node, out of their files: OCI `LinuxSeccomp` documents, and docker's format.
//!
//! Docker's differs by conditions on rules (`includes`, `excludes`), an `archMap`, and single `name`s. Read as an OCI
//! document, as containerd does, a rule's condition would be lost, and the rule would hold for everyone.

use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp};
use serde_json::Value;

use super::{NodeFacts, caps};

/// A profile, with the conditions of docker's format resolved for this process and node.
pub(super) fn parse(
    contents: &[u8],
    capabilities: Option<&LinuxCapabilities>,
    node: &NodeFacts,
) -> Result<LinuxSeccomp, String> {
    let mut document: Value =
        serde_json::from_slice(contents).map_err(|error| format!("it is not JSON: {error}"))?;
    let Some(profile) = document.as_object_mut() else { return Err("it is not a JSON object".into()) };
    if let Some(map) = profile.remove("archMap").filter(|map| !map.is_null()) {
        let given =
            profile.get("architectures").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if given {
            return Err("it has both architectures and archMap".into());
        }
        profile.insert("architectures".into(), architectures(&map));
    }
    for list in ["syscalls", "architectures", "flags"] {
        // Go writes an empty list as null.
        if profile.get(list).is_some_and(Value::is_null) {
            profile.remove(list);
        }
    }
    if let Some(calls) = profile.get_mut("syscalls").and_then(Value::as_array_mut) {
        calls.retain(|call| holds(call, capabilities, node));
        calls.iter_mut().for_each(plain);
    }
    serde_json::from_value(document).map_err(|error| error.to_string())
}

/// The architectures of docker's map that are this machine's.
fn architectures(map: &Value) -> Value {
    let native = native();
    let entry = map.as_array().into_iter().flatten().find(|entry| entry["architecture"] == native);
    let subs = entry.and_then(|entry| entry["subArchitectures"].as_array());
    let own = entry.map(|entry| &entry["architecture"]);
    own.into_iter().chain(subs.into_iter().flatten()).cloned().collect()
}

/// This machine in libseccomp's words.
fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "x86" => "SCMP_ARCH_X86",
        "s390x" => "SCMP_ARCH_S390X",
        "powerpc64" => "SCMP_ARCH_PPC64LE",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => "SCMP_ARCH_NATIVE",
    }
}

/// This machine in Go's words, which docker's conditions use.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Whether a rule's conditions hold here: all that it includes, none that it excludes.
fn holds(call: &Value, capabilities: Option<&LinuxCapabilities>, node: &NodeFacts) -> bool {
    let list = |filter: &str, name: &str| call[filter][name].as_array().filter(|list| !list.is_empty());
    let has =
        |name: &Value| name.as_str().and_then(caps::parse).is_some_and(|cap| caps::has(capabilities, cap));
    let kernel = |filter: &str| call[filter]["minKernel"].as_str().filter(|text| !text.is_empty());
    let arch = |list: &Vec<Value>| list.iter().any(|arch| arch == go_arch());

    list("includes", "arches").is_none_or(arch)
        && list("includes", "caps").is_none_or(|list| list.iter().all(has))
        && kernel("includes").is_none_or(|text| reached(text, node))
        && !list("excludes", "arches").is_some_and(arch)
        && !list("excludes", "caps").is_some_and(|list| list.iter().any(has))
        && !kernel("excludes").is_some_and(|text| reached(text, node))
}

/// Whether the kernel is at least `major.minor`. What cannot be read counts as not reached.
fn reached(text: &str, node: &NodeFacts) -> bool {
    let mut parts = text.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if node.kernel >= (major, minor))
}

/// Turns docker's single `name` into `names`.
fn plain(call: &mut Value) {
    let Some(call) = call.as_object_mut() else { return };
    if let Some(name) = call.remove("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty()))
    {
        call.insert("names".into(), Value::Array(vec![name]));
    }
    if call.get("args").is_some_and(Value::is_null) {
        call.remove("args");
    }
}
