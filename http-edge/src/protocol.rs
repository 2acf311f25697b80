//! Checks of HTTP requests that the HTTP library leaves to its user.

use axum::http::{HeaderMap, Request, Version, header};

use crate::error::EdgeError;

/// Checks the headers that decide how a request is routed and read.
///
/// # Errors
/// `Host` is missing or repeated (RFC 9112, section 3.2), or the body has an encoding that the edge
/// does not decode.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), EdgeError> {
    let headers = request.headers();
    match headers.get_all(header::HOST).iter().count() {
        1 => {}
        0 if request.version() < Version::HTTP_11 => {}
        _ => return Err(EdgeError::Host),
    }
    if values(headers, &header::TRANSFER_ENCODING).any(|coding| coding != "chunked") {
        return Err(EdgeError::TransferCoding);
    }
    if values(headers, &header::CONTENT_ENCODING).any(|coding| coding != "identity") {
        return Err(EdgeError::ContentEncoding);
    }
    Ok(())
}

/// The members of a list header, in lower case.
fn values<'a>(
    headers: &'a HeaderMap,
    name: &'a header::HeaderName,
) -> impl Iterator<Item = String> + 'a {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("unreadable").split(','))
        .map(|member| member.trim().to_ascii_lowercase())
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn ambiguous_host_and_unknown_codings_are_rejected() {
        let ok = ("host", "edge.example");
        for (version, lines, expected) in [
            (Version::HTTP_11, vec![ok], None),
            (Version::HTTP_11, vec![], Some(400)),
            (Version::HTTP_11, vec![ok, ok], Some(400)),
            (Version::HTTP_10, vec![], None),
            (Version::HTTP_10, vec![ok, ("host", "other.example")], Some(400)),
            (Version::HTTP_11, vec![ok, ("transfer-encoding", "Chunked")], None),
            (Version::HTTP_11, vec![ok, ("transfer-encoding", "gzip, chunked")], Some(501)),
            (Version::HTTP_11, vec![ok, ("content-encoding", "identity")], None),
            (Version::HTTP_11, vec![ok, ("content-encoding", "gzip")], Some(415)),
        ] {
            let mut request = Request::new(());
            *request.version_mut() = version;
            for (name, value) in &lines {
                request.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let found = check(&request).err().map(|error| error.status().as_u16());
            assert_eq!(found, expected, "{version:?} {lines:?}");
        }
    }
}
