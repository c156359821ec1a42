//! Traces: what was done for a call, span by span, within the trace that its caller has begun.
//!
//! ```text
//! context.rs  which span of which trace: W3C Trace Context
//! span.rs     something being done, and what is told of it once it has ended
//! current.rs  what a task is at, and what it hands on
//! sink.rs     where ended spans go: a bounded queue, or nowhere; recorded.rs, in tests
//! ```
//!
//! Calls begin spans (`cri/calls.rs`), operations and their steps do (`work`), and containerd is told in which it is
//! called (`containerd/client.rs`). Who tells a collector of them is not known here. Without anybody to tell, a caller's
//! context is handed on to containerd as it came. Invariant: a span never delays what it is about, and has no text of a
//! request's or an error's making in it: names, ids, references of images and codes are all there is.

mod context;
mod current;
#[cfg(test)]
pub mod recorded;
mod sink;
mod span;

pub use context::{Context, PARENT, STATE};
pub use current::{current, spawn, within};
pub use sink::{LOST, SENT, Sink, tell};
pub use span::{Attribute, Ended, Kind, Span, Value};
