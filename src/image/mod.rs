//! Images: what is there, by every name it has; pulling, unpacking, removing.
//!
//! An image's id is the digest of its config. containerd's image records are the truth; memory is an index of them.

mod error;
mod store;

pub use error::ImageError;
pub use store::{FilesystemUsage, Image, Images, PullRequest};
