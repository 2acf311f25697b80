//! Stores the large values of a request while its body arrives.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use concert_runtime::background;
use concert_runtime::blobs::{Blobs, BlobsError, Upload};
use concert_wire::envelope::Object;
use concert_wire::large::{INLINE_MAX_BYTES, Place, Reference, any_text};
use concert_wire::nested;
use concert_wire::routes::Route;
use concert_wire::value;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bodies::{BodyLimits, Incoming, Received};
use crate::body_slots::{BodySlot, BodySlots};
use crate::client::Holder;
use crate::error::EdgeError;
use crate::pace::{Other, Pace};
use crate::quotas::Quotas;
use crate::scan::{ScanLimits, Store, scan};

/// Parts of a body between the connection and the scanner.
const PARTS_AHEAD: usize = 2;

/// Stores large values with a limit of concurrent uploads, which clients share fairly.
pub(crate) struct Uploads {
    blobs: Blobs,
    quotas: Arc<Quotas>,
    slots: Arc<BodySlots>,
    pace: Arc<Pace>,
    /// Maximum size of one value, in bytes.
    limit: u64,
}

impl Uploads {
    /// `None` if the limits turn large values off.
    pub(crate) fn new(limits: &BodyLimits, (blobs, quotas): (Blobs, Quotas)) -> Option<Self> {
        let limit = limits.large_value_limit_bytes;
        let slots = BodySlots::new(limits.max_uploads);
        (limit > 0).then_some(Self {
            blobs,
            quotas: Arc::new(quotas),
            slots,
            pace: Arc::default(),
            limit,
        })
    }

    /// Maximum size of the large values of one body, in bytes.
    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// Starts a request without large values.
    pub(crate) fn other(&self) -> Other {
        self.pace.other()
    }

    pub(crate) fn take_slot(&self, client: Option<Holder>) -> Result<BodySlot, EdgeError> {
        self.slots.take(client).ok_or(EdgeError::Overloaded)
    }

    /// Reads a body: its first bytes, and the rest if it has not arrived. The slots of the body are
    /// occupied until its values are stored. `rest_limit`: maximum size without large values, in
    /// bytes.
    ///
    /// # Errors
    /// It is not JSON, too large or too slow, or a value cannot be stored.
    pub(crate) async fn read(
        &self,
        client: Option<Holder>,
        (first, mut incoming, is_whole): (Bytes, Incoming<'_>, bool),
        (route, place): (Option<&Route>, Place),
        rest_limit: usize,
    ) -> Result<Received, EdgeError> {
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        let limits = ScanLimits { rest: rest_limit, large: self.limit };
        let route = route.cloned();
        let mut values = Values {
            handle: Handle::current(),
            blobs: self.blobs.clone(),
            quotas: self.quotas.clone(),
            pace: self.pace.clone(),
            client,
            place,
            current: None,
            bytes: 0,
        };
        let scanned = background::run(move || {
            let text = scan(Parts { current: first, parts }, route.as_ref(), limits, &mut values)?;
            let object =
                value::object(&text).map_err(|error| EdgeError::BadRequest(error.to_string()))?;
            Ok(Received { object, large_bytes: values.bytes })
        });
        while !is_whole && let Some(part) = incoming.next(None).await? {
            let waiting = Instant::now();
            if sender.send(part).await.is_err() {
                // The scanner has stopped with an error.
                break;
            }
            incoming.exclude(waiting.elapsed());
        }
        drop(sender);
        scanned.await.unwrap_or(Err(EdgeError::Unavailable))
    }
}

/// True if a key of the route has a string that is stored beside the log; with `None`, any key.
pub(crate) fn has_large(route: Option<&Route>, body: &Object) -> bool {
    let is_large =
        |value: &Value| any_text(value, &|text: &str| text.len() as u64 > INLINE_MAX_BYTES);
    match route {
        None => body.values().any(is_large),
        Some(route) => {
            let mut used = route.keys.keys().filter_map(|name| nested::get(body, name));
            used.any(is_large)
        }
    }
}

/// A body that arrives in parts; reading waits for them.
struct Parts {
    current: Bytes,
    parts: mpsc::Receiver<Bytes>,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Parts {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            let Some(part) = self.parts.blocking_recv() else { break };
            self.current = part;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

/// The large values of one body.
struct Values {
    handle: Handle,
    blobs: Blobs,
    quotas: Arc<Quotas>,
    pace: Arc<Pace>,
    client: Option<Holder>,
    place: Place,
    current: Option<Upload>,
    /// Size of all values, in bytes.
    bytes: u64,
}

impl Store for Values {
    fn push(&mut self, bytes: &[u8]) -> Result<(), EdgeError> {
        self.quotas.take(self.client, bytes.len() as u64)?;
        let upload = self.current.get_or_insert_with(|| self.blobs.upload(self.place));
        self.bytes += bytes.len() as u64;
        self.pace.step(|| self.handle.block_on(upload.push(bytes))).map_err(refusal)
    }

    fn finish(&mut self) -> Result<Reference, EdgeError> {
        let upload = self.current.take().ok_or(EdgeError::Unavailable)?;
        self.handle.block_on(upload.finish()).map_err(refusal)
    }
}

fn refusal(error: BlobsError) -> EdgeError {
    match error {
        BlobsError::Full => EdgeError::StorageFull,
        error => {
            tracing::warn!(%error, "cannot store a large value");
            EdgeError::Unavailable
        }
    }
}
