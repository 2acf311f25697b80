//! Connections to the edge: those that are idle, those that read nothing, and more of them than
//! there is room for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::lone_edge::TOKEN;
use concert_tests::{LoneEdge, http, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
/// A head that never ends.
const BEGUN: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n";
const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
/// What the edge does not know: it says so where there is room, and refuses it where there is none.
const UNKNOWN: &[u8] = b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n";
const ONE: [u8; 4] = [127, 0, 0, 1];

/// What is answered on a connection, until it is closed.
async fn rest(connection: &mut TcpStream) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    // Whether it is closed in order or cut off is the same here.
    drop(timeout(PATIENCE, connection.read_to_end(&mut answer)).await.context("it stays open")?);
    Ok(String::from_utf8(answer)?)
}

/// What one request on a connection of its own is answered.
async fn ask(edge: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    http::raw(edge, request.as_bytes()).await
}

/// Asks until the answer has this in it; connections may be closed without a word meanwhile.
async fn until_told(edge: SocketAddr, path: &str, part: &str) -> anyhow::Result<()> {
    let told =
        async || Ok(ask(edge, path).await.is_ok_and(|answer| answer.contains(part)).then_some(()));
    until(&format!("{part:?} at {path}"), PATIENCE, told).await
}

/// A new connection from an address, and the status that it gets; none if it is closed without a
/// word.
async fn met(edge: SocketAddr, from: [u8; 4]) -> anyhow::Result<(TcpStream, Option<String>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut connection = socket.connect(edge).await?;
    let mut head = *b"HTTP/1.1 ...";
    let heard = async {
        connection.write_all(UNKNOWN).await?;
        connection.read_exact(&mut head).await
    };
    let is_heard = timeout(PATIENCE, heard).await?.is_ok();
    let status = String::from_utf8_lossy(&head).into_owned().split_off("HTTP/1.1 ".len());
    Ok((connection, is_heard.then_some(status)))
}

/// A connection that has its place, and keeps it with half a head.
async fn hold(edge: SocketAddr, from: [u8; 4]) -> anyhow::Result<TcpStream> {
    // A connection that was closed before may be in the way for a moment.
    until("a place", PATIENCE, async || {
        let (mut connection, status) = met(edge, from).await?;
        if status.as_deref() != Some("404") {
            return Ok(None);
        }
        connection.write_all(BEGUN).await?;
        Ok(Some(connection))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_incomplete_requests_are_closed() -> anyhow::Result<()> {
    let edge = LoneEdge::start(&["--set", "http.idle_timeout_ms=2000"]).await?;
    for (sent, answers) in [(&b""[..], 0), (BEGUN, 0), (WHOLE, 1)] {
        let answer = http::raw(edge.address(), sent).await?;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), answers, "{answer}");
    }
    let mut long = TcpStream::connect(edge.address()).await?;
    long.write_all(BEGUN).await?;
    long.write_all(format!("x-long: {}\r\n\r\n", "x".repeat(40_000)).as_bytes()).await?;
    assert!(rest(&mut long).await?.contains("HTTP/1.1 431 "));
    // A drop at a time does not help.
    let mut dripping = TcpStream::connect(edge.address()).await?;
    let began = Instant::now();
    for byte in BEGUN.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if dripping.write_all(&[*byte]).await.is_err() {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "it stays open");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_get_503_except_health_checks() -> anyhow::Result<()> {
    const MOST: usize = 20;
    let edge = LoneEdge::start(&["--set", &format!("http.max_connections={MOST}")]).await?;
    let mut idle = Vec::new();
    for _ in 0..MOST {
        idle.push(hold(edge.address(), ONE).await?);
    }
    for told in
        [&*format!("concert_http_connections {MOST}\n"), "concert_http_connections_refused_total"]
    {
        until_told(edge.address(), "/metrics", told).await?;
    }
    let refused = until("a word", PATIENCE, async || {
        let answer = ask(edge.address(), "/api/auth/login").await;
        Ok(answer.ok().filter(|answer| !answer.is_empty()))
    })
    .await?;
    for part in [
        "HTTP/1.1 503 Service Unavailable",
        "retry-after: 1",
        "connection: close",
        r#"{"error":"too many connections are open; try again later"}"#,
    ] {
        assert!(refused.contains(part), "{part}\n{refused}");
    }
    until_told(edge.address(), "/healthz", "200 OK").await?;
    // Far more than that, which say nothing, are let go soon.
    let mut more = Vec::new();
    for _ in 0..500 {
        more.push(TcpStream::connect(edge.address()).await?);
    }
    until_told(edge.address(), "/healthz", "200 OK").await?;
    drop(more);
    drop(idle);
    until_told(edge.address(), "/nothing", "404 Not Found").await?;
    Ok(())
}

/// The other addresses of the loopback interface are clients of their own, where one may connect
/// from them without more ado.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_use_all_connections() -> anyhow::Result<()> {
    const MOST: usize = 5;
    // The one that the test asks from otherwise is none of them.
    let (one, other, proxy) = ([127, 0, 0, 4], [127, 0, 0, 2], [127, 0, 0, 3]);
    let most = format!("http.max_connections_per_client={MOST}");
    let edge =
        LoneEdge::start(&["--set", &most, "--set", "http.trusted_proxies=127.0.0.3"]).await?;
    let mut held = Vec::new();
    for _ in 0..MOST {
        held.push(hold(edge.address(), one).await?);
    }
    until("a word", PATIENCE, async || {
        let (_, status) = met(edge.address(), one).await?;
        ensure!(status.as_deref() != Some("404"), "there is a place past the bound");
        Ok(status.filter(|status| status == "503"))
    })
    .await?;
    held.push(hold(edge.address(), other).await?);
    for _ in 0..2 * MOST {
        held.push(hold(edge.address(), proxy).await?);
    }
    drop(held);
    hold(edge.address(), one).await?;
    Ok(())
}

/// A page that never reads is silent for TCP, too: only what it leaves unread tells.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_disconnected() -> anyhow::Result<()> {
    let edge =
        LoneEdge::start(&["--set", "console.listeners=1", "--set", "http.unread_timeout_ms=1000"])
            .await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut deaf = socket.connect(edge.address()).await?;
    let listen = format!(
        "GET /_concert/live HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n\r\n",
        edge.address()
    );
    deaf.write_all(listen.as_bytes()).await?;
    // It listens, and reads no more than that.
    let mut head = [0; 15];
    deaf.read_exact(&mut head).await?;
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let notice = json!({ "flow": "x", "error": "x".repeat(100_000) });
    let again =
        http::client()?.get(format!("http://{}/_concert/live", edge.address())).bearer_auth(TOKEN);
    let began = Instant::now();
    until("a place", PATIENCE, async || {
        edge.notify(std::slice::from_ref(&notice)).await?;
        let status = again.try_clone().context("a request")?.send().await?.status();
        ensure!(status == 200 || status == 503, "{status}");
        Ok((status == 200).then_some(()))
    })
    .await?;
    ensure!(began.elapsed() >= Duration::from_millis(900), "it was let go too early");
    drop(deaf);
    Ok(())
}
