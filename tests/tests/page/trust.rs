//! Security of the console: hostile data, foreign origins, and the operator token.

use concert_tests::EdgeWithStubArchive;
use concert_tests::edge_with_stub_archive::TOKEN;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::list::flow_id;

const HOSTILE: &str = r#"<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"#;

fn hostile_flow() -> Value {
    let at = 1_764_046_798_123_456_u64;
    json!({
        "flow": flow_id(1), "path": HOSTILE, "root": flow_id(1), "root_kind": "request",
        "began_us": at, "ended_us": at + 900, "outcome": "failed",
        "status": 401, "answered_by": HOSTILE, "rules": "v", "source": "log", "truncated": false,
        "actions": [
            { "id": flow_id(1), "concept": "Requesting", "action": "request", "state": "completed",
              "outcome": "success",
              "input": { "path": HOSTILE, "username": HOSTILE }, "output": { "request": HOSTILE },
              "asked_us": at, "completed_us": at, "seq": 1 },
            { "id": flow_id(2), "concept": HOSTILE, "action": HOSTILE, "state": "completed",
              "outcome": "refusal",
              "input": { "username": HOSTILE }, "output": { "error": HOSTILE }, "asked_us": at,
              "completed_us": at + 900, "seq": 2,
              "by": { "firing": "f", "sync": HOSTILE, "frame": 0, "call": 0 } },
        ],
        "firings": [{ "id": "f", "sync": HOSTILE, "at_us": at, "causes": [flow_id(1)],
                      "recorded": false,
                      "frames": [{ "bindings": { HOSTILE: HOSTILE }, "ended": "then",
                                   "calls": [flow_id(2)] }] }],
        "near_misses": [{ "sync": HOSTILE, "matched": [{ "pattern": 0, "action": flow_id(1) }],
                          "failed": { "pattern": 1, "text": HOSTILE, "action": flow_id(2),
                              "key": HOSTILE, "why": HOSTILE } }],
    })
}

fn hostile_rules() -> Value {
    let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 300 200" onload="window.hacked=1">
        <script>window.hacked=1</script><style>@import url(https://evil.example/x.css);</style><image href="https://evil.example/x.png"/>
        <foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="x" onerror="window.hacked=1"/></foreignObject>
        <a xlink:href="javascript:window.hacked=1"><text x="1" y="1">away</text></a>
        <g class="rule" onclick="window.hacked=1"><title>A</title><rect class="box" x="10" y="60" width="80" height="30" fill="url(https://evil.example/y)"/><text x="20" y="80">A</text></g>
        <path class="edge then" d="M0,0L9,9" marker-end="url(https://evil.example/z)"/></svg>"##;
    json!({ "version": "v", "svg": svg, "since_us": 1, "syncs": [
        { "name": "A", "file": HOSTILE, "line": 1, "text": HOSTILE, "when": [HOSTILE],
          "then": [HOSTILE], "firings": 3 },
        { "name": HOSTILE, "file": HOSTILE, "line": 1, "text": HOSTILE, "when": [HOSTILE],
          "then": [HOSTILE], "firings": 0 },
    ]})
}

async fn edge() -> anyhow::Result<EdgeWithStubArchive> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|name, _| {
        Ok(match name {
            "_flow" => vec![hostile_flow()],
            "_flows" => vec![json!({ "flow": flow_id(1), "path": HOSTILE, "began_us": 1,
                "took_us": 1, "outcome": HOSTILE, "answered_by": HOSTILE, "error": HOSTILE,
                "cursor": "1" })],
            "_rules" => vec![hostile_rules()],
            _ => vec![json!({ "dead": [{ "action": "a", "concept": HOSTILE, "name": HOSTILE,
                "flow": HOSTILE, "reason": HOSTILE, "at_us": 1, "attempts": 3 }],
                "dead_count": 1, "lag": [{ "stream": HOSTILE, "consumer": HOSTILE, "pending": 900,
                "ack_pending": 2 }], "failed_last_hour": 2, "faults_last_hour": 1,
                "slow": [] })],
        })
    }))
    .await?;
    Ok(edge)
}

async fn sign_in(browser: &Browser) -> anyhow::Result<()> {
    browser.write("#token", TOKEN).await?;
    browser.click("form.locked button").await?;
    browser.shows(".live", "live").await
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_data_is_shown_as_text() -> anyhow::Result<()> {
    let edge = edge().await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/#/flow/{}", edge.console(), flow_id(1))).await?;
    sign_in(&browser).await?;
    for (view, shown) in [
        (format!("#/flow/{}", flow_id(1)), ".summary"),
        ("#/flows".to_owned(), "#flow-0"),
        ("#/rules/A".to_owned(), ".book .source"),
        ("#/problems".to_owned(), ".cards"),
    ] {
        browser.run(&format!("location.hash = '{view}'")).await?;
        browser.until(&format!("document.querySelector('main {shown}') !== null")).await?;
        let text = browser.text("main").await?;
        assert!(text.contains("<img src=x onerror="), "{view} does not show it: {text}");
        assert!(!text.contains("[object "), "{view} shows an object: {text}");
        let made = browser
            .run("return { hacked: window.hacked ?? null, made: [...document.querySelectorAll('main img, main script, main iframe, main image, main foreignObject, main style, svg a')].length, \
                  handlers: [...document.querySelectorAll('*')].filter((found) => [...found.attributes].some(({ name, value }) => name.startsWith('on') || /evil|javascript:/.test(value))).length }")
            .await?;
        assert_eq!(made, json!({ "hacked": null, "made": 0, "handlers": 0 }), "{view}");
    }
    // The page adds the counters itself.
    browser.run("location.hash = '#/rules'").await?;
    browser.shows(".graph .figure", "3").await?;
    browser.shows(".graph g.rule text", "A").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sends_requests_only_to_its_own_edge() -> anyhow::Result<()> {
    let edge = edge().await?;
    let browser = Browser::open().await?;
    let origin = format!("http://{}/", edge.console());
    browser.go(&origin).await?;
    sign_in(&browser).await?;
    for view in ["#/flows", "#/rules", "#/problems"] {
        browser.run(&format!("location.hash = '{view}'")).await?;
        browser.until("document.querySelector('main h2') !== null").await?;
    }
    let asked = browser
        .until("performance.getEntriesByType('resource').map((entry) => entry.name).concat(location.href)")
        .await?;
    let asked: Vec<&str> =
        asked.as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert!(asked.len() > 15, "{asked:?}");
    let others: Vec<&&str> = asked.iter().filter(|url| !url.starts_with(&origin)).collect();
    assert!(others.is_empty(), "{others:?}");
    // No URL contains the token.
    assert!(asked.iter().all(|url| !url.contains(TOKEN)), "{asked:?}");
    // The browser blocks requests to other hosts.
    let refused = browser
        .called_back("const done = arguments[0]; document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective)); fetch('http://127.0.0.1:1/').catch(() => {})")
        .await?;
    assert_eq!(refused, "connect-src");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn console_with_a_token_shows_nothing_without_it() -> anyhow::Result<()> {
    let edge = edge().await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/#/flows", edge.console())).await?;
    browser.shows("form.locked", "Operator token").await?;
    browser.write("#token", "0123456789abcdef0123456789abcdef").await?;
    browser.click("form.locked button").await?;
    browser.shows("form.locked .notice", "wrong operator token").await?;
    assert_eq!(edge.take_queries(), []);
    assert_eq!(browser.run("return document.querySelector('#flow-list')").await?, Value::Null);
    browser.picture("token").await?;
    sign_in(&browser).await?;
    browser.until("document.querySelector('#flow-0') !== null").await?;
    // The tab keeps the token across a reload.
    browser.run("location.reload()").await?;
    browser.until("document.querySelector('#flow-0') !== null").await?;
    Ok(())
}
