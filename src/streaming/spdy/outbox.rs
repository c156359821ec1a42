//! The frames that wait to be written, in their order.

use bytes::Bytes;

use super::frame::{StreamId, data_head};

/// Bytes of one data frame, at most: so that streams take turns.
pub const MAX_DATA: usize = 128 << 10;
/// What a data frame on its way out takes beside its bytes, roughly.
pub const FRAME_OVERHEAD: usize = 192;
/// Control frames on their way out, in bytes, beyond which the peer must first read: its pings and errors cause them.
const MAX_CONTROL_QUEUED: usize = 64 << 10;

/// What is to be said to the peer.
#[derive(Default)]
pub struct Outbox {
    frames: Vec<Bytes>,
    /// The data frame at the end of those.
    open: Option<OpenFrame>,
    /// Bytes of data, with their overhead.
    data: usize,
    /// Bytes of control frames.
    control: usize,
}

/// A data frame that waits to be written, and may still grow.
struct OpenFrame {
    id: StreamId,
    /// Where its head waits; its pieces are behind that.
    head: usize,
    length: usize,
}

impl Outbox {
    /// A control frame, or data's end.
    pub fn say(&mut self, frame: Bytes) {
        self.open = None;
        self.control += frame.len();
        self.frames.push(frame);
    }

    /// Data of a stream.
    pub fn send(&mut self, id: StreamId, data: Bytes) {
        self.data += data.len() + FRAME_OVERHEAD;
        match &mut self.open {
            // What waits anyhow goes out as one: clients pay for each frame.
            Some(open) if open.id == id && open.length + data.len() <= MAX_DATA => {
                open.length += data.len();
                self.frames[open.head] = data_head(id, open.length, false);
            }
            open => {
                *open = Some(OpenFrame { id, head: self.frames.len(), length: data.len() });
                self.frames.push(data_head(id, data.len(), false));
            }
        }
        self.frames.push(data);
    }

    /// Everything, and how much room its data has taken.
    pub fn take(&mut self) -> (Vec<Bytes>, usize) {
        let Self { frames, data, .. } = std::mem::take(self);
        (frames, data)
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the peer causes more than it reads.
    pub fn is_flooded(&self) -> bool {
        self.control > MAX_CONTROL_QUEUED
    }
}
