//! The page behind a request, as the headers of browsers name it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};

/// Relation between the page and the requested server, set by browsers.
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Value of a header, if it is visible ASCII.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// True if an origin has the host of the request. The scheme is unknown after a TLS proxy.
pub(crate) fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    origin
        .zip(text(headers, &header::HOST))
        .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// True for `localhost` and loopback addresses, with or without a port.
pub(crate) fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
