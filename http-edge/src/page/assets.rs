//! The files of the console, compiled into the program.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Files in `page/`: path, text and content type.
macro_rules! assets {
    ($(($path:literal, $file:literal, $kind:expr)),* $(,)?) => {
        &[$(($path, $kind, include_str!(concat!("../../page/", $file)))),*]
    };
}

const ASSETS: &[(&str, &str, &str)] = assets![
    ("/", "index.html", HTML),
    ("/_concert/frame.css", "frame.css", CSS),
    ("/_concert/views.css", "views.css", CSS),
    ("/_concert/icon.svg", "icon.svg", SVG),
    ("/_concert/api.js", "api.js", SCRIPT),
    ("/_concert/app.js", "app.js", SCRIPT),
    ("/_concert/details.js", "details.js", SCRIPT),
    ("/_concert/element.js", "element.js", SCRIPT),
    ("/_concert/flow.js", "flow.js", SCRIPT),
    ("/_concert/flows.js", "flows.js", SCRIPT),
    ("/_concert/graph.js", "graph.js", SCRIPT),
    ("/_concert/problems.js", "problems.js", SCRIPT),
    ("/_concert/rulebook.js", "rulebook.js", SCRIPT),
    ("/_concert/rules.js", "rules.js", SCRIPT),
    ("/_concert/sequence.js", "sequence.js", SCRIPT),
    ("/_concert/source.js", "source.js", SCRIPT),
    ("/_concert/story.js", "story.js", SCRIPT),
    ("/_concert/words.js", "words.js", SCRIPT),
];

/// Response with a file, or 304 if the browser has it. Browsers revalidate each file, so they never
/// mix files of two versions of the program.
pub(super) fn response(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (_, kind, text) = ASSETS.iter().find(|(at, ..)| *at == path)?;
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes())));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let is_known = known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(*text))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, HeaderValue::from_str(&tag).ok()?);
    Some(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn exactly_the_files_of_the_page_are_served() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let files: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| match name.as_str() {
                "index.html" => "/".to_owned(),
                _ => format!("/_concert/{name}"),
            })
            .collect();
        let served = ASSETS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(files, served);
    }

    #[test]
    fn file_with_a_known_etag_returns_304() {
        let first = response("/_concert/app.js", &HeaderMap::new()).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers().get(header::ETAG).unwrap();
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.clone())]);
        let again = response("/_concert/app.js", &headers).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = response("/_concert/api.js", &headers).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn no_file_contains_the_url_of_another_host() {
        for (path, _, text) in ASSETS {
            let others = text.match_indices("//").filter(|(at, _)| {
                let before = text.get(..*at).unwrap();
                let after = text.get(at + 2..).unwrap();
                before.ends_with("http:")
                    || before.ends_with("https:")
                    || before.ends_with(['"', '\'', '('])
                        && after.starts_with(|c: char| c.is_ascii_alphanumeric())
            });
            let others: Vec<_> = others
                .filter(|(at, _)| !text.get(at + 2..).unwrap().starts_with("www.w3.org/2000/svg"))
                .collect();
            assert!(others.is_empty(), "{path}: {others:?}");
        }
    }
}
