//! Streaming: what stands behind the URLs of exec, attach and port-forward.

pub mod spdy;
