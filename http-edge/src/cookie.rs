//! The session cookie: the value of a secret field of requests and responses, such as `session`, is
//! in a cookie instead of the body, or in both.
//!
//! Browsers attach cookies to requests of any page. So the edge accepts the cookie only from its
//! own and allowed origins (`Sec-Fetch-Site` or `Origin`), with the header [`ASK`], which pages of
//! other origins cannot send without CORS permission. With [`CookieMode::Copy`] it also accepts the
//! cookie without the header, from its own origin only.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::routes::{Pattern, Route};
use concert_wire::seal::{SealError, Sealer};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::EdgeError;
use crate::origin::{self, SEC_FETCH_SITE, text};

/// The session cookie: a part of the section `[http]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CookieArgs {
    /// Cookie that replaces a secret key of requests and responses, in requests with the header
    /// `concert-session: cookie` (and others with `mode = "copy"`). On a loopback address, the
    /// cookie has no `Secure` and no `__Host-` in its name.
    #[serde(deserialize_with = "valid")]
    pub session_cookie: Option<SessionCookie>,
}

/// A cookie, and the key that it replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionCookie {
    /// Name of the cookie, such as `__Host-session`.
    name: String,
    /// Key of requests and responses that the cookie replaces, such as `session`.
    key: String,
    /// `replace` (the default): the cookie replaces the key, in requests with the header
    /// `concert-session: cookie`. `copy` also applies to requests of the edge's own pages without
    /// that header. Then responses set the cookie and keep the key in the body, and a request
    /// without the key uses the cookie.
    mode: CookieMode,
    /// Paths whose success response clears the cookie, as in the rules: `/auth/logout`, or
    /// `DELETE /session`. A 401 to a request that used the cookie clears it, too.
    ends: Vec<String>,
}

/// Requests to which the cookie applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CookieMode {
    /// Requests with the header [`ASK`]. The key is in the cookie only.
    #[default]
    Replace,
    /// Also requests of the edge's own pages without the header. The key is in the cookie and in
    /// the body.
    Copy,
}

/// Browsers restrict cookies with this prefix to one host, TLS and the path `/`.
const NAME_PREFIX: &str = "__Host-";
/// Header by which a page requests cookie mode, with the value `cookie`.
pub(crate) const ASK: HeaderName = HeaderName::from_static("concert-session");
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";
/// Not all browsers accept `Secure` without TLS.
const LOOPBACK_ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";
/// The maximum that browsers accept. The cookie may outlive the session: the worker decides when
/// the session expires.
const COPY_AGE: &str = "; Max-Age=34560000";

impl SessionCookie {
    fn check(&self) -> Result<(), String> {
        let rest = self.name.strip_prefix(NAME_PREFIX).unwrap_or_default();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if rest.is_empty()
            || self.key.is_empty()
            || !rest.bytes().chain(self.key.bytes()).all(is_plain)
        {
            return Err(format!(
                "the name must start with `{NAME_PREFIX}`, and name and key must consist of \
                 letters, digits, `-` and `_`"
            ));
        }
        if let Some(error) = self.ends.iter().find_map(|path| Pattern::parse(path).err()) {
            return Err(format!(
                "{error}; write a path in `ends` as in the rules, without the base"
            ));
        }
        Ok(())
    }
}

fn valid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SessionCookie>, D::Error> {
    let cookie = Option::<SessionCookie>::deserialize(from)?;
    match cookie.as_ref().map(SessionCookie::check) {
        Some(Err(why)) => Err(D::Error::custom(why)),
        _ => Ok(cookie),
    }
}

/// Cookie mode of an edge.
#[derive(Debug)]
pub(crate) struct Cookies {
    cookie: SessionCookie,
    /// Allowed origins, in addition to the edge's own.
    origins: Vec<String>,
    /// True once a request of a page of another site was logged.
    warned: AtomicBool,
}

/// Use of the cookie by a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// How the response sets the cookie. `None`: it does not.
    sets: Option<CookieMode>,
    /// The request took its secret from the cookie.
    taken: bool,
    /// A success clears the cookie.
    ends: bool,
    /// The page is on a loopback address, without TLS.
    on_loopback: bool,
}

impl Cookies {
    /// `None` if cookie mode is off. The origin `*` allows no origin here.
    pub(crate) fn new(args: &CookieArgs, origins: &[String]) -> Option<Self> {
        let cookie = args.session_cookie.clone()?;
        if cookie.ends.is_empty() {
            tracing::warn!(
                "no path clears the session cookie; add one to http.session_cookie.ends"
            );
        }
        let origins: Vec<String> =
            origins.iter().filter(|origin| *origin != "*").cloned().collect();
        if !origins.is_empty() {
            tracing::warn!(
                ?origins,
                "cookie mode works only for pages on the same site as the edge (SameSite=Strict): \
                 scheme and domain must be equal, and localhost is another site than 127.0.0.1"
            );
        }
        Some(Self { cookie, origins, warned: AtomicBool::new(false) })
    }

    /// Inserts the key from the cookie if the route uses it and the body does not have it.
    ///
    /// # Errors
    /// The request uses the cookie from another origin, or without the header [`ASK`] where that is
    /// required.
    pub(crate) fn take(
        &self,
        path: &str,
        route: &Route,
        headers: &HeaderMap,
        body: &mut Object,
    ) -> Result<Use, EdgeError> {
        let key = &self.cookie.key;
        let on_loopback = is_on_loopback(headers);
        let stored = self.stored(headers, on_loopback);
        let is_missing =
            route.keys.get(key).is_some_and(|key| key.secret) && !body.contains_key(key);
        let asks = headers.get(ASK).is_some_and(|value| value == "cookie");
        let copies = self.cookie.mode == CookieMode::Copy && is_own_page(headers);
        let sets = match (asks, copies) {
            (true, _) => Some(CookieMode::Replace),
            (false, true) => Some(CookieMode::Copy),
            (false, false) => None,
        };
        let taken = stored.filter(|_| is_missing);
        if taken.is_some() && sets.is_none() {
            return Err(match self.cookie.mode {
                CookieMode::Replace => EdgeError::CookieUnasked,
                CookieMode::Copy => EdgeError::CrossSite,
            });
        }
        if asks && !self.is_allowed(headers) {
            return Err(EdgeError::CrossSite);
        }
        if asks {
            self.warn_cross_site(headers);
        }
        if let Some(taken) = taken {
            body.insert(key.clone(), Value::String(taken.to_owned()));
        }
        let is_used = taken.is_some() || (copies && stored.is_some());
        let ends = is_used && self.cookie.ends.iter().any(|end| end == path);
        Ok(Use { sets, taken: taken.is_some(), ends, on_loopback })
    }

    /// Logs once if an allowed page is on another site, where browsers drop the cookie.
    fn warn_cross_site(&self, headers: &HeaderMap) {
        let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
        if is_cross_site && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                origin = ?headers.get(header::ORIGIN),
                "a page of another site uses cookie mode; browsers drop the cookie there \
                 (SameSite=Strict), so serve page and edge under one site"
            );
        }
    }

    /// Name of the cookie.
    fn name(&self, on_loopback: bool) -> &str {
        let name = &*self.cookie.name;
        name.strip_prefix(NAME_PREFIX).filter(|_| on_loopback).unwrap_or(name)
    }

    /// `Set-Cookie` with this value.
    fn line(&self, using: Use, value: &str, more: &str) -> Option<HeaderValue> {
        let attributes = if using.on_loopback { LOOPBACK_ATTRIBUTES } else { ATTRIBUTES };
        let line = format!("{}={value}; {attributes}{more}", self.name(using.on_loopback));
        HeaderValue::from_str(&line).ok()
    }

    /// Value of the cookie in a request.
    fn stored<'a>(&self, headers: &'a HeaderMap, on_loopback: bool) -> Option<&'a str> {
        let own = self.name(on_loopback);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == own && !value.is_empty()).then_some(value))
    }

    /// True if the requesting page has the edge's own origin or an allowed one.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let origin = text(headers, &header::ORIGIN);
        origin.is_some_and(|origin| self.origins.iter().any(|listed| listed == origin))
            || text(headers, &SEC_FETCH_SITE) == Some("none")
            || is_own_page(headers)
    }

    /// Moves or copies the secret of a response to the cookie, and returns the value of
    /// `Set-Cookie`.
    ///
    /// # Errors
    /// The decryption key of the secret is not available, or not yet.
    pub(crate) fn move_out(
        &self,
        using: Use,
        sealer: &Sealer,
        flow: FlowId,
        answer: &mut Object,
    ) -> Result<Option<HeaderValue>, EdgeError> {
        let value = answer.get(&self.cookie.key).and_then(Value::as_str);
        let (Some(sealed), Some(mode)) = (value, using.sets) else {
            return Ok(None);
        };
        let secret = match sealer.open(flow, sealed) {
            Ok(secret) => secret,
            Err(SealError::UnknownKey | SealError::Broken) => {
                return Err(EdgeError::locked(flow));
            }
            Err(_) => return Ok(None),
        };
        // A secret with characters that a cookie cannot hold stays in the body.
        let is_octet = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
        let age = if mode == CookieMode::Copy { COPY_AGE } else { "" };
        let line = match secret.expose().bytes().all(is_octet) {
            true => self.line(using, secret.expose(), age),
            false => None,
        };
        let Some(mut line) = line else {
            tracing::error!(
                %flow,
                "a secret has characters that a cookie cannot hold; returning it in the body"
            );
            return Ok(None);
        };
        line.set_sensitive(true);
        if mode == CookieMode::Replace {
            answer.shift_remove(&self.cookie.key);
        }
        Ok(Some(line))
    }

    /// Value of `Set-Cookie` that clears the cookie, if the response shows that the session is
    /// over.
    pub(crate) fn clear(&self, using: Use, status: StatusCode) -> Option<HeaderValue> {
        let is_over = (using.taken && status == StatusCode::UNAUTHORIZED)
            || (using.ends && status.is_success());
        is_over.then(|| self.line(using, "", "; Max-Age=0"))?
    }
}

/// True if the requesting page has the edge's own origin.
fn is_own_page(headers: &HeaderMap) -> bool {
    match (text(headers, &SEC_FETCH_SITE), text(headers, &header::ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin::is_own(origin, headers),
        (None, None) => false,
    }
}

/// True if the requesting page is on a loopback address, without TLS. A proxy may change `Host`,
/// but not `Origin`.
fn is_on_loopback(headers: &HeaderMap) -> bool {
    let origin = text(headers, &header::ORIGIN).unwrap_or_default();
    origin.strip_prefix("http://").is_some_and(origin::is_local)
}

#[cfg(test)]
mod tests {
    use concert_wire::routes::{RouteKey, ValueType};
    use serde_json::json;

    use super::*;

    fn cookies(mode: CookieMode) -> Cookies {
        let args = CookieArgs {
            session_cookie: Some(SessionCookie {
                name: "__Host-session".to_owned(),
                key: "session".to_owned(),
                mode,
                ends: vec!["/logout".to_owned()],
            }),
        };
        Cookies::new(&args, &["https://app.example".to_owned(), "*".to_owned()]).unwrap()
    }

    fn route() -> Route {
        let key = RouteKey { required: true, secret: true, kind: ValueType::Secret };
        Route { keys: [("session".to_owned(), key)].into_iter().collect() }
    }

    fn take_in(
        mode: CookieMode,
        lines: &[(&'static str, &'static str)],
        mut body: Value,
    ) -> Result<(Use, Value), EdgeError> {
        let headers = lines
            .iter()
            .map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line)));
        let body = body.as_object_mut().unwrap();
        let using = cookies(mode).take("/logout", &route(), &headers.collect(), body)?;
        Ok((using, Value::Object(body.clone())))
    }

    fn take(
        lines: &[(&'static str, &'static str)],
        body: Value,
    ) -> Result<(Use, Value), EdgeError> {
        take_in(CookieMode::Replace, lines, body)
    }

    const COOKIE: (&str, &str) = ("cookie", "a=b; __Host-session=tok-en_1; c=d");
    const ASKS: (&str, &str) = ("concert-session", "cookie");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

    #[test]
    fn cookie_fills_the_key_for_allowed_pages() {
        let filled = json!({ "session": "tok-en_1" });
        let own = [("origin", "http://edge.example:8000"), ("host", "edge.example:8000")];
        let allowed: [&[(&str, &str)]; 4] = [
            &[SAME],
            &[("sec-fetch-site", "none")],
            &own,
            &[("origin", "https://app.example"), ("sec-fetch-site", "same-site")],
        ];
        for site in allowed {
            let (using, body) = take(&[&[COOKIE, ASKS], site].concat(), json!({})).unwrap();
            assert!(using.taken && using.sets == Some(CookieMode::Replace), "{site:?}");
            assert_eq!(body, filled, "{site:?}");
        }
        // A key in the body takes precedence.
        let (using, body) = take(&[COOKIE, ASKS, SAME], json!({ "session": "other" })).unwrap();
        assert_eq!((using.taken, body), (false, json!({ "session": "other" })));
        // Without a cookie, the key stays missing.
        assert_eq!(
            take(&[ASKS, SAME, ("cookie", "__Host-session=")], json!({})).unwrap().1,
            json!({})
        );
        assert_eq!(take(&[("cookie", "x__Host-session=1")], json!({})).unwrap().0, Use::default());
    }

    #[test]
    fn page_of_another_site_cannot_use_the_cookie() {
        assert_eq!(take(&[COOKIE, SAME], json!({})), Err(EdgeError::CookieUnasked));
        let foreign: [&[(&str, &str)]; 6] = [
            &[],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://edge.example"),
                ("host", "edge.example"),
            ],
            &[("origin", "https://evil.example"), ("host", "edge.example")],
            &[("origin", "null"), ("host", "edge.example")],
        ];
        for site in foreign {
            assert_eq!(
                take(&[&[COOKIE, ASKS], site].concat(), json!({})),
                Err(EdgeError::CrossSite),
                "{site:?}"
            );
            // Nor can it set the cookie to its own session.
            assert_eq!(
                take(&[&[ASKS], site].concat(), json!({ "session": "x" })),
                Err(EdgeError::CrossSite),
                "{site:?}"
            );
        }
    }

    #[test]
    fn allowed_page_of_another_site_is_noticed() {
        let cookies = cookies(CookieMode::Replace);
        let take = |site: &'static str| {
            let headers = [ASKS, ("origin", "https://app.example"), ("sec-fetch-site", site)].map(
                |(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line)),
            );
            let headers = headers.into_iter().collect();
            cookies.take("/login", &Route::default(), &headers, &mut Object::new()).unwrap();
            cookies.warned.load(Ordering::Relaxed)
        };
        assert!(!take("same-site"));
        assert!(take("cross-site"));
    }

    #[test]
    fn cookie_is_cleared_when_the_session_ends() {
        let cookies = cookies(CookieMode::Replace);
        let using = |taken, ends| Use { taken, ends, ..Use::default() };
        let cleared =
            |using, status| cookies.clear(using, StatusCode::from_u16(status).unwrap()).is_some();
        assert!(cleared(using(true, true), 200) && cleared(using(true, false), 401));
        // A logout whose body has the session.
        assert!(cleared(using(false, true), 200));
        assert!(
            !cleared(using(true, false), 200)
                && !cleared(using(true, true), 404)
                && !cleared(using(false, true), 401)
        );
        assert_eq!(
            cookies.clear(using(true, true), StatusCode::OK).unwrap(),
            "__Host-session=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }

    #[test]
    fn copied_cookie_needs_no_header_on_own_pages() {
        let copy = |lines: &[_], body| take_in(CookieMode::Copy, lines, body);
        let own = [("origin", "https://edge.example"), ("host", "edge.example")];
        for page in [&[SAME][..], &own] {
            let page = [&[COOKIE], page].concat();
            let (using, body) = copy(&page, json!({})).unwrap();
            let expected = Use { sets: Some(CookieMode::Copy), taken: true, ends: true, ..using };
            assert_eq!((using, body), (expected, json!({ "session": "tok-en_1" })), "{page:?}");
            // A key in the body takes precedence, and a logout with it clears the cookie.
            let (using, body) = copy(&page, json!({ "session": "other" })).unwrap();
            assert_eq!((using.taken, using.ends), (false, true), "{page:?}");
            assert_eq!(body, json!({ "session": "other" }));
        }
        let other_pages: [&[(&str, &str)]; 5] = [
            &[],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://app.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "https://evil.example"), ("host", "edge.example")],
        ];
        for page in other_pages {
            let page = [&[COOKIE], page].concat();
            assert_eq!(copy(&page, json!({})), Err(EdgeError::CrossSite), "{page:?}");
            // With the key in the body it is a request without a cookie.
            let (using, _) = copy(&page, json!({ "session": "x" })).unwrap();
            assert_eq!(using, Use::default(), "{page:?}");
        }
        // With the header, the cookie replaces the key.
        let (using, _) = copy(&[COOKIE, ASKS, SAME], json!({})).unwrap();
        assert_eq!(using.sets, Some(CookieMode::Replace));
    }

    #[test]
    fn cookie_on_a_loopback_address_has_another_name() {
        for (origin, on_loopback) in [
            ("http://127.0.0.1:8000", true),
            ("http://localhost", true),
            ("http://[::1]:8000", true),
            ("https://localhost", false),
            ("http://localhost.evil.example", false),
            ("https://edge.example", false),
        ] {
            let lines = [SAME, ASKS, ("cookie", "session=plain"), ("origin", origin)];
            let (using, _) = take(&lines, json!({})).unwrap();
            assert_eq!((using.on_loopback, using.taken), (on_loopback, on_loopback), "{origin}");
        }
        let using = Use { ends: true, on_loopback: true, ..Use::default() };
        assert_eq!(
            cookies(CookieMode::Copy).clear(using, StatusCode::OK).unwrap(),
            "session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }

    #[test]
    fn cookie_without_browser_protection_is_refused() {
        let read = |name: &str, key: &str, end: &str| {
            let cookie = json!({ "name": name, "key": key, "ends": [end] });
            serde_json::from_value::<CookieArgs>(json!({ "session_cookie": cookie }))
        };
        assert!(read("__Host-session", "session", "/logout").is_ok());
        for (name, key, end) in [
            ("", "session", "/logout"),
            ("session", "session", "/logout"),
            ("__Host-", "session", "/logout"),
            ("__Host-session", "", "/logout"),
            ("__Host-a b", "s", "/logout"),
            ("__Host-a;", "s", "/logout"),
            ("__Host-session", "session", "logout"),
        ] {
            assert!(read(name, key, end).is_err(), "{name} {key} {end}");
        }
    }
}
