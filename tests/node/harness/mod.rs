//! What the tests stand on: nodes with a private containerd and a CRI server of their own, pods made by builders,
//! and a look at what each test has left behind.

pub mod cgroups;
mod client;
mod container;
mod disk;
mod lab;
mod leaks;
mod manager;
mod node;
mod pod;
mod points;
mod power;
pub mod processes;
mod record;
mod trial;
mod usage;
mod wait;

pub use client::{assert_field, code_of, request};
pub use container::{Container, ContainerBuilder, Output, Shell};
pub use disk::Disk;
pub use lab::{Lab, runc};
pub use leaks::{anywhere as left_anywhere, on as left_on};
pub use node::{Criu, Node, NodeOptions, Server};
pub use pod::{Pod, PodBuilder};
pub use points::Points;
pub use trial::{Case, Kind, Test, on_cridge, release_trials, text_of};
pub use usage::Usage;
pub use wait::{is_emulated, until};

/// The image of nearly all containers: a busybox with pgrep and ipcs.
pub const BUSYBOX: &str = "docker.io/library/busybox:latest";
