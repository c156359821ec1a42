//! Spans for a collector, over OTLP/gRPC (opentelemetry.io/docs/specs/otlp), in builds with the feature `traces`.
//!
//! ```text
//! export.rs   the task that has them sent
//! message.rs  what a batch of them is on the wire
//! absent.rs   what stands for all that in other builds
//! ```
//!
//! The only place that names OpenTelemetry's protobuf. It is a client of one call upon tonic, which is here anyway; the
//! libraries for it would bring queues, clocks and threads of their own. Invariant: a collector that is slow or away costs
//! a bounded queue and a line in the log, and nobody waits for it.

#[cfg(not(feature = "traces"))]
mod absent;
mod error;
#[cfg(feature = "traces")]
mod export;
#[cfg(feature = "traces")]
mod message;

#[cfg(not(feature = "traces"))]
pub use absent::Exporter;
pub use error::OtlpError;
#[cfg(feature = "traces")]
pub use export::Exporter;
