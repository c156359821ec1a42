//! cridge: a CRI v1 server over a stock containerd.

pub mod check;
pub mod chunk;
pub mod cli;
pub mod config;
pub mod container;
pub mod containerd;
pub mod cri;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod field;
pub mod fsck;
#[cfg(test)]
mod fuzz;
pub mod id;
pub mod image;
pub mod io;
pub mod linux;
pub mod migrate;
pub mod network;
pub mod play;
pub mod pod;
pub mod pods;
pub mod proto;
pub mod quantity;
pub mod recovery;
pub mod registry;
pub mod sandbox;
pub mod server;
pub mod signal;
pub mod spec;
pub mod state;
pub mod stats;
pub mod streaming;
pub mod time;
pub mod work;
