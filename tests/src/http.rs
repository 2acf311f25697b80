//! The edge, as a frontend sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; every answer's is JSON.
    pub body: Value,
}

/// No request of a test takes longer: the edge's own deadline is shorter.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Answer {
    /// A string of the body.
    ///
    /// # Errors
    /// There is none of this key.
    pub fn text(&self, key: &str) -> anyhow::Result<&str> {
        self.body
            .get(key)
            .and_then(Value::as_str)
            .with_context(|| format!("no `{key}` in {:?}", self.body))
    }

    /// The status and the body, for comparing.
    pub fn brief(&self) -> (u16, String) {
        (self.status, self.body.to_string())
    }
}

/// A client that goes to this machine whatever proxies the environment names.
///
/// # Errors
/// It cannot be made.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()
}

/// Gets what is at a URL of this machine.
///
/// # Errors
/// No answer.
pub async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    client()?.get(url).send().await
}

/// Posts JSON.
///
/// # Errors
/// No answer, or one that is not JSON.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Answer> {
    post_with(address, path, body.to_string().into_bytes(), &[("content-type", "application/json")])
        .await
}

/// Posts any bytes with any headers.
///
/// # Errors
/// No answer, or one that is not JSON.
pub async fn post_with(
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    request("POST", address, path, body, headers).await
}

/// Sends a request of any method.
///
/// # Errors
/// No answer, or one that is not JSON.
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

/// Whether an edge says that it takes requests.
pub async fn is_ready(address: SocketAddr) -> bool {
    let asked = get(format!("http://{address}/readyz")).await;
    asked.is_ok_and(|response| response.status().is_success())
}

/// The samples at `/metrics` of a process, by name and labels.
///
/// # Errors
/// No answer, or one that is not in the text format of OpenMetrics.
pub async fn figures(address: &str) -> anyhow::Result<BTreeMap<String, f64>> {
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

/// Sends bytes as they are and reads what comes until the edge closes the connection.
///
/// # Errors
/// The connection fails, or is not closed in time.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
