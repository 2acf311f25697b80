//! The route table: the paths that rules handle, and the expected keys of each request body.
//!
//! The router derives the table from rules and specs and writes it to the KV bucket `concert`;
//! every edge watches it. The edge knows nothing else about the application.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod index;
mod pattern;

use crate::nested;

pub use self::index::{Found, RouteIndex, decode};
pub use self::pattern::{BadPattern, Method, Pattern, Segment, split, with_base};
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

/// All paths that rules handle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Rule version that this table was derived from.
    pub version: String,
    /// The routes, by the text of their pattern, without the edge's base: a literal path of POST
    /// (`/auth/login`), or a method and a path with parameters (`GET /articles/:slug`).
    pub routes: BTreeMap<String, Route>,
    /// Paths that a missing or different worker makes unavailable, with the reasons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unavailable: BTreeMap<String, String>,
    /// Headers that fill secret keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<SecretHeader>,
}

/// A header whose value is a secret key of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHeader {
    /// Name of the header, in lower case.
    pub name: String,
    /// Scheme before the value, such as `Token`. `None`: the whole value is the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The key.
    pub key: String,
}

/// Expected body of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Keys that the path's rules use; the edge drops all others. A key with a dot is a path into
    /// nested objects, such as `user.email` (see [`crate::nested`]).
    pub keys: BTreeMap<String, RouteKey>,
}

/// One key of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKey {
    /// `true` if a request without the key gets 400.
    pub required: bool,
    /// `true` if the value is sealed before it is published.
    pub secret: bool,
    /// Required type of the value.
    #[serde(rename = "type")]
    pub kind: ValueType,
}

impl Route {
    /// Returns whether rules look into objects of the body.
    pub fn is_nested(&self) -> bool {
        self.keys.keys().any(|key| nested::is_path(key))
    }

    /// The keys that are in an object of the body.
    pub fn keys_in<'a>(
        &'a self,
        object: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a RouteKey)> + 'a {
        self.keys.iter().filter_map(move |(name, key)| {
            let name = name.strip_prefix(object)?.strip_prefix(nested::SEPARATOR)?;
            Some((name, key))
        })
    }
}

impl RouteTable {
    /// The table with the types and the routes that release 0.1.0 knows: literal paths of POST. It
    /// has no routes with nested keys: an edge of that release would look for a key with a dot, so
    /// it responds with 404 instead.
    #[must_use]
    pub fn released(&self) -> Self {
        let mut table = Self { headers: Vec::new(), ..self.clone() };
        table.routes.retain(|path, route| path.starts_with('/') && !route.is_nested());
        table.unavailable.retain(|path, _| path.starts_with('/'));
        for key in table.routes.values_mut().flat_map(|route| route.keys.values_mut()) {
            key.kind = key.kind.released();
        }
        table
    }

    /// Index of the routes.
    pub fn index(&self) -> RouteIndex {
        RouteIndex::new(self.routes.keys().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_table_has_only_literal_paths_of_post() {
        let routes = ["/login", "GET /articles/:slug", "POST /users"]
            .map(|path| (path.to_owned(), Route::default()));
        let header = SecretHeader {
            name: "authorization".to_owned(),
            scheme: Some("Token".to_owned()),
            key: "session".to_owned(),
        };
        let table = RouteTable {
            version: "v".to_owned(),
            unavailable: BTreeMap::from([("POST /users".to_owned(), "down".to_owned())]),
            routes: BTreeMap::from(routes),
            headers: vec![header],
        };
        let expected = r#"{"version":"v","routes":{"/login":{"keys":{}}}}"#;
        assert_eq!(serde_json::to_string(&table.released()).unwrap(), expected);
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<RouteTable>(&text).unwrap(), table);
    }
}
