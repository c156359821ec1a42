//! The CRI's messages and service traits, generated from `proto/` by `build.rs`.

#[allow(clippy::all, missing_docs, rustdoc::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}
