//! What an operator can set: the model that the rest of the program reads, the file that fills it, and the one
//! document that describes every key.
//!
//! What is in force can be replaced while the daemon serves, by another that is whole ([`InForce`]).
//!
//! Invariant: a [`Config`] that leaves this folder is whole and within its ranges. Flags beat the file, the file
//! beats defaults.

mod document;
mod error;
mod file;
mod in_force;
mod model;
mod section;
mod value;

pub use document::{DEFAULT, markdown};
pub use error::{ConfigError, Mistake};
pub use file::{DEFAULT_PATH, Loaded};
pub use in_force::{Changes, Effect, InForce, Reloads, keep_what_needs_a_restart};
pub use model::*;
pub use value::{absolute_path, log_level, socket_path};
