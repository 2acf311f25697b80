//! Connections to the edge: idle ones, ones that read nothing, and more than the limit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::Port;
use concert_tests::edge_with_stub_archive::TOKEN;
use concert_tests::{EdgeWithStubArchive, http, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

const TIMEOUT: Duration = Duration::from_secs(20);
/// A request head that never ends.
const BEGUN: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n";
const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
/// An unknown path: the edge responds with 404 if it has a free connection slot, and with 503
/// otherwise.
const UNKNOWN: &[u8] = b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n";
const ONE: [u8; 4] = [127, 0, 0, 1];

/// Reads until the connection is closed.
async fn rest(connection: &mut TcpStream) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    // A close and a reset are both accepted.
    drop(
        timeout(TIMEOUT, connection.read_to_end(&mut answer))
            .await
            .context("the connection stays open")?,
    );
    Ok(String::from_utf8(answer)?)
}

/// Sends a request on a separate connection and returns the response.
async fn get(edge: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    http::raw(edge, request.as_bytes()).await
}

/// Repeats a request until the response contains a text. The edge may close connections without a
/// response in the meantime.
async fn until_response(edge: SocketAddr, path: &str, part: &str) -> anyhow::Result<()> {
    let has_part =
        async || Ok(get(edge, path).await.is_ok_and(|answer| answer.contains(part)).then_some(()));
    until(&format!("{part:?} at {path}"), TIMEOUT, has_part).await
}

/// Opens a connection from an address and returns it with the status of the response, or `None` if
/// it is closed without one.
async fn connect_from(
    edge: SocketAddr,
    from: [u8; 4],
) -> anyhow::Result<(TcpStream, Option<String>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut connection = socket.connect(edge).await?;
    let mut head = *b"HTTP/1.1 ...";
    let exchange = async {
        connection.write_all(UNKNOWN).await?;
        connection.read_exact(&mut head).await
    };
    let is_answered = timeout(TIMEOUT, exchange).await?.is_ok();
    let status = String::from_utf8_lossy(&head).into_owned().split_off("HTTP/1.1 ".len());
    Ok((connection, is_answered.then_some(status)))
}

/// A connection that occupies a slot with half a request head.
async fn hold(edge: SocketAddr, from: [u8; 4]) -> anyhow::Result<TcpStream> {
    // The slot of a closed connection may be released a moment later.
    until("a slot is free", TIMEOUT, async || {
        let (mut connection, status) = connect_from(edge, from).await?;
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
    let edge = EdgeWithStubArchive::start(&["--set", "http.idle_timeout_ms=2000"]).await?;
    for (sent, answers) in [(&b""[..], 0), (BEGUN, 0), (WHOLE, 1)] {
        let answer = http::raw(edge.address(), sent).await?;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), answers, "{answer}");
    }
    let mut long = TcpStream::connect(edge.address()).await?;
    long.write_all(BEGUN).await?;
    long.write_all(format!("x-long: {}\r\n\r\n", "x".repeat(40_000)).as_bytes()).await?;
    assert!(rest(&mut long).await?.contains("HTTP/1.1 431 "));
    // One byte at a time does not extend the timeout.
    let mut dripping = TcpStream::connect(edge.address()).await?;
    let began = Instant::now();
    for byte in BEGUN.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if dripping.write_all(&[*byte]).await.is_err() {
            break;
        }
        ensure!(began.elapsed() < TIMEOUT, "the connection stays open");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_get_503_except_health_checks() -> anyhow::Result<()> {
    const MAX: usize = 20;
    let edge =
        EdgeWithStubArchive::start(&["--set", &format!("http.max_connections={MAX}")]).await?;
    let mut idle = Vec::new();
    for _ in 0..MAX {
        idle.push(hold(edge.address(), ONE).await?);
    }
    for has_part in
        [&*format!("concert_http_connections {MAX}\n"), "concert_http_connections_refused_total"]
    {
        until_response(edge.address(), "/metrics", has_part).await?;
    }
    let refused = until("the edge responds", TIMEOUT, async || {
        let answer = get(edge.address(), "/api/auth/login").await;
        Ok(answer.ok().filter(|answer| !answer.is_empty()))
    })
    .await?;
    for part in [
        "HTTP/1.1 503 Service Unavailable",
        "retry-after: 1",
        "connection: close",
        r#"{"error":"too many connections; retry later"}"#,
    ] {
        assert!(refused.contains(part), "{part}\n{refused}");
    }
    until_response(edge.address(), "/healthz", "200 OK").await?;
    // Many more connections that send nothing are closed soon.
    let mut more = Vec::new();
    for _ in 0..500 {
        more.push(TcpStream::connect(edge.address()).await?);
    }
    until_response(edge.address(), "/healthz", "200 OK").await?;
    drop(more);
    drop(idle);
    until_response(edge.address(), "/nothing", "404 Not Found").await?;
    Ok(())
}

/// Each loopback address counts as a separate client, on systems that can connect from them.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_use_all_connections() -> anyhow::Result<()> {
    const MAX: usize = 5;
    // Not the address that the test otherwise uses.
    let (one, other, proxy) = ([127, 0, 0, 4], [127, 0, 0, 2], [127, 0, 0, 3]);
    let most = format!("http.max_connections_per_client={MAX}");
    let edge =
        EdgeWithStubArchive::start(&["--set", &most, "--set", "http.trusted_proxies=127.0.0.3"])
            .await?;
    let mut held = Vec::new();
    for _ in 0..MAX {
        held.push(hold(edge.address(), one).await?);
    }
    until("the edge responds", TIMEOUT, async || {
        let (_, status) = connect_from(edge.address(), one).await?;
        ensure!(status.as_deref() != Some("404"), "a connection over the limit is accepted");
        Ok(status.filter(|status| status == "503"))
    })
    .await?;
    held.push(hold(edge.address(), other).await?);
    for _ in 0..2 * MAX {
        held.push(hold(edge.address(), proxy).await?);
    }
    drop(held);
    hold(edge.address(), one).await?;
    Ok(())
}

/// A client that never reads also acknowledges nothing in TCP; only its unread data shows it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_disconnected() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[
        "--set",
        "console.listeners=1",
        "--set",
        "http.unread_timeout_ms=1000",
    ])
    .await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut silent = socket.connect(edge.console()).await?;
    let listen = format!(
        "GET /_concert/live HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n\r\n",
        edge.console()
    );
    silent.write_all(listen.as_bytes()).await?;
    // It reads the status line and nothing more.
    let mut head = [0; 15];
    silent.read_exact(&mut head).await?;
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let notice = json!({ "flow": "x", "error": "x".repeat(100_000) });
    let again =
        http::client()?.get(format!("http://{}/_concert/live", edge.console())).bearer_auth(TOKEN);
    let began = Instant::now();
    until("a slot is free", TIMEOUT, async || {
        edge.notify(std::slice::from_ref(&notice)).await?;
        let status = again.try_clone().context("a request")?.send().await?.status();
        ensure!(status == 200 || status == 503, "{status}");
        Ok((status == 200).then_some(()))
    })
    .await?;
    ensure!(began.elapsed() >= Duration::from_millis(900), "the client was disconnected too early");
    drop(silent);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_listener_serves_metrics_and_descriptions_instead_of_the_public_one()
-> anyhow::Result<()> {
    let port = Port::free().context("no free port")?;
    let internal = SocketAddr::from((ONE, port.number()));
    let setting = format!("http.internal_listen={internal}");
    let edge = EdgeWithStubArchive::start(&["--set", &setting]).await?;
    for (path, public, private) in [
        ("/metrics", "404 ", "200 OK"),
        ("/openapi.json", "404 ", "503 "),
        ("/healthz", "200 OK", "200 OK"),
        ("/api/auth/login", "503 ", "404 "),
    ] {
        for (address, expected) in [(edge.address(), public), (internal, private)] {
            let response = get(address, path).await?;
            assert!(
                response.contains(&format!("HTTP/1.1 {expected}")),
                "{address}{path} {response}"
            );
        }
    }
    let no_host =
        http::raw(edge.address(), b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await?;
    assert!(no_host.contains("HTTP/1.1 400 "), "{no_host}");
    Ok(())
}
