//! The connection to containerd's events: what ends is noted, whatever was missed is found by comparison.

mod watch;

pub use watch::{Followers, Link, watch};
