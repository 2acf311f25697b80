//! Requests with odd bodies and headers, and bytes that are barely HTTP, each on a separate
//! connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::input::{mutate, object, one_of, value};

/// A password that requests contain and no file may contain afterwards.
pub(crate) const CANARY: &str = "Canary-Of-The-Fuzzer-7741";

/// Longer than the edge's own deadline.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Time before the client half-closes a connection with bytes that are barely HTTP.
const HALF_CLOSE: Duration = Duration::from_millis(200);

/// Allowed statuses. A 500 would be a bug, a 504 an unanswered request, a 508 a cycle in the rules.
const ALLOWED: [u16; 15] =
    [200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 431, 501, 503];

/// The application's paths and their keys.
fn routes(session: &str) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let name = || ("username", "fuzz".to_owned());
    let password = || ("password", CANARY.to_owned());
    let session = || ("session", session.to_owned());
    vec![
        ("/auth/createAccount", vec![name(), password()]),
        ("/auth/login", vec![name(), password()]),
        ("/auth/logout", vec![session()]),
        ("/auth/whoami", vec![session()]),
        ("/auth/sessions", vec![session()]),
        (
            "/auth/changePassword",
            vec![session(), ("oldPassword", CANARY.to_owned()), ("newPassword", CANARY.to_owned())],
        ),
        ("/auth/deleteAccount", vec![session(), password()]),
        ("/auth/endSession", vec![session(), ("id", "fuzz".to_owned())]),
        ("/auth/logoutEverywhere", vec![session()]),
    ]
}

/// A request, and whether it is valid enough that the edge must respond.
pub(crate) struct Request {
    bytes: Vec<u8>,
    is_http: bool,
}

impl Request {
    /// A random request.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let routes = routes("nobody's session");
        let (path, keys) = one_of(rng, &routes);
        let body = match rng.u8(..12) {
            0 => value(rng, 4).into_bytes(),
            1 => (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
            2 => vec![b' '; rng.usize(..3_000_000)],
            _ => object(rng, keys),
        };
        let method = match rng.u8(..12) {
            0 => *one_of(rng, &["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "BREW"]),
            _ => "POST",
        };
        let path = match rng.u8(..12) {
            0 => format!("/api{path}/{}", rng.u32(..)),
            1 => format!("/api/Profile/_getAllUsers?x={}", "y".repeat(rng.usize(..4_000))),
            2 => (*one_of(
                rng,
                &["/", "//", "/api", "/api/..%2f", "/healthz", "/readyz", "/metrics", "*"],
            ))
            .to_owned(),
            3 => format!("/api{path}?session={}%zz&session", rng.u32(..)),
            _ => format!("/api{path}"),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n");
        let kind = match rng.u8(..10) {
            0 => "text/plain",
            1 => "application/json; charset=utf-16",
            2 => "application/json;;;=",
            _ => "application/json",
        };
        head.push_str(&format!("content-type: {kind}\r\n"));
        for _ in 0..rng.usize(..3) {
            head.push_str(&header(rng));
        }
        let mut bytes = Vec::new();
        if rng.u8(..6) == 0 {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            bytes.extend_from_slice(head.as_bytes());
            for chunk in body.chunks(rng.usize(1..2_000)) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&body);
        }
        let is_http = rng.u8(..4) != 0;
        if !is_http {
            mutate(rng, &mut bytes);
        }
        Self { bytes, is_http }
    }

    /// Sends the request, checks the response, and returns the status if there is one.
    pub(crate) async fn send(&self, edge: SocketAddr) -> anyhow::Result<Option<u16>> {
        let shown = || {
            let start = self.bytes.get(..self.bytes.len().min(600)).unwrap_or_default();
            format!("of {} bytes: {}", self.bytes.len(), start.escape_ascii())
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange(edge, &self.bytes, self.is_http))
            .await
            .with_context(|| format!("no response and no close {}", shown()))??;
        // An interim response may come first.
        let answer = answer.strip_prefix(INTERIM).unwrap_or(&answer);
        if answer.is_empty() {
            ensure!(!self.is_http, "closed without a response {}", shown());
            return Ok(None);
        }
        judge(answer, self.bytes.starts_with(b"HEAD ")).with_context(shown).map(Some)
    }
}

/// A random header with any value that HTTP allows.
fn header(rng: &mut Rng) -> String {
    let name = one_of(
        rng,
        &[
            "idempotency-key",
            "authorization",
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "origin",
            "sec-fetch-site",
            "accept-encoding",
            "traceparent",
            "expect",
            "x-anything",
        ],
    );
    let length = if rng.u8(..20) == 0 { 20_000 } else { rng.usize(..60) };
    let value: String = match rng.u8(..4) {
        0 => (0..length).map(|_| rng.alphanumeric()).collect(),
        1 => (0..length).map(|_| char::from(rng.u8(0x20..0x7f))).collect(),
        2 => "100-continue".to_owned(),
        _ => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    };
    format!("{name}: {value}\r\n")
}

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Sends bytes and returns the response until the connection is closed.
async fn exchange(edge: SocketAddr, bytes: &[u8], is_http: bool) -> anyhow::Result<Vec<u8>> {
    let (mut from, mut to) = TcpStream::connect(edge).await?.into_split();
    let mut answer = Vec::new();
    // An edge that rejects a body early does not read all of it; its response counts.
    let send = async {
        let sent = to.write_all(bytes).await;
        if is_http {
            return sent;
        }
        // The edge may wait for more bytes. It takes an immediate half-close for a disconnect.
        tokio::time::sleep(HALF_CLOSE).await;
        sent.and(to.shutdown().await)
    };
    let (_, read) = tokio::join!(send, from.read_to_end(&mut answer));
    match read {
        Err(error) if answer.is_empty() && error.kind() != std::io::ErrorKind::ConnectionReset => {
            Err(error.into())
        }
        _ => Ok(answer),
    }
}

fn judge(answer: &[u8], is_to_head: bool) -> anyhow::Result<u16> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").context("an incomplete response")?;
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("no status in {head}"))?;
    ensure!(ALLOWED.contains(&status), "unexpected status: {text}");
    ensure!(!text.contains(CANARY), "the response contains the password: {text}");
    let head = head.to_ascii_lowercase();
    // An open connection may carry a second response, to the remaining bytes.
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = match length {
        // A response to HEAD has the length of the omitted body.
        _ if is_to_head => "",
        Some(length) => body.get(..length).unwrap_or(body),
        None => body,
    };
    if status >= 400 && head.contains("content-type: application/json") && !body.is_empty() {
        let body: serde_json::Value =
            serde_json::from_str(body).with_context(|| format!("invalid JSON: {body}"))?;
        let Some(error) = body.get("error").and_then(serde_json::Value::as_str) else {
            bail!("an error without a text: {body}");
        };
        ensure!(!error.is_empty(), "an error without a text: {body}");
    }
    Ok(status)
}
