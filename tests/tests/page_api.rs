//! The HTTP interface of the console, and access to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use concert_local_servers::Port;
use concert_tests::edge_with_stub_archive::{EdgeWithStubArchive, TOKEN};
use concert_tests::nats::subscribe;
use concert_tests::{Part, System, http};
use reqwest::Response;
use serde_json::{Value, json};

const FLOW: &str = "0198c5d2-7d11-7c3a-9d38-9b1f0a6d1c11";
/// Path at which a page of the application learns the address of the console.
const LINK: &str = "/_concert/console";
const TIMEOUT: Duration = Duration::from_secs(60);

async fn get(
    edge: &EdgeWithStubArchive,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Response> {
    let client = http::client()?;
    let mut request = client.get(format!("http://{}{path}", edge.console()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.send().await?)
}

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

async fn ask(edge: &EdgeWithStubArchive, path: &str) -> anyhow::Result<(u16, Value)> {
    let answer = get(edge, path, &[("authorization", &bearer())]).await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn console_data_needs_the_operator_token() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|_, _| Ok(vec![json!({ "flow": FLOW })]))).await?;
    // The page itself contains no data.
    assert_eq!(get(&edge, "/", &[]).await?.status(), 200);
    for path in ["/_concert/api/flows", "/_concert/api/rules", "/_concert/live"] {
        let none = get(&edge, path, &[]).await?;
        assert_eq!(none.status(), 401, "{path}");
        assert_eq!(none.headers()["www-authenticate"], "Bearer");
        let wrong =
            get(&edge, path, &[("authorization", "Bearer 0123456789abcdef0123456789abcdef")])
                .await?;
        assert_eq!(wrong.status(), 401, "{path}");
        // A token in a URL is not accepted, because URLs end up in logs.
        let in_address = get(&edge, &format!("{path}?token={TOKEN}"), &[]).await?;
        assert_eq!(in_address.status(), 401, "{path}");
        let other_site = [("authorization", &*bearer()), ("sec-fetch-site", "cross-site")];
        assert_eq!(get(&edge, path, &other_site).await?.status(), 403, "{path}");
    }
    assert_eq!(edge.take_queries(), []);
    assert_eq!(
        ask(&edge, "/_concert/api/flows").await?,
        (200, json!({ "rows": [{ "flow": FLOW }] }))
    );
    let log = std::fs::read_to_string(edge.log())?;
    assert!(!log.contains(TOKEN), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn console_queries_go_to_the_archive_and_return_its_result() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    let (status, body) = ask(&edge, "/_concert/api/flows").await?;
    assert_eq!(
        (status, body["error"].as_str()),
        (503, Some("no archive responds; start one with `concert archive`"))
    );
    edge.stub_archive(Box::new(|name, _| match name {
        "_wrong" => Err((503, "the log is unreachable".to_owned())),
        "_rules" => Err((500, "rows do not match the spec".to_owned())),
        "_whyNot" => Err((400, "unknown rule".to_owned())),
        _ => Ok(vec![json!({ "began_us": 1_764_046_798_123_456_u64, "b": 1, "a": 2 })]),
    }))
    .await?;
    let query = "/_concert/api/flows?path=%2Fauth%2Flogin&outcome=failed&limit=7&before=x%3D";
    let answer = get(&edge, query, &[("authorization", &bearer())]).await?;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.text().await?, r#"{"rows":[{"began_us":1764046798123456,"b":1,"a":2}]}"#);
    let input = json!({ "path": "/auth/login", "outcome": "failed", "limit": 7, "before": "x=" });
    assert_eq!(edge.take_queries(), [("_flows".to_owned(), input)]);

    for (path, status) in [
        ("/_concert/api/problems", 503),
        // The former name of `problems`.
        ("/_concert/api/wrong", 503),
        ("/_concert/api/rules", 502),
        (&*format!("/_concert/api/flow/{FLOW}/why-not/X"), 400),
        ("/_concert/api/flow/nothing", 400),
        ("/_concert/api/flows?pasword=x", 400),
        ("/_concert/api/everything", 404),
    ] {
        let (found, body) = ask(&edge, path).await?;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_archive_gives_a_504() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&["--set", "console.timeout_ms=100"]).await?;
    // A subscriber that never replies.
    let nats = edge.nats().await?;
    let _silent = subscribe(&nats, "concept.Concert.*").await?;
    let (status, body) = ask(&edge, "/_concert/api/wrong").await?;
    assert_eq!(status, 504, "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn consoles_receive_notices_up_to_the_limit_until_shutdown() -> anyhow::Result<()> {
    let mut edge = EdgeWithStubArchive::start(&[
        "--set",
        "console.listeners=2",
        "--set",
        "http.drain_delay_ms=0",
    ])
    .await?;
    let listen = || async { get(&edge, "/_concert/live", &[("authorization", &bearer())]).await };
    let (first, second) = (listen().await?, listen().await?);
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    assert_eq!(listen().await?.status(), 503);
    // A closed page frees its slot.
    drop(first);
    let third = loop {
        let third = listen().await?;
        if third.status() == 200 {
            break third;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    // Line breaks in the data do not end the event.
    let flow = json!({ "flow": FLOW, "error": "two\nlines" });
    edge.notify(std::slice::from_ref(&flow)).await?;
    let mut streams = Vec::new();
    for mut stream in [second, third] {
        let mut received = String::new();
        while !received.contains("\n\n") {
            let bytes = tokio::time::timeout(TIMEOUT, stream.chunk()).await??;
            received += std::str::from_utf8(&bytes.unwrap_or_default())?;
        }
        let data = received.lines().find_map(|line| line.strip_prefix("data: "));
        assert!(received.starts_with("event: flows\n"), "{received}");
        let notice: Value = serde_json::from_str(data.unwrap_or_default())?;
        assert_eq!(notice, json!({ "flows": [flow], "left_out": 0 }));
        streams.push(stream);
    }

    // Open streams do not block the shutdown.
    edge.terminate().await?;
    for mut stream in streams {
        assert!(tokio::time::timeout(TIMEOUT, stream.chunk()).await??.is_none());
    }
    Ok(())
}

/// More notices than the socket buffers of a page that does not read.
const NOTICES: usize = 1500;
const NOTICE_BYTES: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn slow_console_is_disconnected_and_does_not_delay_others() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&["--set", "console.listeners=2"]).await?;
    let listen = || async { get(&edge, "/_concert/live", &[("authorization", &bearer())]).await };
    let (mut slow, mut quick) = (listen().await?, listen().await?);
    let nats = edge.nats().await?;
    let notice =
        json!({ "flows": [{ "flow": FLOW, "error": "x".repeat(NOTICE_BYTES) }], "left_out": 0 })
            .to_string();
    for _ in 0..NOTICES {
        nats.publish("notice.flows", notice.clone().into()).await?;
        nats.flush().await?;
        let mut received = Vec::new();
        while !received.ends_with(b"\n\n") {
            let bytes = tokio::time::timeout(TIMEOUT, quick.chunk()).await??;
            received.extend(
                bytes.ok_or_else(|| anyhow::anyhow!("a page that reads was disconnected"))?,
            );
        }
    }
    let mut bytes = 0;
    while let Some(more) = tokio::time::timeout(TIMEOUT, slow.chunk()).await?? {
        bytes += more.len();
    }
    assert!(bytes > NOTICE_BYTES && bytes < NOTICES * NOTICE_BYTES, "{bytes}");
    // Its slot is free again.
    assert_eq!(listen().await?.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn separate_edge_serves_no_console_by_default() -> anyhow::Result<()> {
    let port = Port::free().context("no free port")?;
    let console = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let system = System::with(&[("CONCERT_CONSOLE__LISTEN", &console.to_string())]).await?;
    for path in ["/_concert/app.js", "/_concert/api/flows", "/_concert/live"] {
        let answer = http::request("GET", system.address(), path, Vec::new(), &[]).await?;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert!(http::get(&format!("http://{console}/")).await.is_err());
    let link = http::request("GET", system.address(), LINK, Vec::new(), &[]).await?;
    assert_eq!(link.brief(), (200, r#"{"console":null}"#.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn console_of_a_separate_edge_shows_flows_over_a_restricted_bus() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let token = token.display().to_string();
    let port = Port::free().context("no free port")?;
    let console = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let mut system = System::with(&[
        ("CONCERT_CONSOLE__ENABLED", "on"),
        ("CONCERT_CONSOLE__LISTEN", &console.to_string()),
        ("CONCERT_CONSOLE__TOKEN_FILE", &token),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    let client = http::client()?;
    let get = |path: &str| {
        let url = format!("http://{console}/_concert/{path}");
        client.get(url).header("authorization", bearer()).send()
    };
    while get("api/flows").await?.status() != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut live = get("live").await?;
    // It is not part of the application's origin, and pages learn only the address of a console
    // without a token.
    let on_edge =
        http::request("GET", system.address(), "/_concert/app.js", Vec::new(), &[]).await?;
    assert_eq!(on_edge.status, 404);
    let link = http::request("GET", system.address(), LINK, Vec::new(), &[]).await?;
    assert_eq!(link.brief(), (200, r#"{"console":null}"#.to_owned()));
    let login = json!({ "username": "unknown", "password": "unknown" });
    let answer = system.post("/auth/login", &login).await?;
    assert_eq!(answer.status, 401, "{answer:?}");
    let flow = answer.headers["concert-flow"].to_str()?.to_owned();
    let mut received = String::new();
    while !received.contains(&flow) {
        let bytes = tokio::time::timeout(TIMEOUT, live.chunk()).await??;
        received +=
            std::str::from_utf8(&bytes.ok_or_else(|| anyhow::anyhow!("the stream ended"))?)?;
    }
    let found: Value = get(&format!("api/flow/{flow}")).await?.json().await?;
    assert_eq!(found["rows"][0]["answered_by"], "RespondToFailedAuthentication", "{found}");
    Ok(())
}
