//! cridge: a CRI v1 server over a stock containerd.

pub mod check;
pub mod cli;
pub mod config;
pub mod container;
pub mod containerd;
pub mod cri;
pub mod error;
pub mod events;
pub mod field;
pub mod id;
pub mod image;
pub mod io;
pub mod linux;
pub mod network;
pub mod play;
pub mod pod;
pub mod proto;
pub mod recovery;
pub mod registry;
pub mod sandbox;
pub mod server;
pub mod signal;
pub mod spec;
pub mod state;
pub mod streaming;
pub mod time;
