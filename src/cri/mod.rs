//! The CRI's surface: one small function per RPC that checks, calls the domain and shapes the reply. What goes wrong
//! becomes a gRPC status in `status.rs` and nowhere else.

mod batch;
mod calls;
mod checkpoint;
mod conditions;
mod convert;
mod deadline;
mod events;
mod filter;
mod image;
mod informed;
mod lists;
mod request;
mod runtime;
mod stats;
mod status;
mod streaming;
mod subject;
mod verbose;

pub use calls::{CallFigures, Counted, calls};
pub use deadline::Deadline;
pub use image::ImageService;
pub use informed::Informed;
pub use runtime::RuntimeService;
