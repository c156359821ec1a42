//! Generates the CRI's Rust types and service traits from `proto/`.

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    tonic_prost_build::configure()
        .bytes(".runtime.v1.KeyValue.value")
        // Its Debug is written by hand in src/proto.rs: the derived one prints passwords.
        .skip_debug([".runtime.v1.AuthConfig"])
        .file_descriptor_set_path(Path::new(&out_dir).join("cri.pb"))
        .compile_protos(&declarations()?, &[PathBuf::from("proto")])
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
