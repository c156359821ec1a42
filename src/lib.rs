//! cridge: a CRI v1 server over a stock containerd.

pub mod check;
pub mod cli;
pub mod config;
pub mod containerd;
pub mod error;
pub mod id;
pub mod image;
pub mod io;
pub mod linux;
pub mod network;
pub mod play;
pub mod proto;
pub mod registry;
pub mod signal;
pub mod spec;
pub mod state;
pub mod time;
