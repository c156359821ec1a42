//! cridge: a CRI v1 server over a stock containerd.

pub mod error;
pub mod id;
pub mod proto;
pub mod signal;
pub mod time;
