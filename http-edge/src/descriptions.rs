//! Descriptions for tools: OpenAPI of the paths, AsyncAPI of the bus. Routers publish both; the
//! edge adapts OpenAPI to its settings.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use concert_runtime::bus::Bus;
use concert_runtime::route_table::Bucket;
use concert_wire::envelope::encode;
use concert_wire::openapi::{self, EdgeSettings};
use concert_wire::routes::{ASYNCAPI_KEY, OPENAPI_KEY};
use serde_json::Value;

use crate::answer::Refusals;
use crate::error::{EdgeError, ErrorArgs};
use crate::routes::Routes;

/// Kinds of descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Description {
    /// The paths.
    OpenApi,
    /// The message bus.
    AsyncApi,
}

/// Descriptions of the active rules.
pub(crate) struct Descriptions {
    bucket: Bucket,
    routes: Routes,
    base: String,
    refusals: Refusals,
    errors: ErrorArgs,
    /// Names of the headers that rules may read, by key.
    headers: BTreeMap<String, String>,
    /// Last descriptions read, with their rule versions.
    read: Mutex<Vec<(Description, String, Bytes)>>,
}

impl Descriptions {
    pub(crate) fn new(
        bus: &Bus,
        routes: Routes,
        base: &str,
        refusals: Refusals,
        errors: ErrorArgs,
        headers: BTreeMap<String, String>,
    ) -> Self {
        let (bucket, base) = (Bucket::of(bus), base.to_owned());
        Self { bucket, routes, base, refusals, errors, headers, read: Mutex::default() }
    }

    pub(crate) async fn answer(&self, kind: Description) -> Response<Body> {
        let version = self.routes.borrow().as_ref().map(|active| active.table.version.clone());
        let Some(version) = version else {
            return EdgeError::Unavailable.response(self.errors);
        };
        let known = self.known(kind, &version);
        let text = match known {
            Some(text) => text,
            None => match self.read(kind, &version).await {
                Some(text) => text,
                None => return EdgeError::Unavailable.response(self.errors),
            },
        };
        let mut response = text.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn known(&self, kind: Description, version: &str) -> Option<Bytes> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let found = read.iter().find(|(of, known, _)| *of == kind && known == version);
        found.map(|(.., text)| text.clone())
    }

    async fn read(&self, kind: Description, version: &str) -> Option<Bytes> {
        let key = match kind {
            Description::OpenApi => OPENAPI_KEY,
            Description::AsyncApi => ASYNCAPI_KEY,
        };
        let stored = match self.bucket.get(key).await {
            Ok(stored) => stored?,
            Err(error) => {
                tracing::warn!(%error, key, "cannot read a description from its bucket");
                return None;
            }
        };
        let mut document: Value = serde_json::from_slice(&stored).ok()?;
        if kind == Description::OpenApi {
            let settings = EdgeSettings {
                has_refusals_as_200: self.refusals.are_200(),
                errors: self.errors.errors,
                misfit_status: self.errors.misfit_status,
            };
            openapi::of_edge(&mut document, &self.base, settings);
            openapi::name_headers(&mut document, &self.headers);
        }
        let text = Bytes::from(encode(&document));
        // During a rule change, the document may have another version; then the next request reads
        // the new document.
        if document.pointer("/info/version").and_then(Value::as_str) == Some(version) {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.retain(|(of, ..)| *of != kind);
            read.push((kind, version.to_owned(), text.clone()));
        }
        Some(text)
    }
}
