//! One blob from a registry into the content store: once however many pulls want it, whole, and no byte more.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::blob::{self, Labels, Role};
use super::error::{Flaw, ImageError};
use super::flight::Flights;
use super::lease::Share;
use super::progress::{self, Arrival, Board};
use crate::containerd::{ContainerdError, ContentWriter, Descriptor};
use crate::error::Kind;
use crate::id::Digest;
use crate::proto::cri::AuthConfig;
use crate::registry::{Credentials, Reference, Registry, RegistryError};

/// Attempts in a row that bring next to nothing, before a download is given up.
const ATTEMPTS: u32 = 5;
/// Bytes that make an attempt worth repeating without end.
const PROGRESS: u64 = 1 << 20;
/// The pause after the first failed attempt; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(200);
/// Where an image is fetched, and as whom.
#[derive(Clone)]
pub struct Access(Arc<AccessParts>);

struct AccessParts {
    reference: Reference,
    auth: Option<AuthConfig>,
    credentials: Credentials,
}

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        self.0.reference.name() == other.0.reference.name() && self.0.auth == other.0.auth
    }
}

impl Access {
    /// # Errors
    /// When the credentials are malformed.
    pub fn new(reference: Reference, auth: Option<&AuthConfig>) -> Result<Self, RegistryError> {
        let credentials = Credentials::from_cri(auth, &reference)?;
        Ok(Self(Arc::new(AccessParts { reference, auth: auth.cloned(), credentials })))
    }

    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }
}

/// Downloads of all pulls.
pub struct Fetcher {
    line: Arc<Line>,
    flights: Flights<Digest, Access>,
}

/// What every download needs.
struct Line {
    registry: Registry,
    board: Board,
    permits: Semaphore,
    /// How long a stream may be silent.
    patience: Option<Duration>,
}

impl Fetcher {
    /// A `patience` of zero is endless.
    pub fn new(registry: Registry, board: Board, at_once: usize, patience: Duration) -> Self {
        let patience = (!patience.is_zero()).then_some(patience);
        let permits = Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS));
        let line = Line { registry, board, permits, patience };
        Self { line: Arc::new(line), flights: Flights::new() }
    }

    /// Has the blob in the content store, held by the lease.
    pub async fn fetch(
        &self,
        share: &Arc<Share>,
        access: &Access,
        role: Role,
        wanted: &Descriptor,
    ) -> Result<(), ImageError> {
        let start = || {
            let download = Download {
                line: self.line.clone(),
                share: share.clone(),
                access: access.clone(),
                image: access.reference().to_string(),
                role,
                wanted: wanted.clone(),
            };
            download.run()
        };
        self.flights.share(&wanted.digest, access, start).await
    }
}

impl Line {
    /// The right to download, as soon as few enough others do.
    async fn permit(&self) -> SemaphorePermit<'_> {
        let _waiting = progress::WAITING_DOWNLOADS.raise();
        self.permits.acquire().await.expect("the semaphore is never closed")
    }
}

/// One download.
struct Download {
    line: Arc<Line>,
    share: Arc<Share>,
    access: Access,
    image: String,
    role: Role,
    wanted: Descriptor,
}

/// Why a stream ended before the blob did.
enum Broken {
    /// Worth another attempt from where it stopped.
    Retry(ImageError),
    Fatal(ImageError),
}

impl Download {
    async fn run(self) -> Result<Arc<Share>, ImageError> {
        let labels = blob::source(self.access.reference());
        loop {
            let opened = blob::open(&self.share, self.role, &self.wanted, &labels).await;
            let Some(mut writer) = opened.map_err(self.failed())? else {
                self.line.board.was_here(&self.wanted.digest);
                return Ok(self.share);
            };
            // What another process began may be anything: if it proves wrong, we begin anew once.
            let mut inherited = writer.offset() > 0;
            if writer.offset() > self.wanted.size {
                writer.truncate().await.map_err(self.failed())?;
                inherited = false;
            }
            let _permit = self.line.permit().await;
            let _under_way = progress::DOWNLOADS.raise();
            let arrival = self.line.board.arrives(&self.wanted.digest, writer.offset());
            let stored = match self.fill(&mut writer, &arrival).await {
                Ok(()) => self.commit(writer, &labels).await,
                Err(error) => {
                    drop(writer);
                    Err(error)
                }
            };
            let Err(error) = stored else {
                self.line.board.has_come(&self.wanted.digest);
                if self.role == Role::Layer {
                    progress::FETCHED_LAYERS.add(1);
                }
                return Ok(self.share);
            };
            self.discard().await;
            if !(inherited && matches!(error, ImageError::Refused { source: Flaw::Content { .. }, .. })) {
                return Err(error);
            }
        }
    }

    /// Downloads what is missing, in as many attempts as it takes.
    async fn fill(&self, writer: &mut ContentWriter, arrival: &Arrival) -> Result<(), ImageError> {
        let mut fruitless = 0;
        while writer.offset() < self.wanted.size {
            let before = writer.offset();
            let error = match self.attempt(writer, arrival).await {
                Ok(()) => break,
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Retry(error)) => error,
            };
            if writer.offset().saturating_sub(before) >= PROGRESS {
                fruitless = 0;
            }
            fruitless += 1;
            if fruitless == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(digest = %self.wanted.digest, offset = writer.offset(), %error, "a download broke off; resuming");
            tokio::time::sleep(BACKOFF * 2_u32.pow(fruitless - 1)).await;
        }
        Ok(())
    }

    /// One stream, from the writer's offset to the blob's end.
    async fn attempt(&self, writer: &mut ContentWriter, arrival: &Arrival) -> Result<(), Broken> {
        let Descriptor { digest, size, .. } = &self.wanted;
        let (reference, credentials) = (self.access.reference(), self.access.credentials());
        let opened = self.line.registry.blob(reference, digest, writer.offset(), credentials);
        let mut opened = self.in_time(opened).await?.map_err(|error| {
            // The registry's client has tried again by itself where that could help.
            Broken::Fatal(ImageError::registry(&self.image, error))
        })?;
        if opened.offset != writer.offset() {
            if opened.offset != 0 {
                let why =
                    format!("the registry sent it from {} instead of {}", opened.offset, writer.offset());
                return Err(self.fatal(Flaw::Malformed { what: "a blob", why }));
            }
            writer.truncate().await.map_err(|error| Broken::Fatal(self.failed()(error)))?;
        }
        while let Some(piece) = self.in_time(opened.stream.next()).await? {
            let piece = piece.map_err(|error| Broken::Retry(ImageError::registry(&self.image, error)))?;
            if piece.len() as u64 > size - writer.offset() {
                return Err(self.fatal(Flaw::Oversize { digest: digest.clone(), size: *size }));
            }
            progress::FETCHED_BYTES.add(piece.len() as u64);
            writer.write(piece).await.map_err(|error| Broken::Fatal(self.failed()(error)))?;
            arrival.has(writer.offset());
        }
        if writer.offset() < *size {
            let flaw = Flaw::Truncated { digest: digest.clone(), got: writer.offset(), size: *size };
            return Err(Broken::Retry(ImageError::refused(&self.image, flaw)));
        }
        Ok(())
    }

    async fn commit(&self, writer: ContentWriter, labels: &Labels) -> Result<(), ImageError> {
        match writer.commit(labels).await {
            // The answer to a digest other than the one announced.
            Err(error) if error.kind() == Kind::FailedPrecondition => {
                let digest = self.wanted.digest.clone();
                Err(ImageError::refused(&self.image, Flaw::Content { digest }))
            }
            committed => committed.map_err(self.failed()),
        }
    }

    /// Nothing of a failed download is worth keeping. What cannot be thrown away goes with the lease.
    async fn discard(&self) {
        let ingest = self.role.ingest(&self.wanted.digest);
        if let Err(error) = self.share.containerd().abort_ingest(&ingest).await
            && !error.is_not_found()
        {
            tracing::debug!(%error, "an ingest was left to garbage collection");
        }
    }

    async fn in_time<F: Future>(&self, step: F) -> Result<F::Output, Broken> {
        let Some(limit) = self.line.patience else { return Ok(step.await) };
        tokio::time::timeout(limit, step).await.map_err(|_| {
            let (image, digest) = (self.image.clone(), self.wanted.digest.clone());
            Broken::Fatal(ImageError::Stalled { image, digest, limit })
        })
    }

    fn fatal(&self, flaw: Flaw) -> Broken {
        Broken::Fatal(ImageError::refused(&self.image, flaw))
    }

    fn failed(&self) -> impl FnOnce(ContainerdError) -> ImageError {
        ImageError::containerd("store a blob of", &self.image)
    }
}
