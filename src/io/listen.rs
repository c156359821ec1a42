//! Who listens to a container's output beside its log.
//!
//! Invariant: a listener never holds up the container or its log. One that cannot keep up is cut off, and can tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces that may wait for a listener: with the longest, of a whole pipe, 4 MiB.
const MAX_WAITING: usize = 64;

/// The listeners of one stream.
#[derive(Debug, Default)]
pub struct Listeners(Mutex<Audience>);

#[derive(Debug, Default)]
struct Audience {
    over: bool,
    listeners: Vec<(mpsc::Sender<Bytes>, Arc<AtomicBool>)>,
}

/// What a container writes from now on.
#[derive(Debug)]
pub struct Listener {
    pieces: mpsc::Receiver<Bytes>,
    cut_off: Arc<AtomicBool>,
}

impl Listeners {
    /// Another one, for what is yet to come.
    pub fn join(&self) -> Listener {
        let (sender, pieces) = mpsc::channel(MAX_WAITING);
        let cut_off = Arc::<AtomicBool>::default();
        let mut audience = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !audience.over {
            audience.listeners.push((sender, cut_off.clone()));
        }
        Listener { pieces, cut_off }
    }

    /// Tells all of them.
    pub fn tell(&self, bytes: &[u8]) {
        let mut audience = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if audience.listeners.is_empty() || bytes.is_empty() {
            return;
        }
        let piece = Bytes::copy_from_slice(bytes);
        audience.listeners.retain(|(listener, cut_off)| {
            let told = listener.try_send(piece.clone());
            let full = matches!(told, Err(mpsc::error::TrySendError::Full(_)));
            cut_off.fetch_or(full, Ordering::Relaxed);
            told.is_ok()
        });
    }

    /// Nothing more will come.
    pub fn end(&self) {
        let mut audience = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *audience = Audience { over: true, listeners: Vec::new() };
    }
}

impl Listener {
    /// The next bytes; `None` after the last, or when it was cut off.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// Whether it did not keep up, and so missed something.
    pub fn was_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_hears_from_its_joining_to_the_end() {
        let listeners = Listeners::default();
        listeners.tell(b"before");
        let mut listener = listeners.join();
        listeners.tell(b"one");
        listeners.tell(b"two");
        listeners.end();
        assert_eq!(listener.chunk().await.unwrap(), "one");
        assert_eq!(listener.chunk().await.unwrap(), "two");
        assert_eq!(listener.chunk().await, None);
        assert!(!listener.was_cut_off());
        assert_eq!(listeners.join().chunk().await, None);
    }

    #[tokio::test]
    async fn one_that_does_not_keep_up_is_cut_off_alone() {
        let listeners = Listeners::default();
        let (mut slow, mut quick) = (listeners.join(), listeners.join());
        for _ in 0..=MAX_WAITING {
            listeners.tell(b"x");
            assert_eq!(quick.chunk().await.unwrap(), "x");
        }
        let mut heard = 0;
        while slow.chunk().await.is_some() {
            heard += 1;
        }
        assert_eq!((heard, slow.was_cut_off(), quick.was_cut_off()), (MAX_WAITING, true, false));
        listeners.tell(b"y");
        assert_eq!(quick.chunk().await.unwrap(), "y");
    }
}
