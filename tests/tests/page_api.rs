//! What the page asks the edge, and who may ask it.

use std::time::Duration;

use concert_tests::edge_with_stub_archive::{EdgeWithStubArchive, TOKEN};
use concert_tests::nats::subscribe;
use concert_tests::{Part, System, http};
use reqwest::Response;
use serde_json::{Value, json};

const FLOW: &str = "0198c5d2-7d11-7c3a-9d38-9b1f0a6d1c11";
const PATIENCE: Duration = Duration::from_secs(60);

async fn get(
    edge: &EdgeWithStubArchive,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Response> {
    let client = http::client()?;
    let mut request = client.get(format!("http://{}{path}", edge.address()));
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
async fn nobody_sees_a_flow_without_the_operators_token() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|_, _| Ok(vec![json!({ "flow": FLOW })]))).await?;
    // The page itself holds nothing of anybody's.
    assert_eq!(get(&edge, "/", &[]).await?.status(), 200);
    for path in ["/_concert/api/flows", "/_concert/api/rules", "/_concert/live"] {
        let none = get(&edge, path, &[]).await?;
        assert_eq!(none.status(), 401, "{path}");
        assert_eq!(none.headers()["www-authenticate"], "Bearer");
        let wrong =
            get(&edge, path, &[("authorization", "Bearer 0123456789abcdef0123456789abcdef")])
                .await?;
        assert_eq!(wrong.status(), 401, "{path}");
        // What is in an address ends up in logs, so that it is no way in.
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
async fn what_the_page_asks_is_a_query_of_the_archive_and_what_that_says_is_the_answer()
-> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    let (status, body) = ask(&edge, "/_concert/api/flows").await?;
    assert_eq!(
        (status, body["error"].as_str()),
        (503, Some("no archive answers; it may not have been started"))
    );
    edge.stub_archive(Box::new(|name, _| match name {
        "_wrong" => Err((503, "the log is out of reach".to_owned())),
        "_rules" => Err((500, "rows against the spec".to_owned())),
        "_whyNot" => Err((400, "there is no rule of this name".to_owned())),
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
async fn an_archive_that_is_silent_is_told_of_in_words() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&["--set", "console.timeout_ms=100"]).await?;
    // Somebody hears the question and says nothing.
    let nats = edge.nats().await?;
    let _silent = subscribe(&nats, "concept.Concert.*").await?;
    let (status, body) = ask(&edge, "/_concert/api/wrong").await?;
    assert_eq!(status, 504, "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hear_what_happens_as_many_as_there_is_room_for_until_the_edge_ends()
-> anyhow::Result<()> {
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
    // A page that goes makes room for another.
    drop(first);
    let third = loop {
        let third = listen().await?;
        if third.status() == 200 {
            break third;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    // Line breaks in it do not end the event.
    let flow = json!({ "flow": FLOW, "error": "two\nlines" });
    edge.notify(std::slice::from_ref(&flow)).await?;
    let mut streams = Vec::new();
    for mut stream in [second, third] {
        let mut heard = String::new();
        while !heard.contains("\n\n") {
            let bytes = tokio::time::timeout(PATIENCE, stream.chunk()).await??;
            heard += std::str::from_utf8(&bytes.unwrap_or_default())?;
        }
        let data = heard.lines().find_map(|line| line.strip_prefix("data: "));
        assert!(heard.starts_with("event: flows\n"), "{heard}");
        let told: Value = serde_json::from_str(data.unwrap_or_default())?;
        assert_eq!(told, json!({ "flows": [flow], "left_out": 0 }));
        streams.push(stream);
    }

    // Open streams do not keep it from ending.
    edge.terminate().await?;
    for mut stream in streams {
        assert!(tokio::time::timeout(PATIENCE, stream.chunk()).await??.is_none());
    }
    Ok(())
}

/// More than the connection of a page that does not read holds.
const NOTICES: usize = 1500;
const NOTICE_BYTES: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_reads_too_slowly_is_let_go_and_keeps_nobody_else_back() -> anyhow::Result<()> {
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
        let mut heard = Vec::new();
        while !heard.ends_with(b"\n\n") {
            let bytes = tokio::time::timeout(PATIENCE, quick.chunk()).await??;
            heard.extend(bytes.ok_or_else(|| anyhow::anyhow!("who reads was let go"))?);
        }
    }
    let mut bytes = 0;
    while let Some(more) = tokio::time::timeout(PATIENCE, slow.chunk()).await?? {
        bytes += more.len();
    }
    assert!(bytes > NOTICE_BYTES && bytes < NOTICES * NOTICE_BYTES, "{bytes}");
    // Its place is free again.
    assert_eq!(listen().await?.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_its_own_serves_no_page_unless_it_is_told_to() -> anyhow::Result<()> {
    let system = System::start().await?;
    for path in ["/", "/_concert/app.js", "/_concert/api/flows", "/_concert/live"] {
        let answer = http::request("GET", system.address(), path, Vec::new(), &[]).await?;
        assert_eq!(answer.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_closed_bus_the_page_of_an_edge_has_its_flows_from_the_archive() -> anyhow::Result<()>
{
    let dir = tempfile::tempdir()?;
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let token = token.display().to_string();
    let settings = [("CONCERT_CONSOLE__ENABLED", "on"), ("CONCERT_CONSOLE__TOKEN_FILE", &*token)];
    let mut system = System::with(&settings).await?;
    system.start_part(Part::Archive)?;
    let client = http::client()?;
    let get = |path: &str| {
        let url = format!("http://{}/_concert/{path}", system.address());
        client.get(url).header("authorization", bearer()).send()
    };
    while get("api/flows").await?.status() != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut live = get("live").await?;
    let login = json!({ "username": "nobody", "password": "has this one" });
    let answer = system.post("/auth/login", &login).await?;
    assert_eq!(answer.status, 401, "{answer:?}");
    let flow = answer.headers["concert-flow"].to_str()?.to_owned();
    let mut heard = String::new();
    while !heard.contains(&flow) {
        let bytes = tokio::time::timeout(PATIENCE, live.chunk()).await??;
        heard += std::str::from_utf8(&bytes.ok_or_else(|| anyhow::anyhow!("the stream ended"))?)?;
    }
    let found: Value = get(&format!("api/flow/{flow}")).await?.json().await?;
    assert_eq!(found["rows"][0]["answered_by"], "RespondToFailedAuthentication", "{found}");
    Ok(())
}
