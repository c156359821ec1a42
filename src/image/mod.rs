//! Images: what is there, by every name it has; pulling, unpacking, removing.
//!
//! An image's id is the digest of its config. containerd's image records are the truth; memory is an index of them.
//! Names and labels are those of containerd's own CRI plugin, so that it, `ctr` and garbage collection go on with them.
//!
//! - `store` the index of what is there; `index`, `record` what it is made of
//! - `pull` the plan: `resolve` (`manifest`, `platform`), `fetch`, `unpack`; `flight`, `lease`, `blob` carry it
//! - `progress` how far pulls are
//! - `remove`, `usage`, `pause` (the built-in image, with `tar`)

mod blob;
mod error;
mod fetch;
mod flight;
#[cfg(test)]
mod fuzz;
mod index;
mod lease;
mod manifest;
mod pause;
mod platform;
pub mod progress;
mod pull;
mod record;
mod remove;
mod resolve;
mod store;
mod tar;
mod unpack;
mod usage;

pub use error::{Flaw, ImageError, REGISTRY_UNAVAILABLE};
pub use pull::PullRequest;
pub use store::{Image, Images};
pub use usage::FilesystemUsage;
