//! Cookie mode: a secret key of the routes, such as a session, is in a cookie instead of the body.
//!
//! Browsers attach cookies to requests of any page. So the edge accepts the cookie only from its
//! own and allowed origins (`Sec-Fetch-Site` or `Origin`), and only with the header [`ASK`], which
//! pages of other origins cannot send without CORS permission.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::routes::Route;
use concert_wire::seal::{SealError, Sealer};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::EdgeError;

/// The session cookie: a part of the section `[http]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CookieArgs {
    /// Cookie that replaces a secret key of requests and responses; applies to requests with the
    /// header `concert-session: cookie`.
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
    /// Paths whose success response clears the cookie, such as `/auth/logout`, without the base.
    /// Any 401 clears it, too.
    ends: Vec<String>,
}

/// Browsers restrict cookies with this prefix to one host, TLS and the path `/`.
const NAME_PREFIX: &str = "__Host-";
/// Header by which a page requests cookie mode, with the value `cookie`.
pub(crate) const ASK: HeaderName = HeaderName::from_static("concert-session");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

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
        if self.ends.iter().any(|path| !path.starts_with('/')) {
            return Err(
                "a path in `ends` must start with `/`; write it without the base".to_owned()
            );
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
    /// True once a page of another site is logged.
    warned: AtomicBool,
}

/// Use of the cookie by a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// The response must set the cookie.
    wanted: bool,
    /// The request took its secret from the cookie.
    taken: bool,
    /// A success clears the cookie.
    ends: bool,
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
    /// The request uses the cookie without the header [`ASK`], or from another origin.
    pub(crate) fn take(
        &self,
        path: &str,
        route: &Route,
        headers: &HeaderMap,
        body: &mut Object,
    ) -> Result<Use, EdgeError> {
        let key = &self.cookie.key;
        let wanted = headers.get(ASK).is_some_and(|value| value == "cookie");
        let takes = route.keys.get(key).is_some_and(|key| key.secret) && !body.contains_key(key);
        let stored = takes.then(|| self.stored(headers)).flatten();
        if stored.is_some() && !wanted {
            return Err(EdgeError::CookieUnasked);
        }
        if wanted && !self.is_allowed(headers) {
            return Err(EdgeError::CrossSite);
        }
        if wanted {
            self.warn_cross_site(headers);
        }
        let taken = stored.is_some();
        if let Some(stored) = stored {
            body.insert(key.clone(), Value::String(stored.to_owned()));
        }
        Ok(Use { wanted, taken, ends: self.cookie.ends.iter().any(|end| end == path) })
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

    /// Value of the cookie in a request.
    fn stored<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| {
                (name == self.cookie.name && !value.is_empty()).then_some(value)
            })
    }

    /// True if the requesting page has the edge's own origin or an allowed one.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = text(&header::ORIGIN);
        if origin.is_some_and(|origin| self.origins.iter().any(|listed| listed == origin)) {
            return true;
        }
        match (text(&SEC_FETCH_SITE), origin) {
            (Some(site), _) => site == "same-origin" || site == "none",
            (None, Some(origin)) => {
                let host =
                    origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
                host.is_some() && host == text(&header::HOST)
            }
            (None, None) => false,
        }
    }

    /// Moves the secret of a response to the cookie, and returns the value of `Set-Cookie`.
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
        let value = answer.get(&self.cookie.key).filter(|_| using.wanted);
        let Some(sealed) = value.and_then(Value::as_str) else {
            return Ok(None);
        };
        let secret = match sealer.open(flow, sealed) {
            Ok(secret) => secret,
            Err(SealError::UnknownKey | SealError::Broken) => {
                return Err(EdgeError::locked(flow, &self.cookie.key));
            }
            Err(_) => return Ok(None),
        };
        // A secret with other characters stays in the body.
        let is_octet = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
        let line = if secret.expose().bytes().all(is_octet) {
            let line = format!("{}={}; {ATTRIBUTES}", self.cookie.name, secret.expose());
            HeaderValue::from_str(&line).ok()
        } else {
            None
        };
        let Some(mut line) = line else {
            tracing::error!(
                %flow,
                "a secret has characters that a cookie cannot hold; returning it in the body"
            );
            return Ok(None);
        };
        line.set_sensitive(true);
        answer.shift_remove(&self.cookie.key);
        Ok(Some(line))
    }

    /// Value of `Set-Cookie` that clears the cookie, if the response shows that the session is
    /// over.
    pub(crate) fn clear(&self, using: Use, status: StatusCode) -> Option<HeaderValue> {
        let is_over = status == StatusCode::UNAUTHORIZED || (using.ends && status.is_success());
        let line = format!("{}=; {ATTRIBUTES}; Max-Age=0", self.cookie.name);
        (using.taken && is_over).then(|| HeaderValue::from_str(&line).ok())?
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::routes::{RouteKey, ValueType};
    use serde_json::json;

    use super::*;

    fn cookies() -> Cookies {
        let args = CookieArgs {
            session_cookie: Some(SessionCookie {
                name: "__Host-session".to_owned(),
                key: "session".to_owned(),
                ends: vec!["/logout".to_owned()],
            }),
        };
        Cookies::new(&args, &["https://app.example".to_owned(), "*".to_owned()]).unwrap()
    }

    fn route() -> Route {
        let key = RouteKey { required: true, secret: true, kind: ValueType::Secret };
        Route { keys: [("session".to_owned(), key)].into_iter().collect() }
    }

    fn take(
        lines: &[(&'static str, &'static str)],
        mut body: Value,
    ) -> Result<(Use, Value), EdgeError> {
        let headers = lines
            .iter()
            .map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line)));
        let body = body.as_object_mut().unwrap();
        let using = cookies().take("/logout", &route(), &headers.collect(), body)?;
        Ok((using, Value::Object(body.clone())))
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
            assert!(using.taken && using.wanted, "{site:?}");
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
        assert_eq!(
            take(&[("cookie", "x__Host-session=1")], json!({})).unwrap().0,
            Use { ends: true, ..Use::default() }
        );
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
        let cookies = cookies();
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
        let cookies = cookies();
        let using = |taken, ends| Use { wanted: true, taken, ends };
        let cleared =
            |using, status| cookies.clear(using, StatusCode::from_u16(status).unwrap()).is_some();
        assert!(cleared(using(true, true), 200) && cleared(using(true, false), 401));
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
