//! What has happened: to containerd's tasks and images, which is noted here, and to pods and containers, which is told.

mod hub;
mod watch;

pub use hub::{EventsError, Hub, PodEvent, SandboxSnapshot, Subscription};
pub use watch::{Followers, Link, watch};
