//! Access control of the console. Any web page can send requests to a loopback address through the
//! user's browser, so the host name and the requesting site must be the edge's own.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{PageArgs, Refusal};
use crate::origin::{self, SEC_FETCH_SITE, text};

/// Minimum length of a token.
const TOKEN_MIN_LENGTH: usize = 32;
/// Headers that proxies add, in addition to `X-Forwarded-*`.
const FORWARDING_HEADERS: [&str; 7] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-host",
];
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Scripts, styles, images and data come only from the page's own origin, no page may embed it, and
/// the only parsed text is the graph of the rules.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types concert-graph";

/// Invalid configuration of the console.
#[derive(Debug, thiserror::Error)]
pub enum BadPage {
    /// Other machines could open the console without a token.
    #[error(
        "the console at {0} needs a token, except for `concert up` on a loopback address: set \
         console.token_file to a file with an operator token, or set console.enabled = false"
    )]
    NoToken(SocketAddr),
    /// The token file cannot be read.
    #[error("cannot read the operator token from {path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The token is too short, or has characters that a header cannot hold.
    #[error(
        "the operator token in {path} has {length} characters; it needs at least \
         {TOKEN_MIN_LENGTH} visible ASCII characters on one line; generate one \
         with `openssl rand -hex 32`"
    )]
    Weak {
        /// Path of the file.
        path: PathBuf,
        /// Number of characters.
        length: usize,
    },
}

/// Access to the console.
#[derive(Clone)]
pub(crate) enum PageAccess {
    /// Clients on this machine that use a local host name.
    Local,
    /// Clients with the token that has this digest.
    WithToken([u8; 32]),
}

impl PageAccess {
    /// Access to a console on this address.
    ///
    /// # Errors
    /// See [`BadPage`].
    pub(crate) fn new(args: &PageArgs, listen: SocketAddr) -> Result<Self, BadPage> {
        match &args.token_file {
            Some(path) => token(path.clone()).map(Self::WithToken),
            None if args.is_concert_up && listen.ip().is_loopback() => Ok(Self::Local),
            None => Err(BadPage::NoToken(listen)),
        }
    }

    pub(super) fn needs_token(&self) -> bool {
        matches!(self, Self::WithToken(_))
    }

    /// Rejects foreign host names that resolve to this machine (DNS rebinding). With a token this
    /// is unnecessary, because browsers never add it on their own.
    ///
    /// A proxy on this machine can make requests of other machines look local. Without a token, a
    /// request with a forwarding header is rejected.
    pub(super) fn admit_name(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::WithToken(_) => Ok(()),
            Self::Local if is_forwarded(headers) => Err(Refusal::Forwarded),
            Self::Local if text(headers, &header::HOST).is_some_and(origin::is_local) => Ok(()),
            Self::Local => Err(Refusal::Name),
        }
    }

    pub(super) fn admit_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::WithToken(expected) = self else {
            return Ok(());
        };
        let given = text(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        match given {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                // Digests have equal lengths, so the comparison takes constant time.
                let is_it: bool = digest(token.trim()).ct_eq(expected).into();
                is_it.then_some(()).ok_or(Refusal::WrongToken)
            }
            _ => Err(Refusal::NoToken),
        }
    }
}

/// Accepts requests from the console itself and from clients that are not browsers.
pub(super) fn admit_site(headers: &HeaderMap) -> Result<(), Refusal> {
    let site = text(headers, &SEC_FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Refusal::OtherSite);
    }
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) if !origin::is_own(origin, headers) => Err(Refusal::OtherSite),
        _ => Ok(()),
    }
}

/// Adds the security headers of every response of the console.
pub(super) fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// True if a header shows that a proxy passed the request on.
fn is_forwarded(headers: &HeaderMap) -> bool {
    let is_forwarding = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded") || FORWARDING_HEADERS.contains(&name)
    };
    headers.keys().any(is_forwarding)
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn token(path: PathBuf) -> Result<[u8; 32], BadPage> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(BadPage::Unreadable { path, source }),
    };
    let token = text.trim();
    if token.len() < TOKEN_MIN_LENGTH || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let length = token.chars().count();
        return Err(BadPage::Weak { path, length });
    }
    Ok(digest(token))
}

#[cfg(test)]
mod tests;
