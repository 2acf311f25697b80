//! Keys of a request from its path, its query string and its headers.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, Uri};
use concert_wire::envelope::Object;
use concert_wire::routes::{Route, SecretHeader, ValueType, decode};
use concert_wire::value;
use concert_wire::{large, nested};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{EdgeError, Misfit};
use crate::routes::Target;
use crate::scan::NO_REFERENCE;

/// Headers that rules may read: a part of the section `[http]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderArgs {
    /// Headers that rules may read as keys of a request. The key is the name in camel case:
    /// `If-None-Match` is `ifNoneMatch`.
    #[schemars(with = "Vec<String>")]
    pub headers: Vec<ReadableHeader>,
}

/// A header that rules may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReadableHeader {
    name: HeaderName,
    key: String,
}

/// Headers with credentials. A rule would read them as plain text.
const CREDENTIALS: &[&str] = &["authorization", "cookie", "proxy-authorization"];

impl TryFrom<String> for ReadableHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name: HeaderName =
            text.parse().map_err(|_| format!("`{text}` is not the name of a header"))?;
        if CREDENTIALS.contains(&name.as_str()) {
            return Err(format!(
                "`{text}` has credentials, which rules may not read; declare it in a rule file: \
                 `header \"{text}: Bearer\" as session`"
            ));
        }
        let mut words = name.as_str().split('-').filter(|word| !word.is_empty());
        let mut key = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            key.push_str(&first.to_ascii_uppercase());
            key.push_str(rest);
        }
        Ok(Self { name, key })
    }
}

impl From<ReadableHeader> for String {
    fn from(header: ReadableHeader) -> Self {
        header.name.to_string()
    }
}

impl HeaderArgs {
    /// Names of the headers, by their keys.
    pub fn by_key(&self) -> BTreeMap<String, String> {
        let headers = self.headers.iter();
        headers.map(|header| (header.key.clone(), header.name.to_string())).collect()
    }
}

impl ReadableHeader {
    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }
}

/// Adds the keys that are not in the body.
///
/// # Errors
/// The query string is malformed, a key is in two places, a secret is in the URL, or a header is
/// repeated.
pub(crate) fn add(
    target: &Target<'_>,
    (uri, headers): (&Uri, &HeaderMap),
    (secret, readable): (&[SecretHeader], &[ReadableHeader]),
    body: &mut Object,
) -> Result<(), EdgeError> {
    let route = target.route;
    for (name, text) in &target.parameters {
        put_text(route, body, name, text)?;
    }
    if target.method.takes_query() {
        for (name, text) in &query(uri.query().unwrap_or_default())? {
            let text = text.as_str().unwrap_or_default();
            // `tag[]=a` and `tag[0]=a` are lists of the key `tag` in other systems.
            let (key, is_list) =
                name.split_once('[').map_or((&**name, false), |(key, _)| (key, true));
            let Some(known) = route.keys.get(key) else { continue };
            if known.secret {
                let message = format!("`{key}` is a secret and must not be in the URL");
                return Err(EdgeError::BadRequest(message));
            }
            if is_list {
                let message = format!("`{key}` is a list in the query string; send one value");
                return Err(EdgeError::BadRequest(message));
            }
            put_text(route, body, key, text)?;
        }
    }
    for ReadableHeader { name, key } in readable {
        if let Some(text) = single(headers, name.as_str())?
            && route.keys.get(key).is_some_and(|key| !key.secret)
        {
            put_text(route, body, key, text)?;
        }
    }
    for header in secret {
        let Some(text) = single(headers, &header.name)? else { continue };
        let value = match &header.scheme {
            Some(scheme) => text
                .split_once(' ')
                .filter(|(found, _)| found.eq_ignore_ascii_case(scheme))
                .map(|(_, value)| value.trim()),
            None => Some(text.trim()),
        };
        let key = route.keys.get(&header.key).filter(|key| key.secret);
        if let Some((value, key)) = value.filter(|value| !value.is_empty()).zip(key) {
            let value = Value::String(value.to_owned());
            // A credential of another system is no credential here, so the rules answer.
            if key.kind.accepts(&value) {
                put(body, &header.key, value)?;
            }
        }
    }
    Ok(())
}

/// The value of a header that may be sent only once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, EdgeError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let message = format!("the header `{name}` is sent more than once");
        return Err(EdgeError::BadRequest(message));
    }
    let text = value.to_str().map(Some);
    text.map_err(|_| EdgeError::BadRequest(format!("the header `{name}` is not visible ASCII")))
}

/// The keys of a query string.
fn query(text: &str) -> Result<Object, EdgeError> {
    let malformed = |part: &str| {
        // The part may contain a misspelt secret.
        let name = part.split('=').next().unwrap_or_default();
        EdgeError::BadRequest(format!("malformed query string at `{name}`"))
    };
    let mut found = Object::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| decode(&text.replace('+', " ")).map(|text| text.into_owned());
        let (name, value) = decoded(name).zip(decoded(value)).ok_or_else(|| malformed(part))?;
        // No key of a rule has this name, which is an attack on programs in JavaScript.
        if name == "__proto__" {
            return Err(EdgeError::BadRequest("`__proto__` cannot be a key".to_owned()));
        }
        if found.insert(name.clone(), Value::String(value)).is_some() {
            return Err(EdgeError::BadRequest(format!("`{name}` is in the query string twice")));
        }
    }
    Ok(found)
}

/// Adds the text of a key in the type that the route has for it. A text of another type stays a
/// text, which the check of the types rejects.
fn put_text(route: &Route, body: &mut Object, name: &str, text: &str) -> Result<(), EdgeError> {
    // A key with a dot is in an object of the body, which a URL does not have.
    let key = route.keys.get(name).filter(|_| !nested::is_path(name));
    let Some(key) = key else { return Ok(()) };
    let value = converted(&key.kind, text);
    if large::holds_reference(&value) {
        return Err(Misfit::new(name, NO_REFERENCE).into());
    }
    put(body, name, value)
}

fn put(body: &mut Object, name: &str, value: Value) -> Result<(), EdgeError> {
    match body.insert(name.to_owned(), value) {
        Some(_) => {
            let message = format!("`{name}` is in two places of the request; send it once");
            Err(EdgeError::BadRequest(message))
        }
        None => Ok(()),
    }
}

/// A text as a value of this type; the text itself if it is none.
fn converted(kind: &ValueType, text: &str) -> Value {
    let value = match kind.without_null() {
        ValueType::Number if !text.contains(char::is_whitespace) => {
            value::value(text.as_bytes()).ok().filter(Value::is_number)
        }
        ValueType::Boolean => text.parse().map(Value::Bool).ok(),
        _ => None,
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use concert_wire::routes::{Method, RouteKey};
    use serde_json::json;

    use super::*;

    fn route() -> Route {
        let keys = [
            ("slug", ValueType::BoundedString(10)),
            ("limit", ValueType::Nullable(Box::new(ValueType::Number))),
            ("draft", ValueType::Boolean),
            ("ifNoneMatch", ValueType::String),
            ("session", ValueType::BoundedSecret(8)),
            ("user.email", ValueType::String),
        ];
        let keys = keys.into_iter().map(|(name, kind)| {
            let secret = kind.is_secret();
            (name.to_owned(), RouteKey { required: false, secret, kind })
        });
        Route { keys: keys.collect() }
    }

    /// The keys of a request with the parameter `slug`, or the error.
    fn keys(
        method: Method,
        query: &str,
        lines: &[(&'static str, &'static str)],
        mut body: Value,
    ) -> Result<Value, String> {
        let route = route();
        let target = Target {
            pattern: format!("{method} /a/:slug"),
            method,
            route: &route,
            parameters: vec![("slug".to_owned(), "a/b".to_owned())],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let secret = ["Token", "Bearer"].map(|scheme| SecretHeader {
            name: "authorization".to_owned(),
            scheme: Some(scheme.to_owned()),
            key: "session".to_owned(),
        });
        let readable = ["If-None-Match".to_owned()].map(|name| name.try_into().unwrap());
        let uri: Uri = format!("/api/a/a%2Fb?{query}").parse().unwrap();
        let body = body.as_object_mut().unwrap();
        add(&target, (&uri, &headers), (&secret, &readable), body)
            .map_err(|error| error.to_string())?;
        Ok(Value::Object(body.clone()))
    }

    #[test]
    fn values_have_the_types_of_the_route() {
        let found = |query| keys(Method::Get, query, &[], json!({}));
        assert_eq!(found(""), Ok(json!({ "slug": "a/b" })));
        for (query, key, value) in [
            ("limit=20", "limit", json!(20)),
            ("limit=-1.5e1", "limit", json!(-15.0)),
            ("limit=", "limit", json!("")),
            ("limit=NaN", "limit", json!("NaN")),
            ("limit=%2020", "limit", json!(" 20")),
            ("limit=020", "limit", json!("020")),
            ("limit=9007199254740993", "limit", json!("9007199254740993")),
            ("draft=true&", "draft", json!(true)),
            ("draft=1", "draft", json!("1")),
            ("ifNoneMatch=a+%2B%C3%A4", "ifNoneMatch", json!("a +ä")),
        ] {
            assert_eq!(found(query).unwrap().get(key), Some(&value), "{query}");
        }
        // Unknown keys are dropped, and POST ignores the query string.
        assert!(found("tag[]=a&%F0=1").is_err());
        assert!(found("__proto__=1").is_err());
        assert_eq!(found("tag[]=a&other=1"), Ok(json!({ "slug": "a/b" })));
        // So are keys in objects of the body.
        assert_eq!(found("user.email=a"), Ok(json!({ "slug": "a/b" })));
        let posted = keys(Method::Post, "limit=1&limit=2&session=x", &[], json!({}));
        assert_eq!(posted, Ok(json!({ "slug": "a/b" })));
    }

    #[test]
    fn key_comes_from_one_place_only() {
        let token = ("authorization", "Token abc");
        for (query, lines, body, expected) in [
            ("slug=x", vec![], json!({}), "`slug` is in two places of the request; send it once"),
            ("limit=1&limit=1", vec![], json!({}), "`limit` is in the query string twice"),
            ("x=1&x=1", vec![], json!({}), "`x` is in the query string twice"),
            ("limit=%zz", vec![], json!({}), "malformed query string at `limit`"),
            ("limit=%00", vec![], json!({}), "malformed query string at `limit`"),
            ("session=x", vec![], json!({}), "`session` is a secret and must not be in the URL"),
            ("session[]=x", vec![], json!({}), "`session` is a secret and must not be in the URL"),
            (
                "limit[0]=1",
                vec![],
                json!({}),
                "`limit` is a list in the query string; send one value",
            ),
            (
                "limit=1",
                vec![],
                json!({ "limit": 1 }),
                "`limit` is in two places of the request; send it once",
            ),
            (
                "",
                vec![token],
                json!({ "session": "x" }),
                "`session` is in two places of the request; send it once",
            ),
            (
                "",
                vec![token, token],
                json!({}),
                "the header `authorization` is sent more than once",
            ),
            (
                "",
                vec![("authorization", "Token ä")],
                json!({}),
                "the header `authorization` is not visible ASCII",
            ),
        ] {
            let found = keys(Method::Delete, query, &lines, body);
            assert_eq!(found, Err(expected.to_owned()), "{query} {lines:?}");
        }
    }

    #[test]
    fn header_fills_its_key() {
        for (line, expected) in [
            (("authorization", "Token abc"), json!({ "slug": "a/b", "session": "abc" })),
            (("authorization", "bearer  abc "), json!({ "slug": "a/b", "session": "abc" })),
            (("authorization", "Basic abc"), json!({ "slug": "a/b" })),
            (("authorization", "Token"), json!({ "slug": "a/b" })),
            (("authorization", "Token  "), json!({ "slug": "a/b" })),
            (("authorization", "Token longer-than-8"), json!({ "slug": "a/b" })),
            (("if-none-match", "\"v1\""), json!({ "slug": "a/b", "ifNoneMatch": "\"v1\"" })),
            (("accept-language", "de"), json!({ "slug": "a/b" })),
        ] {
            assert_eq!(keys(Method::Get, "", &[line], json!({})), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn header_with_credentials_is_not_readable() {
        let read = |name: &str| ReadableHeader::try_from(name.to_owned());
        assert_eq!(read("X-Request-Id").unwrap().key, "xRequestId");
        for wrong in ["Authorization", "cookie", "a b", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
