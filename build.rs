//! Generates the CRI's Rust types and service traits from `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .bytes(".runtime.v1.KeyValue.value")
        .compile_protos(&["proto/runtime/v1/api.proto"], &["proto"])
}
