//! The route table: the paths that rules handle, and the expected keys of each request body.
//!
//! The router derives the table from rules and specs and writes it to the KV bucket `concert`;
//! every edge watches it. The edge knows nothing else about the application.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::value_type::{Field, ValueType, Violation};

/// Key, in the KV bucket `concert`, of the table with the types that release 0.1.0 knows.
pub const ROUTES_KEY: &str = "routes";
/// Key, in the same bucket, of the table with all types. A reader uses it only if it has the same
/// version as the table at [`ROUTES_KEY`], because a router of release 0.1.0 writes only that one.
pub const TYPED_ROUTES_KEY: &str = "routes-typed";
/// Key, in the same bucket, of the OpenAPI document of the active rules, without the edge's base.
pub const OPENAPI_KEY: &str = "openapi";
/// Key, in the same bucket, of the AsyncAPI document of the active specs.
pub const ASYNCAPI_KEY: &str = "asyncapi";

/// Key, in the same bucket, of the history of active rule versions: a list of [`ActiveSince`].
pub const IN_FORCE_KEY: &str = "in-force";

/// Key, in the same bucket, of `true` while the log is nearly full, so that edges accept no new
/// requests. Missing or `false` otherwise.
pub const LOG_FULL_KEY: &str = "log-full";

/// Key, in the same bucket, of the limits of a flow, as configured for the router that started
/// last.
pub const LIMITS_KEY: &str = "limits";

/// Key, in the same bucket, of the ids of the key files that encrypted the data.
pub const KEY_FILES_KEY: &str = "key-files";

/// Key, in the same bucket, of the source texts of a rule version.
pub fn rules_key(version: &str) -> String {
    format!("rules.{version}")
}

/// Sequence of the log from which a rule version is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSince {
    /// Sequence of the message that activated it.
    pub seq: u64,
    /// The version.
    pub version: Arc<str>,
}

/// All paths that rules handle, by literal path (`/auth/login`, without the edge's base).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Rule version that this table was derived from.
    pub version: String,
    /// The routes, by path.
    pub routes: BTreeMap<String, Route>,
    /// Paths that a missing or different worker makes unavailable, with the reasons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unavailable: BTreeMap<String, String>,
}

/// Expected body of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Keys that the path's rules use; the edge drops all others.
    pub keys: BTreeMap<String, RouteKey>,
}

/// One key of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKey {
    /// Whether a request without the key gets 400.
    pub required: bool,
    /// Whether the value is sealed before it is published.
    pub secret: bool,
    /// Required type of the value.
    #[serde(rename = "type")]
    pub kind: ValueType,
}

impl RouteTable {
    /// The table with the types that release 0.1.0 knows.
    #[must_use]
    pub fn released(&self) -> Self {
        let mut table = self.clone();
        for key in table.routes.values_mut().flat_map(|route| route.keys.values_mut()) {
            key.kind = key.kind.released();
        }
        table
    }
}
