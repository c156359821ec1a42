//! What one read brought, on its way to somebody else. Much is handed on as it is, little is copied: nothing that waits
//! keeps more memory than about its bytes.

use bytes::Bytes;

/// Bytes to be read at once, at most.
pub const CHUNK: usize = 128 << 10;
/// Fewer are copied.
const COPIED: usize = 16 << 10;

/// Where reads go.
#[derive(Debug, Default)]
pub struct Chunk(Vec<u8>);

impl Chunk {
    /// An empty buffer with room for [`CHUNK`] bytes.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0.reserve_exact(CHUNK);
        &mut self.0
    }

    /// What was put there.
    pub fn take(&mut self) -> Bytes {
        if self.0.len() < COPIED {
            Bytes::copy_from_slice(&self.0)
        } else {
            std::mem::take(&mut self.0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_handed_on_and_little_is_copied() {
        for (length, copied) in [(COPIED - 1, true), (COPIED, false), (CHUNK, false)] {
            let mut chunk = Chunk::default();
            let buffer = chunk.room();
            assert!(buffer.capacity() >= CHUNK);
            buffer.resize(length, 7);
            let place = buffer.as_ptr();
            let taken = chunk.take();
            assert_eq!((taken.len(), taken.as_ptr() != place), (length, copied));
            assert!(chunk.room().is_empty());
        }
    }
}
