//! Who may see the page. A browser asks whatever a page of anybody has it ask, so that an address
//! on this machine alone keeps nobody out: the name that is asked for, and the site that asks, must
//! be the edge's own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{PageArgs, Refusal};

/// A token has so many characters at least.
const TOKEN_AT_LEAST: usize = 32;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The page runs scripts and takes styles, pictures and data from its own origin and nowhere else,
/// stands in no other page, and parses nothing but the graph of the rules, as XML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types concert-graph";

/// Why an edge cannot serve the page that it is told to.
#[derive(Debug, thiserror::Error)]
pub enum BadPage {
    /// Anybody could see everything.
    #[error(
        "the page shows what everybody does, and {0} is open to others: set console.token_file to a file with an operator token, or set console.enabled = false"
    )]
    NoToken(SocketAddr),
    /// The file is not there.
    #[error("the operator's token cannot be read from {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The token can be guessed, or sent by no browser.
    #[error(
        "the operator's token in {path} has {length} characters; it must have {TOKEN_AT_LEAST} at least, on one line, of visible ASCII; `openssl rand -hex 32` makes a good one"
    )]
    Weak {
        /// In which file.
        path: PathBuf,
        /// Of how many characters.
        length: usize,
    },
}

/// Who may see the page.
#[derive(Clone)]
pub(crate) enum Viewers {
    /// Whoever is on this machine, and asks for it by a name of this machine.
    Local,
    /// Whoever has the token, of which this is the digest.
    WithToken([u8; 32]),
}

impl Viewers {
    pub(super) fn new(args: &PageArgs, listen: SocketAddr) -> Result<Option<Self>, BadPage> {
        let is_local = args.at_home && listen.ip().is_loopback();
        let is_on = args.enabled.unwrap_or(is_local);
        match &args.token_file {
            Some(_) if !is_on => {
                tracing::warn!(
                    "console.token_file is set and the console is off; set console.enabled = true"
                );
                Ok(None)
            }
            None if !is_on => Ok(None),
            Some(path) => token(path.clone()).map(|digest| Some(Self::WithToken(digest))),
            None if is_local => Ok(Some(Self::Local)),
            None => Err(BadPage::NoToken(listen)),
        }
    }

    pub(super) fn want_token(&self) -> bool {
        matches!(self, Self::WithToken(_))
    }

    /// A name that somebody made lead to this machine (DNS rebinding) is not ours. With a token it
    /// does not matter: no browser sends that by itself.
    pub(super) fn admit_name(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::WithToken(_) => Ok(()),
            Self::Local if text(headers, &header::HOST).is_some_and(is_of_this_machine) => Ok(()),
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
                // Digests are as long as one another, and take as long to compare, whatever was
                // given.
                let is_it: bool = digest(token.trim()).ct_eq(expected).into();
                is_it.then_some(()).ok_or(Refusal::WrongToken)
            }
            _ => Err(Refusal::NoToken),
        }
    }
}

/// Whether a request comes from the page itself, or from no page at all.
pub(super) fn admit_site(headers: &HeaderMap) -> Result<(), Refusal> {
    let site = text(headers, &SEC_FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Refusal::OtherSite);
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    match (host, text(headers, &header::HOST)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Refusal::OtherSite),
    }
}

/// What every response of the page says to browsers.
pub(super) fn seal_off(headers: &mut HeaderMap) {
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

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
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
    if token.len() < TOKEN_AT_LEAST || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let length = token.chars().count();
        return Err(BadPage::Weak { path, length });
    }
    Ok(digest(token))
}

#[cfg(test)]
mod tests;
