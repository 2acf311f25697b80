//! Responses with large values: text, and references whose values are streamed in their place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, header};
use bytes::Bytes;
use concert_runtime::blob_cache::BlobCache;
use concert_runtime::blobs::{Blobs, BlobsError};
use concert_wire::envelope::encode;
use concert_wire::id::FlowId;
use concert_wire::large::Reference;
use concert_wire::large::blob::{Manifest, escaped};
use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _, future, stream,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::error::EdgeError;

/// Maximum number of manifests that are read concurrently for one response.
const MANIFESTS_AHEAD: usize = 8;

/// Maximum number of chunks that are read ahead for one response.
const CHUNKS_AHEAD: usize = 4;

/// The cache of large values: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CacheArgs {
    /// Directory for a file in which the edge keeps the large values of its responses, encrypted, so
    /// that it need not read them from NATS each time. It is created if it is missing. If it is not
    /// set, `concert up` uses its data directory, and `concert http-edge` keeps no large values. The
    /// file has no name, and the system deletes it when the edge stops.
    pub large_values_cache_dir: Option<PathBuf>,
    /// Maximum size of that file, in bytes. When it is full, a large value replaces the oldest. 0
    /// turns the cache off.
    pub large_values_cache_max_bytes: u64,
}

impl Default for CacheArgs {
    fn default() -> Self {
        Self { large_values_cache_dir: None, large_values_cache_max_bytes: 256 * 1024 * 1024 }
    }
}

/// The cache cannot be created.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create a file in {} of http.large_values_cache_dir: {source}; correct or remove the key",
    dir.display()
)]
pub struct BadCache {
    dir: PathBuf,
    source: std::io::Error,
}

impl CacheArgs {
    /// `None` if it is turned off.
    pub(crate) fn open(&self) -> Result<Option<BlobCache>, BadCache> {
        let Some(dir) = &self.large_values_cache_dir else { return Ok(None) };
        let opened = BlobCache::open(dir, self.large_values_cache_max_bytes);
        opened.map_err(|source| BadCache { dir: dir.clone(), source })
    }
}

/// A part of the body of a response.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// JSON text.
    Text(Vec<u8>),
    /// The content of a JSON string.
    Large(Reference),
}

/// The body of a response. It ends with a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pieces {
    before: Vec<(Vec<u8>, Reference)>,
    last: Vec<u8>,
}

impl Pieces {
    /// Appends JSON text.
    pub(crate) fn text(&mut self, text: &str) {
        self.last.extend_from_slice(text.as_bytes());
    }

    /// Appends a value; `leaf` appends each part that is no list or object.
    ///
    /// # Errors
    /// The first error of `leaf`.
    pub(crate) fn tree<E>(
        &mut self,
        value: &Value,
        leaf: &impl Fn(&mut Self, &Value) -> Result<(), E>,
    ) -> Result<(), E> {
        match value {
            Value::Array(items) => {
                self.text("[");
                for (index, item) in items.iter().enumerate() {
                    self.text(if index == 0 { "" } else { "," });
                    self.tree(item, leaf)?;
                }
                self.text("]");
            }
            Value::Object(members) => {
                self.text("{");
                for (index, (name, member)) in members.iter().enumerate() {
                    self.name(index, name);
                    self.tree(member, leaf)?;
                }
                self.text("}");
            }
            other => leaf(self, other)?,
        }
        Ok(())
    }

    /// Appends a value that is no list or object. A text in the form of a reference stands for a
    /// large value.
    pub(crate) fn leaf(&mut self, value: &Value) {
        match Reference::of(value) {
            Some(reference) => {
                self.text("\"");
                self.before.push((std::mem::take(&mut self.last), reference));
                self.text("\"");
            }
            None => self.plain(value),
        }
    }

    /// Appends a value without large values.
    pub(crate) fn plain(&mut self, value: &Value) {
        self.last.append(&mut encode(value));
    }

    /// Appends the name of a member of an object.
    pub(crate) fn name(&mut self, index: usize, name: &str) {
        self.text(if index == 0 { "" } else { "," });
        self.last.append(&mut encode(&name));
        self.text(":");
    }

    fn into_pieces(self) -> Vec<Piece> {
        let before = self.before.into_iter();
        let mut pieces: Vec<_> =
            before.flat_map(|(text, value)| [Piece::Text(text), Piece::Large(value)]).collect();
        pieces.push(Piece::Text(self.last));
        pieces
    }
}

/// Puts large values into responses.
pub(crate) struct Splicer {
    blobs: Blobs,
    /// Permits of responses with large values in progress.
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Splicer {
    /// `max`: maximum number of responses with large values in progress. `timeout`: maximum wait
    /// for one of these.
    pub(crate) fn new(blobs: Blobs, max: usize, timeout: Duration) -> Self {
        Self { blobs, permits: Arc::new(Semaphore::new(max)), timeout }
    }

    /// Puts the large values into a response. All manifests are read before this returns; if a
    /// chunk cannot be read after that, the connection is closed.
    ///
    /// # Errors
    /// A value has expired or cannot be read.
    pub(crate) async fn splice(
        &self,
        flow: Option<FlowId>,
        response: Response<Pieces>,
    ) -> Result<Response<Body>, EdgeError> {
        let (parts, body) = response.into_parts();
        if body.before.is_empty() {
            return Ok(Response::from_parts(parts, body.last.into()));
        }
        let permit = tokio::time::timeout(self.timeout, self.permits.clone().acquire_owned());
        let Ok(Ok(permit)) = permit.await else {
            return Err(EdgeError::ValueUnavailable(flow));
        };
        let read = async |piece: Piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.into())),
            Piece::Large(value) => {
                self.blobs.manifest(&value).await.map(|found| Part::Large(found.into()))
            }
        };
        let read: Result<Vec<_>, _> = stream::iter(body.into_pieces())
            .map(read)
            .buffered(MANIFESTS_AHEAD)
            .try_collect()
            .await;
        let body = read.map_err(|error| unreadable(flow, &error))?;
        let length: u64 = body.iter().map(Part::length).sum();
        let blobs = self.blobs.clone();
        // Chunks are read ahead across the values, so that many small values take no longer.
        let chunks = body.into_iter().flat_map(Part::chunks);
        let bytes = stream::iter(chunks)
            .map(move |chunk| match chunk {
                Chunk::Text(text) => future::ready(Ok(text)).left_future(),
                Chunk::Large(manifest, index) => {
                    let is_plain = manifest.is_plain();
                    let chunk = blobs.chunk(manifest, index);
                    chunk
                        .map_ok(move |text| if is_plain { text } else { escape(text) })
                        .right_future()
                }
            })
            .buffered(CHUNKS_AHEAD);
        let bytes = bytes.inspect_err(move |error| {
            let flow = flow.map(tracing::field::display);
            tracing::warn!(flow, %error, "a response is cut off: cannot read a large value");
        });
        // The permit is held until the response is sent.
        let bytes = bytes.map(move |part| {
            let _held = &permit;
            part
        });
        let mut response = Response::from_parts(parts, Body::from_stream(bytes));
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        Ok(response)
    }
}

/// A part that is ready to be sent.
enum Part {
    Text(Bytes),
    Large(Arc<Manifest>),
}

/// A part of a response that is in memory as a whole.
enum Chunk {
    Text(Bytes),
    /// A chunk of a large value.
    Large(Arc<Manifest>, usize),
}

impl Part {
    fn chunks(self) -> impl Iterator<Item = Chunk> {
        let (text, large) = match self {
            Self::Text(text) => (Some(Chunk::Text(text)), None),
            Self::Large(manifest) => (None, Some(manifest)),
        };
        let large = large.into_iter().flat_map(|manifest| {
            (0..manifest.chunks()).map(move |index| Chunk::Large(manifest.clone(), index))
        });
        text.into_iter().chain(large)
    }

    /// Length in the response, in bytes.
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Large(manifest) => manifest.json_bytes(),
        }
    }
}

/// Escapes a chunk for a JSON string.
fn escape(chunk: Bytes) -> Bytes {
    match escaped(&chunk) {
        std::borrow::Cow::Borrowed(_) => chunk,
        std::borrow::Cow::Owned(escaped) => escaped.into(),
    }
}

fn unreadable(flow: Option<FlowId>, error: &BlobsError) -> EdgeError {
    if *error == BlobsError::Expired {
        return EdgeError::Expired(flow);
    }
    let of = flow.map(tracing::field::display);
    tracing::warn!(flow = of, %error, "cannot read a large value of a response");
    EdgeError::ValueUnavailable(flow)
}

#[cfg(test)]
mod tests {
    use concert_wire::large::Place;
    use concert_wire::large::blob::Writer;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_split_at_their_references() {
        let mut writer = Writer::new(Place::new([7; 16]));
        writer.chunk(&[b'x'; 40_000]).unwrap();
        let (_, reference) = writer.finish();
        let value =
            json!({ "a": [reference.to_string(), { "b\n": 1 }], "c": reference.to_string() });
        let mut pieces = Pieces::default();
        let leaf = |pieces: &mut Pieces, value: &Value| {
            pieces.leaf(value);
            Ok::<_, std::convert::Infallible>(())
        };
        pieces.tree(&value, &leaf).unwrap();
        let text = |text: &str| Piece::Text(text.into());
        let large = || Piece::Large(reference);
        let end = text(r#""}"#);
        assert_eq!(
            pieces.into_pieces(),
            [text(r#"{"a":[""#), large(), text(r#"",{"b\n":1}],"c":""#), large(), end]
        );
        let mut plain = Pieces::default();
        plain.plain(&value);
        assert_eq!(plain.into_pieces(), [Piece::Text(value.to_string().into())]);
    }
}
