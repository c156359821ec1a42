//! `cridge play`: runs a Kubernetes v1 Pod through any CRI endpoint, without a kubelet.
//!
//! A client of the CRI like any other: it asks for what a kubelet would ask for, and knows nothing of the server.
//! Invariant: what a manifest says is done or refused, never passed over; and what a run has made, it removes.

mod backoff;
mod container;
mod error;
mod expand;
mod fields;
#[cfg(test)]
mod fuzz;
mod logs;
mod manifest;
mod node;
mod pod;
mod quantity;
mod read;
mod resources;
mod run;
mod runtime;
mod show;
mod translate;
mod volumes;

pub use error::PlayError;
pub use run::{AfterStart, Outcome, Play, play};
