//! Lists as streams: batches that no message limit is reached by.
//!
//! Invariant: a batch is made when the client has room for it, and none once the client is gone.

use futures::stream::{self, BoxStream, StreamExt as _};
use prost::Message;
use tonic::{Response, Status};

/// Bytes of a batch that is full: well below gRPC's usual 4 MiB.
const FULL_BYTES: usize = 1 << 20;
/// Rows of a batch that is full.
const FULL_ROWS: usize = 500;

/// What a streaming call answers with.
pub(super) type Batches<T> = Response<BoxStream<'static, Result<T, Status>>>;

/// Streams a list in its order. The transport asks for one batch after the other, as fast as the client reads.
pub(super) fn batches<Row, Batch>(rows: Vec<Row>, wrap: fn(Vec<Row>) -> Batch) -> Batches<Batch>
where
    Row: Message + 'static,
    Batch: Send + 'static,
{
    let mut rows = rows.into_iter().peekable();
    let next = move || {
        let batch = take_batch(&mut rows);
        (!batch.is_empty()).then(|| Ok(wrap(batch)))
    };
    Response::new(stream::iter(std::iter::from_fn(next)).boxed())
}

/// As many rows as fit; a single one that does not goes alone.
fn take_batch<Row: Message>(rows: &mut std::iter::Peekable<impl Iterator<Item = Row>>) -> Vec<Row> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < FULL_ROWS {
        let fits = |row: &Row| batch.is_empty() || bytes + row.encoded_len() <= FULL_BYTES;
        let Some(row) = rows.next_if(fits) else { break };
        bytes += row.encoded_len();
        batch.push(row);
    }
    batch
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::cri;

    fn row(id: usize, bytes: usize) -> cri::Image {
        cri::Image { id: id.to_string(), username: "u".repeat(bytes), ..Default::default() }
    }

    fn all(rows: Vec<cri::Image>) -> Vec<cri::StreamImagesResponse> {
        let stream = batches(rows, |images| cri::StreamImagesResponse { images }).into_inner();
        stream.map(Result::unwrap).collect().now_or_never().unwrap()
    }

    #[test]
    fn nothing_is_no_batch() {
        assert_eq!(all(Vec::new()), []);
    }

    #[test]
    fn a_row_that_fits_nowhere_goes_alone() {
        let sizes: Vec<_> = all(vec![row(0, 10), row(1, 2 * FULL_BYTES), row(2, 10)])
            .iter()
            .map(|b| b.images.len())
            .collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_batch_is_made_when_it_is_asked_for() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let wrap = |images| {
            MADE.fetch_add(1, Ordering::Relaxed);
            cri::StreamImagesResponse { images }
        };
        let mut stream = batches((0..10 * FULL_ROWS).map(|id| row(id, 0)).collect(), wrap).into_inner();
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        stream.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
        drop(stream);
        assert_eq!(MADE.load(Ordering::Relaxed), 1, "a client that left is sent nothing");
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_in_order(sizes in proptest::collection::vec(0..300_000usize, 0..40), many in 0..1200usize) {
            let rows: Vec<_> = sizes.iter().copied().chain(std::iter::repeat_n(0, many)).enumerate().map(|(id, bytes)| row(id, bytes)).collect();
            let streamed = all(rows.clone());
            for batch in &streamed {
                prop_assert!(!batch.images.is_empty() && batch.images.len() <= FULL_ROWS);
                let bytes: usize = batch.images.iter().map(Message::encoded_len).sum();
                prop_assert!(bytes <= FULL_BYTES);
            }
            let streamed: Vec<_> = streamed.into_iter().flat_map(|batch| batch.images).collect();
            prop_assert_eq!(streamed, rows);
        }
    }
}
