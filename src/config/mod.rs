//! What an operator can set, in one place: defaults, the file, its checks.

mod model;

pub use model::*;
