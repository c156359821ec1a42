//! The CRI's surface: one small function per RPC that checks, calls the domain and shapes the reply. What goes wrong
//! becomes a gRPC status in `status.rs` and nowhere else.

mod convert;
mod filter;
mod image;
mod runtime;
mod status;
mod verbose;

pub use image::ImageService;
pub use runtime::RuntimeService;
