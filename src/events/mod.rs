//! What has happened: to containerd's tasks and images, which is noted here, and to pods and containers, which is told.

mod hub;
mod watch;

pub use hub::{CUT_OFF, EventsError, Hub, PodEvent, SandboxSnapshot, Subscription, TOLD};
pub use watch::{CONNECTS, Followers, Link, lag_of_containerd, watch};
