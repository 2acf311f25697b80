//! What tools read about the application: OpenAPI of the paths, AsyncAPI of the bus. The routers
//! write both; the edge adds what only it knows, where its paths begin.

use std::sync::Mutex;
use std::sync::PoisonError;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use concert_runtime::bus::Bus;
use concert_runtime::route_table::Bucket;
use concert_wire::envelope::encode;
use concert_wire::routes::{ASYNCAPI_KEY, OPENAPI_KEY};
use serde_json::{Value, json};

use crate::error::EdgeError;
use crate::routes::Routes;

/// A description that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Description {
    /// Of the paths.
    OpenApi,
    /// Of the bus.
    AsyncApi,
}

/// The descriptions of the rules in force.
pub(crate) struct Descriptions {
    bucket: Bucket,
    routes: Routes,
    base: String,
    /// What was read last, with the version of the rules that it is of.
    read: Mutex<Vec<(Description, String, Bytes)>>,
}

impl Descriptions {
    pub(crate) fn new(bus: &Bus, routes: Routes, base: &str) -> Self {
        Self { bucket: Bucket::of(bus), routes, base: base.to_owned(), read: Mutex::default() }
    }

    pub(crate) async fn answer(&self, what: Description) -> Response<Body> {
        let version = self.routes.borrow().as_ref().map(|table| table.version.clone());
        let Some(version) = version else {
            return EdgeError::Unavailable.response();
        };
        let known = self.known(what, &version);
        let text = match known {
            Some(text) => text,
            None => match self.read(what, &version).await {
                Some(text) => text,
                None => return EdgeError::Unavailable.response(),
            },
        };
        let mut response = text.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn known(&self, what: Description, version: &str) -> Option<Bytes> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let found = read.iter().find(|(of, known, _)| *of == what && known == version);
        found.map(|(.., text)| text.clone())
    }

    async fn read(&self, what: Description, version: &str) -> Option<Bytes> {
        let key = match what {
            Description::OpenApi => OPENAPI_KEY,
            Description::AsyncApi => ASYNCAPI_KEY,
        };
        let stored = match self.bucket.get(key).await {
            Ok(stored) => stored?,
            Err(error) => {
                tracing::warn!(%error, key, "a description cannot be read");
                return None;
            }
        };
        let mut document: Value = serde_json::from_slice(&stored).ok()?;
        if let (Description::OpenApi, Some(document)) = (what, document.as_object_mut()) {
            let url = if self.base.is_empty() { "/" } else { &self.base };
            document.insert("servers".to_owned(), json!([{ "url": url }]));
        }
        let text = Bytes::from(encode(&document));
        // While the rules change it may be of others; then it is read again.
        if document.pointer("/info/version").and_then(Value::as_str) == Some(version) {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.retain(|(of, ..)| *of != what);
            read.push((what, version.to_owned(), text.clone()));
        }
        Some(text)
    }
}
