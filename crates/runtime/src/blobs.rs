//! Large values on the bus: stores and reads them outside the log (ADR 38).

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use concert_wire::large::blob::{
    BLOBS, BlobError, CHUNK_BYTES, Manifest, Message, WriteError, Writer,
};
use concert_wire::large::{Place, Reference, VALUE_MAX_BYTES};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::background;
use crate::blob_cache::BlobCache;
use crate::bus::{Bus, ConnectError};
use crate::log::{self, PublishError};

/// Maximum number of chunks that one connection sends and receives concurrently.
const CHUNKS_IN_FLIGHT: usize = 32;
/// Maximum number of chunks of one value that are sent ahead.
const SENT_AHEAD: usize = 2;
/// Timeout of storing one message.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// Delays before a missing message is requested again: a replica may lag behind the leader.
const MISSING_DELAYS_MS: [u64; 2] = [50, 250];
/// Space in a message for headers and the authentication tag, in bytes.
const OVERHEAD_BYTES: usize = 4096;

/// Error of a connection for large values.
#[derive(Debug, thiserror::Error)]
pub enum BlobsConnectError {
    /// The connection fails.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not accept a message with a chunk.
    #[error(
        "max_payload of the NATS server is {found} bytes, and large values need {}; increase it, \
         such as `max_payload: 2MB`",
        CHUNK_BYTES + OVERHEAD_BYTES
    )]
    MaxPayload {
        /// The server's limit, in bytes.
        found: usize,
    },
}

/// Error of storing or reading a large value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobsError {
    /// The value is no longer stored.
    #[error("the large value has expired")]
    Expired,
    /// The stream is full.
    #[error(
        "the stream {BLOBS} is full; wait until values expire, or increase \
         log.large_values_max_bytes"
    )]
    Full,
    /// A stored message was altered, or a newer version wrote it.
    #[error(transparent)]
    Broken(#[from] BlobError),
    /// The value is not text in UTF-8.
    #[error("the large value is not UTF-8")]
    NotText,
    /// The server does not respond, or the stream is missing; a retry may succeed.
    #[error("cannot reach the stream {BLOBS}: {0}; if it is missing, run `concert setup`")]
    Unavailable(String),
    /// The value exceeds the maximum size.
    #[error("the value is larger than {VALUE_MAX_BYTES} bytes")]
    TooLarge,
}

impl From<WriteError> for BlobsError {
    /// [`Upload`] forms chunks of the right length.
    fn from(_: WriteError) -> Self {
        Self::TooLarge
    }
}

fn unavailable(why: impl std::fmt::Display) -> BlobsError {
    BlobsError::Unavailable(why.to_string())
}

/// Stores and reads large values on a separate connection, so that they do not delay other
/// messages. Cheap to clone; the clones share the connection and its limits.
#[derive(Debug, Clone)]
pub struct Blobs {
    bus: Bus,
    in_flight: Arc<Semaphore>,
    cache: Option<Arc<BlobCache>>,
}

impl Blobs {
    /// Opens another connection with the address, credentials and account of `bus`.
    ///
    /// # Errors
    /// See [`BlobsConnectError`].
    pub async fn connect(bus: &Bus) -> Result<Self, BlobsConnectError> {
        let bus = bus.connect_again("blobs").await?;
        let found = bus.client.max_payload();
        if found < CHUNK_BYTES + OVERHEAD_BYTES {
            return Err(BlobsConnectError::MaxPayload { found });
        }
        let in_flight = Arc::new(Semaphore::new(CHUNKS_IN_FLIGHT));
        Ok(Self { bus, in_flight, cache: None })
    }

    /// Keeps the chunks that are read, and reads them from there the next time.
    #[must_use]
    pub fn with_cache(self, cache: BlobCache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Stores a text of more than [`INLINE_MAX_BYTES`](concert_wire::large::INLINE_MAX_BYTES). A
    /// text that the place has already is not stored again.
    ///
    /// # Errors
    /// See [`BlobsError`]. Some chunks may be stored; they expire.
    pub async fn store(&self, place: Place, text: String) -> Result<Reference, BlobsError> {
        if text.len() as u64 > VALUE_MAX_BYTES {
            return Err(BlobsError::TooLarge);
        }
        let (mut upload, runtime) = (self.upload(place), Handle::current());
        let stored = background::run(move || {
            runtime.block_on(async {
                upload.push(text.as_bytes()).await?;
                upload.finish().await
            })
        });
        stored.await.map_err(unavailable)?
    }

    /// Starts to store a value whose parts arrive one after the other.
    pub fn upload(&self, place: Place) -> Upload {
        Upload {
            blobs: self.clone(),
            writer: Writer::new(place),
            buffer: Vec::new(),
            sending: JoinSet::new(),
        }
    }

    /// Returns whether a value is stored. Does not wait for a replica that lags behind.
    ///
    /// # Errors
    /// The server does not respond.
    pub async fn is_stored(&self, reference: &Reference) -> Result<bool, BlobsError> {
        let _permit = self.in_flight.acquire().await.map_err(unavailable)?;
        let found = log::find_in(&self.bus, BLOBS, &Manifest::subject(reference)).await;
        Ok(found.map_err(unavailable)?.is_some())
    }

    /// Time at which a value expires, in milliseconds since 1970; `None` if it is not stored.
    ///
    /// # Errors
    /// The server does not respond, or the connection has no access to the stream's settings.
    pub async fn expires_ms(&self, reference: &Reference) -> Result<Option<u64>, BlobsError> {
        let stream = self.bus.jetstream.get_stream(BLOBS).await.map_err(unavailable)?;
        let max_age = stream.cached_info().config.max_age;
        let subject = Manifest::subject(reference);
        let found = log::find_in(&self.bus, BLOBS, &subject).await.map_err(unavailable)?;
        let found = found.map(log::stored).transpose().map_err(unavailable)?;
        let at_ms = found.map(|message| message.time_us() / 1000);
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        Ok(at_ms.map(|at_ms| at_ms.saturating_add(max_age_ms)))
    }

    /// Reads and verifies the manifest of a value.
    ///
    /// # Errors
    /// See [`BlobsError`].
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, BlobsError> {
        let body = self.get(Manifest::subject(reference)).await?;
        Ok(Manifest::open(reference, &body)?)
    }

    /// Reads and verifies a whole value: one chunk after the other, each with a pause as long as the
    /// reading, so that other requests need not wait for all of it.
    ///
    /// # Errors
    /// See [`BlobsError`].
    pub async fn load(&self, reference: &Reference) -> Result<String, BlobsError> {
        let manifest = Arc::new(self.manifest(reference).await?);
        let length = usize::try_from(reference.bytes()).map_err(|_| BlobsError::TooLarge)?;
        let mut bytes = Vec::with_capacity(length);
        for index in 0..manifest.chunks() {
            let began = std::time::Instant::now();
            bytes.extend_from_slice(&self.chunk(manifest.clone(), index).await?);
            if index + 1 < manifest.chunks() {
                background::pause_after(began).await;
            }
        }
        String::from_utf8(bytes).map_err(|_| BlobsError::NotText)
    }

    /// Starts to read and verify a chunk of a value. The end of a chunk may divide a character.
    pub fn chunk(
        &self,
        manifest: Arc<Manifest>,
        index: usize,
    ) -> impl Future<Output = Result<Bytes, BlobsError>> + Send + use<> {
        let blobs = self.clone();
        let read = async move {
            let subject = manifest.chunk_subject(index).ok_or(BlobError::Broken)?;
            if let Some(chunk) = blobs.cached(&manifest, index, &subject).await? {
                return Ok(chunk.into());
            }
            let body = blobs.get(subject.clone()).await?;
            let opened = background::run(move || {
                let chunk = manifest.open_chunk(index, &body)?;
                if let Some(cache) = &blobs.cache {
                    cache.put(subject, &body);
                }
                Ok::<_, BlobsError>(chunk.into())
            });
            opened.await.map_err(unavailable)?
        };
        // A task, because a reader that pauses must not keep its permit.
        let task = AbortOnDropHandle::new(tokio::spawn(read));
        async move { task.await.map_err(unavailable)? }
    }

    async fn cached(
        &self,
        manifest: &Arc<Manifest>,
        index: usize,
        subject: &str,
    ) -> Result<Option<Vec<u8>>, BlobsError> {
        let Some(cache) = self.cache.clone() else { return Ok(None) };
        let (manifest, subject) = (manifest.clone(), subject.to_owned());
        let read = move || manifest.reopen_chunk(index, cache.get(&subject)?).ok();
        background::run(read).await.map_err(unavailable)
    }

    async fn get(&self, subject: String) -> Result<Bytes, BlobsError> {
        let _permit = self.in_flight.acquire().await.map_err(unavailable)?;
        let mut delays = MISSING_DELAYS_MS.iter();
        loop {
            let found = log::find_in(&self.bus, BLOBS, &subject).await;
            match found.map_err(unavailable)? {
                Some(message) => return Ok(message.payload),
                None => match delays.next() {
                    Some(delay) => tokio::time::sleep(Duration::from_millis(*delay)).await,
                    None => return Err(BlobsError::Expired),
                },
            }
        }
    }

    async fn put(&self, Message { subject, body }: Message) -> Result<(), BlobsError> {
        let _permit = self.in_flight.acquire().await.map_err(unavailable)?;
        let deadline = Instant::now() + STORE_TIMEOUT;
        let headers = HeaderMap::new();
        match log::publish_until(&self.bus, subject, headers, body.into(), deadline).await {
            Ok(_) => Ok(()),
            Err(PublishError::Refused(error)) => {
                tracing::warn!(error, "the stream {BLOBS} rejects a part of a large value");
                Err(BlobsError::Full)
            }
            Err(error) => Err(unavailable(error)),
        }
    }
}

/// A value that is being stored. Dropping it leaves the stored chunks, which expire.
pub struct Upload {
    blobs: Blobs,
    writer: Writer,
    /// The next chunk.
    buffer: Vec<u8>,
    sending: JoinSet<Result<(), BlobsError>>,
}

impl Upload {
    /// Appends bytes of the text. Waits while two chunks are being sent.
    ///
    /// # Errors
    /// See [`BlobsError`]; then the value cannot be finished.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<(), BlobsError> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES.saturating_sub(self.buffer.len());
            let (next, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(next);
            bytes = rest;
            if self.buffer.len() == CHUNK_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), BlobsError> {
        while self.sending.len() >= SENT_AHEAD {
            self.sent().await?;
        }
        let message = self.writer.chunk(&self.buffer)?;
        self.buffer.clear();
        let blobs = self.blobs.clone();
        self.sending.spawn(async move { blobs.put(message).await });
        Ok(())
    }

    /// Waits for one of the chunks that are being sent.
    async fn sent(&mut self) -> Result<(), BlobsError> {
        let ended = |result: Result<_, JoinError>| result.map_err(unavailable)?;
        self.sending.join_next().await.map_or(Ok(()), ended)
    }

    /// Stores the rest and the manifest. The value can be read when this returns.
    ///
    /// # Errors
    /// See [`BlobsError`].
    pub async fn finish(mut self) -> Result<Reference, BlobsError> {
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        let (manifest, reference) = self.writer.finish();
        self.blobs.put(manifest).await?;
        Ok(reference)
    }
}
