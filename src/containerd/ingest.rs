//! Writing a blob: one stream of pieces, each acknowledged with the offset that it led to.
//!
//! A few pieces are on their way at any time, so that the network's side and the disk's need not wait for each other.
//! An offset other than the expected one ends the write: nothing is ever assumed to be stored.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use containerd_client::services::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::call::Call;
use super::convert::{bytes, signed, unordered};
use super::{Containerd, ContainerdError};
use crate::id::Digest;

type Result<T> = std::result::Result<T, ContainerdError>;

/// Bytes of data in one message: few enough to be far from the 16 MiB limit, enough for the overhead to vanish.
const PIECE: usize = 1 << 20;
/// Pieces that may wait for their acknowledgement.
const IN_FLIGHT: usize = 4;

/// An open write. Dropped without commit, what was written stays for a resume, until `abort_ingest` or GC.
#[derive(Debug)]
pub struct ContentWriter {
    containerd: Containerd,
    name: String,
    digest: Digest,
    size: u64,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// Where the next piece goes.
    offset: u64,
    /// The offsets that the pieces on their way lead to.
    expected: VecDeque<u64>,
}

impl Containerd {
    /// Opens (or resumes) the ingest `name`. `Kind::AlreadyExists` when the blob is there, `Kind::Unavailable` when
    /// another writer holds the ingest. The writer may stand at the end at once: containerd takes over a blob that
    /// another namespace has, and then wants the commit alone.
    pub async fn write_content(&self, name: &str, digest: &Digest, size: u64) -> Result<ContentWriter> {
        let call = Call::record("open ingest", &name);
        let (requests, stream) = mpsc::channel(IN_FLIGHT);
        let stat = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: name.into(),
            total: signed(size),
            expected: digest.to_string(),
            ..Default::default()
        };
        // The channel is empty and its other end in this scope.
        requests.try_send(stat).map_err(|error| call.malformed(error.to_string()))?;
        let opened = call.bounded(async {
            // A stream's headers come with its first message, the answer to this one.
            let mut answers = self.calls().content().write(ReceiverStream::new(stream)).await?.into_inner();
            let answer = answers.message().await?.ok_or_else(closed)?;
            Ok((answers, bytes(answer.offset)))
        });
        let (answers, offset) = opened.await?;
        Ok(ContentWriter {
            containerd: self.clone(),
            name: name.into(),
            digest: digest.clone(),
            size,
            requests,
            answers,
            offset,
            expected: VecDeque::with_capacity(IN_FLIGHT),
        })
    }
}

impl ContentWriter {
    /// Bytes written so far: where to resume.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends. Cut into messages that containerd takes; waits under back-pressure. Dropped half-way, the writer is of
    /// no more use: what is stored is what a new one's `offset` tells.
    pub async fn write(&mut self, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let request = WriteContentRequest {
                action: WriteAction::Write.into(),
                offset: signed(self.offset),
                data: piece.to_vec(),
                ..Default::default()
            };
            self.offset += piece.len() as u64;
            self.send(request).await?;
            self.acknowledged(IN_FLIGHT - 1).await?;
        }
        Ok(())
    }

    /// Throws away what was written, to begin at 0 again.
    pub async fn truncate(&mut self) -> Result<()> {
        self.acknowledged(0).await?;
        // A write at 0 where there is more is what containerd takes for it.
        let request = WriteContentRequest { action: WriteAction::Write.into(), ..Default::default() };
        self.offset = 0;
        self.send(request).await?;
        self.acknowledged(0).await
    }

    /// Checks size and digest and makes the blob visible with its labels. An existing one is fine, and gets the labels.
    ///
    /// # Errors
    /// `Kind::FailedPrecondition` where size or digest are not those that were announced; the ingest stays then.
    pub async fn commit(mut self, labels: &BTreeMap<String, String>) -> Result<()> {
        self.acknowledged(0).await?;
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total: signed(self.size),
            expected: self.digest.to_string(),
            offset: signed(self.offset),
            labels: unordered(labels),
            ..Default::default()
        };
        self.send(request).await?;
        let committed = Call::work("commit blob", &self.digest).bounded(answer(&mut self.answers)).await;
        match committed {
            Ok(answer) if answer.digest == self.digest.as_str() => Ok(()),
            Ok(answer) => {
                let call = Call::work("commit blob", &self.digest);
                Err(call.malformed(format!("it was committed as {:?}", answer.digest)))
            }
            Err(error) if error.is_there_already() => {
                self.containerd.label_content(&self.digest, labels).await
            }
            Err(error) => Err(error),
        }
    }

    /// Hands a message to the stream; the answer is awaited elsewhere.
    async fn send(&mut self, request: WriteContentRequest) -> Result<()> {
        let committing = request.action() == WriteAction::Commit;
        let sent = Call::work("write to ingest", &self.name).bounded(async {
            // The stream's end says more than the fact that it takes nothing any more.
            match self.requests.send(request).await {
                Ok(()) => Ok(()),
                Err(_) => Err(answer(&mut self.answers).await.err().unwrap_or_else(closed)),
            }
        });
        sent.await?;
        if !committing {
            self.expected.push_back(self.offset);
        }
        Ok(())
    }

    /// Awaits acknowledgements until only so many are left.
    async fn acknowledged(&mut self, left: usize) -> Result<()> {
        let call = Call::work("write to ingest", &self.name);
        while self.expected.len() > left {
            let answer = call.bounded(answer(&mut self.answers)).await?;
            let expected = self.expected.pop_front();
            if expected != Some(bytes(answer.offset)) {
                let why = format!("it is at {} and not at {}", answer.offset, expected.unwrap_or_default());
                return Err(call.malformed(why));
            }
        }
        Ok(())
    }
}

async fn answer(
    answers: &mut Streaming<WriteContentResponse>,
) -> std::result::Result<WriteContentResponse, Status> {
    answers.message().await?.ok_or_else(closed)
}

fn closed() -> Status {
    Status::aborted("the stream ended early")
}
