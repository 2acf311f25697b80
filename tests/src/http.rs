//! HTTP client for the edge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A response with a JSON body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; every response of the edge is JSON.
    pub body: Value,
}

/// Timeout of a request; the edge's own deadline is shorter.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Answer {
    /// A string of the body.
    ///
    /// # Errors
    /// The body has no string with this key.
    pub fn text(&self, key: &str) -> anyhow::Result<&str> {
        self.body
            .get(key)
            .and_then(Value::as_str)
            .with_context(|| format!("no `{key}` in {:?}", self.body))
    }

    /// The status and the body, for comparisons.
    pub fn brief(&self) -> (u16, String) {
        (self.status, self.body.to_string())
    }
}

/// A client that ignores the proxies in the environment.
///
/// # Errors
/// The client cannot be created.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()
}

/// Sends a GET request.
///
/// # Errors
/// The request fails.
pub async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    client()?.get(url).send().await
}

/// Posts JSON.
///
/// # Errors
/// The request fails, or the response is not JSON.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Answer> {
    post_with(address, path, body.to_string().into_bytes(), &[("content-type", "application/json")])
        .await
}

/// Posts any bytes with any headers.
///
/// # Errors
/// The request fails, or the response is not JSON.
pub async fn post_with(
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    request("POST", address, path, body, headers).await
}

/// Sends a request with any method.
///
/// # Errors
/// The request fails, or the response is not JSON.
pub async fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let mut request =
        client()?.request(method.parse()?, format!("http://{address}{path}")).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).with_context(|| format!("{status}: {bytes:?}"))?
    };
    Ok(Answer { status, headers, body })
}

/// Returns whether an edge reports that it is ready.
pub async fn is_ready(address: SocketAddr) -> bool {
    let asked = get(format!("http://{address}/readyz")).await;
    asked.is_ok_and(|response| response.status().is_success())
}

/// The samples at `/metrics` of a process, by name and labels.
///
/// # Errors
/// The request fails, or the response is not in the text format of OpenMetrics.
pub async fn metrics(address: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = get(format!("http://{address}/metrics")).await?.error_for_status()?.text().await?;
    let ends_once = text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1;
    ensure!(ends_once, "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// Sends raw bytes and reads until the edge closes the connection.
///
/// # Errors
/// The connection fails, or it is not closed in time.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
