//! What an operator can set: the model that the rest of the program reads, the file that fills it, and the one
//! document that describes every key.
//!
//! Invariant: a [`Config`] that leaves this folder is whole and within its ranges. Flags beat the file, the file
//! beats defaults.

mod document;
mod error;
mod file;
mod model;
mod section;
mod value;

pub use document::{DEFAULT, markdown};
pub use error::{ConfigError, Mistake};
pub use file::{DEFAULT_PATH, Loaded};
pub use model::*;
pub use value::{absolute_path, log_level, socket_path};
