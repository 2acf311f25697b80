//! Static files: the frontend of the application, at `/` (ADR 40).

use std::path::PathBuf;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tower_http::services::{ServeDir, ServeFile};
use tower_service::Service as _;

use crate::origin;

/// Static files: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileArgs {
    /// Directory of files to serve at `/`, such as a frontend. Paths of rules, below `http.base`,
    /// take precedence; names that begin with a dot are not served.
    #[serde(rename = "static")]
    pub dir: Option<PathBuf>,
    /// File in `http.static`, such as `index.html`, for paths without a file that a browser opens
    /// as a page. Frontends whose router changes the path need it.
    #[serde(rename = "static_fallback")]
    pub fallback: Option<String>,
    /// `Content-Security-Policy` of the static files.
    #[serde(rename = "static_policy", deserialize_with = "policy")]
    pub policy: String,
}

/// Files come from the own origin only. Images, fonts and media may also be parts of a document
/// that the page unpacks.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; font-src 'self' blob: data:; \
    media-src 'self' blob: data:; object-src 'none'; base-uri 'self'; form-action 'self'; \
    frame-ancestors 'none'";
/// Number of bytes that are read together from a file.
const READ_BYTES: usize = 256 * 1024;
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

impl Default for FileArgs {
    fn default() -> Self {
        Self { dir: None, fallback: None, policy: POLICY.to_owned() }
    }
}

fn policy<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    match HeaderValue::from_str(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(D::Error::custom("a policy is one line of visible characters")),
    }
}

/// Static files that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BadFiles {
    /// The directory is missing or unreadable.
    #[error("cannot read the directory {path} of http.static: {source}; correct or remove the key")]
    Dir {
        /// Path of the directory.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The fallback is missing or unreadable.
    #[error("cannot read {path} of http.static_fallback: {source}; correct or remove the key")]
    Fallback {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// The files of an edge.
#[derive(Debug)]
pub(crate) struct Files {
    dir: ServeDir,
    fallback: Option<ServeFile>,
    policy: HeaderValue,
}

impl Files {
    /// `None` without `http.static`.
    ///
    /// # Errors
    /// See [`BadFiles`].
    pub(crate) fn open(args: &FileArgs) -> Result<Option<Self>, BadFiles> {
        let Some(dir) = &args.dir else { return Ok(None) };
        if let Err(source) = std::fs::read_dir(dir) {
            return Err(BadFiles::Dir { path: dir.clone(), source });
        }
        let fallback = args.fallback.as_ref().map(|name| dir.join(name));
        if let Some(path) = &fallback
            && let Err(source) = std::fs::File::open(path)
        {
            return Err(BadFiles::Fallback { path: path.clone(), source });
        }
        Ok(Some(Self {
            dir: ServeDir::new(dir).with_buf_chunk_size(READ_BYTES),
            fallback: fallback.map(ServeFile::new),
            policy: HeaderValue::from_str(&args.policy)
                .unwrap_or_else(|_| HeaderValue::from_static(POLICY)),
        }))
    }

    /// The file for a request. `None` if it does not exist, or for methods other than GET and HEAD.
    pub(crate) async fn response(&self, request: &Parts) -> Option<Response<Body>> {
        if ![Method::GET, Method::HEAD].contains(&request.method) {
            return None;
        }
        let mut found = match is_public(request.uri.path()) {
            // An error of the file system is a 500, which tower-http returns as a response.
            true => self.dir.clone().call(empty(request)).await.ok(),
            false => None,
        };
        if found.as_ref().is_none_or(|found| found.status() == StatusCode::NOT_FOUND) {
            let accepts_page = origin::text(&request.headers, &header::ACCEPT)
                .is_some_and(|accepted| accepted.contains("text/html"));
            let mut file = self.fallback.clone().filter(|_| accepts_page)?;
            found = file.call(empty(request)).await.ok();
        }
        let mut response = found?.map(Body::new);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in [
            // Browsers revalidate each file, so they never mix files of two versions.
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (OPENER_POLICY, "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }
}

fn empty(request: &Parts) -> Request<Body> {
    Request::from_parts(request.clone(), Body::empty())
}

/// False for paths with a hidden name, and for those with `//`, which a redirect would turn into
/// the name of another host.
fn is_public(path: &str) -> bool {
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return false };
    !path.contains("//") && !path.split(['/', '\\']).any(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn site() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("site/index.html", "the app"),
            ("site/js/app.js", "run()"),
            ("site/.env", "secret"),
            ("site/.git/config", "secret"),
            ("outside", "secret"),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn files(dir: &tempfile::TempDir, fallback: Option<&str>) -> Files {
        let args = FileArgs {
            dir: Some(dir.path().join("site")),
            fallback: fallback.map(str::to_owned),
            ..FileArgs::default()
        };
        Files::open(&args).unwrap().unwrap()
    }

    async fn get(files: &Files, path: &str, headers: &[(HeaderName, &str)]) -> (u16, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let (parts, _) = request.body(Body::empty()).unwrap().into_parts();
        let Some(response) = files.response(&parts).await else { return (0, String::new()) };
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY, "{path}");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_public_files_are_served() {
        let dir = site();
        let files = files(&dir, None);
        assert_eq!(get(&files, "/", &[]).await, (200, "the app".to_owned()));
        assert_eq!(get(&files, "/js/app.js", &[]).await, (200, "run()".to_owned()));
        assert_eq!(get(&files, "/js", &[]).await.0, 307);
        for path in [
            "/js/",
            "/none",
            "/.env",
            "/%2eenv",
            "/%2E%65nv",
            "/.git/config",
            "/js%2F..%2F.git%2Fconfig",
            "/js/..%5c.env",
            "/../outside",
            "/%2e%2e/outside",
            "/js/../../outside",
            "/%2Fjs",
            "//js",
            "/js/app.js/x",
            "/%ff",
        ] {
            assert_eq!(get(&files, path, &[]).await, (0, String::new()), "{path}");
        }
    }

    #[tokio::test]
    async fn pages_without_a_file_get_the_fallback() {
        let dir = site();
        let files = files(&dir, Some("index.html"));
        let page = [(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")];
        let app = (200, "the app".to_owned());
        assert_eq!(get(&files, "/reader/019a", &page).await, app);
        assert_eq!(get(&files, "/.env", &page).await, app);
        assert_eq!(get(&files, "/reader/019a", &[(header::ACCEPT, "*/*")]).await.0, 0);
        assert_eq!(get(&files, "/js/app.js", &page).await, (200, "run()".to_owned()));
    }

    #[tokio::test]
    async fn known_file_is_not_sent_again() {
        let dir = site();
        let files = files(&dir, None);
        let (parts, _) = Request::get("/").body(Body::empty()).unwrap().into_parts();
        let first = files.response(&parts).await.unwrap();
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(get(&files, "/", &[(header::IF_NONE_MATCH, &tag)]).await.0, 304);
        let (parts, _) = Request::post("/").body(Body::empty()).unwrap().into_parts();
        assert!(files.response(&parts).await.is_none());
    }

    #[test]
    fn missing_files_are_reported_with_their_key() {
        let dir = site();
        let open = |path: &str, fallback: Option<&str>| {
            let dir = Some(dir.path().join(path));
            let fallback = fallback.map(str::to_owned);
            let opened = Files::open(&FileArgs { dir, fallback, ..FileArgs::default() });
            opened.unwrap_err().to_string()
        };
        assert!(open("none", None).contains("none of http.static: "));
        assert!(open("outside", None).contains("outside of http.static: "));
        assert!(open("site", Some("none")).contains("none of http.static_fallback: "));
    }
}
