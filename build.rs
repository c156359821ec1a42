//! Generates the CRI's Rust types and service traits from `proto/`, OTLP's where traces are wanted, and compiles the pause
//! program.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    pause(&Path::new(&out_dir).join("pause"))?;
    std::fs::write(Path::new(&out_dir).join("calls.rs"), calls(&declarations()?)?)?;
    if std::env::var_os("CARGO_FEATURE_TRACES").is_some() {
        tonic_prost_build::configure()
            .compile_protos(&[PathBuf::from("proto/otlp/trace.proto")], &[PathBuf::from("proto")])?;
    }
    with_stored_json(tonic_prost_build::configure())
        // A call that is not done yet answers Unimplemented by itself.
        .generate_default_stubs(true)
        .bytes(".runtime.v1.KeyValue.value")
        // Its Debug is written by hand in src/proto.rs: the derived one prints passwords.
        .skip_debug([".runtime.v1.AuthConfig"])
        .file_descriptor_set_path(Path::new(&out_dir).join("cri.pb"))
        .compile_protos(&declarations()?, &[PathBuf::from("proto")])
}

/// The paths of all calls, in order, as a list in Rust.
fn calls(declarations: &[PathBuf]) -> std::io::Result<String> {
    let mut paths = Vec::new();
    for file in declarations {
        let text = std::fs::read_to_string(file)?;
        let mut service = "";
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["service", name, ..] => service = name,
                ["rpc", call, ..] => {
                    let call = call.split('(').next().unwrap_or(call);
                    paths.push(format!("/runtime.v1.{service}/{call}"));
                }
                _ => {}
            }
        }
    }
    paths.sort();
    Ok(format!("&{paths:?}"))
}

/// Compiles the program of the built-in pause image: static, without libc, for the same target as cridge. The linker is
/// the one that comes with Rust; where a distribution leaves it out, the system's.
fn pause(program: &Path) -> std::io::Result<()> {
    const SOURCE: &str = "src/image/pause/main.rs";
    println!("cargo:rerun-if-changed={SOURCE}");
    let own: &[&str] = &["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Clink-arg=--build-id=none"];
    let system: &[&str] = &["-Clink-args=-nostdlib -nostartfiles -static -Wl,--build-id=none"];
    let mut complaints = Vec::new();
    for linker in [own, system] {
        let compiled = Command::new(std::env::var_os("RUSTC").expect("cargo sets RUSTC for build scripts"))
            .args(["--edition=2024", "--crate-name=pause", "--crate-type=bin", "-Dwarnings", SOURCE])
            .args(["-Cpanic=abort", "-Copt-level=z", "-Crelocation-model=static", "-Cstrip=symbols"])
            .args(linker)
            .arg("--target")
            .arg(std::env::var_os("TARGET").expect("cargo sets TARGET for build scripts"))
            .arg("-o")
            .arg(program)
            .output()?;
        if compiled.status.success() {
            return Ok(());
        }
        complaints.push(String::from_utf8_lossy(&compiled.stderr).into_owned());
    }
    Err(std::io::Error::other(format!("{SOURCE} does not compile:\n{}", complaints.join("\n"))))
}

/// The messages that reach the disk: the sandbox's and container's configs, the resources, and all inside them.
const STORED: [&str; 32] = [
    "Capability",
    "CDIDevice",
    "ContainerConfig",
    "ContainerMetadata",
    "ContainerResources",
    "Device",
    "DNSConfig",
    "HugepageLimit",
    "IDMapping",
    "ImageSpec",
    "Int64Value",
    "KeyValue",
    "LinuxContainerConfig",
    "LinuxContainerResources",
    "LinuxContainerSecurityContext",
    "LinuxPodSandboxConfig",
    "LinuxSandboxSecurityContext",
    "Mount",
    "NamespaceOption",
    "PodSandboxConfig",
    "PodSandboxMetadata",
    "PortMapping",
    "SecurityProfile",
    "SELinuxOption",
    "UserNamespace",
    "WindowsContainerConfig",
    "WindowsContainerResources",
    "WindowsContainerSecurityContext",
    "WindowsCpuGroupAffinity",
    "WindowsNamespaceOption",
    "WindowsPodSandboxConfig",
    "WindowsSandboxSecurityContext",
];

/// Fields whose JSON name is not the Rust one: Go's tags repeat the declaration's spelling.
const SPELLED: [(&str, &str); 3] = [
    ("ContainerConfig.CDI_devices", "CDI_devices"),
    ("Mount.uidMappings", "uidMappings"),
    ("Mount.gidMappings", "gidMappings"),
];

/// Maps, which Go writes with their keys in order.
const MAPS: [&str; 7] = [
    "ContainerConfig.annotations",
    "ContainerConfig.labels",
    "ImageSpec.annotations",
    "LinuxContainerResources.unified",
    "LinuxPodSandboxConfig.sysctls",
    "PodSandboxConfig.annotations",
    "PodSandboxConfig.labels",
];

/// Gives the stored messages the JSON that Go's encoding/json writes of them (see `src/proto/stored.rs`).
fn with_stored_json(mut builder: tonic_prost_build::Builder) -> tonic_prost_build::Builder {
    let skip_default = r#"#[serde(skip_serializing_if = "crate::proto::stored::is_default")]"#;
    for message in STORED {
        // A path means all below it, and an enum inside a message has no fields.
        let fields: &[&str] = match message {
            "SecurityProfile" => &[".profile_type", ".localhost_ref"],
            _ => &[""],
        };
        let path = format!(".runtime.v1.{message}");
        let derive = "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]";
        builder = builder.message_attribute(&path, derive);
        for field in fields {
            builder = builder.field_attribute(format!("{path}{field}"), skip_default);
        }
    }
    for (field, name) in SPELLED {
        builder = builder
            .field_attribute(format!(".runtime.v1.{field}"), format!(r#"#[serde(rename = "{name}")]"#));
    }
    for map in MAPS {
        let sorted = r#"#[serde(serialize_with = "crate::proto::stored::sorted")]"#;
        builder = builder.field_attribute(format!(".runtime.v1.{map}"), sorted);
    }
    builder.field_attribute(".runtime.v1.KeyValue.value", r#"#[serde(with = "crate::proto::stored::text")]"#)
}

/// Every file of the declaration, in an order that does not depend on the file system.
fn declarations() -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir("proto/runtime/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
