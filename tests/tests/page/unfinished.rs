//! Flows without a normal end: in progress, dead-lettered, answered by the router itself.

use concert_tests::EdgeWithStubArchive;
use concert_tests::edge_with_stub_archive::TOKEN;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::list::flow_id;

const BEGAN: u64 = 1_764_046_798_123_456;

/// A login flow; `authenticate` extends its second action, `rest` extends the flow.
fn flow(number: u64, authenticate: Value, rest: Value) -> Value {
    let root = flow_id(number);
    let mut second = json!({
        "id": flow_id(100 + number), "concept": "Profile", "action": "authenticate",
        "input": { "username": "ada" }, "asked_us": BEGAN,
        "by": { "sync": "HandleLoginRequest", "firing": "f", "frame": 0, "call": 0,
                "cause_seq": 1 },
    });
    let mut flow = json!({
        "flow": root, "path": "/auth/login", "root": root, "root_kind": "request",
        "began_us": BEGAN, "ended_us": BEGAN + 5000,
        "rules": "v", "source": "log", "truncated": false, "near_misses": [],
        "firings": [{ "id": "f", "sync": "HandleLoginRequest", "at_us": BEGAN, "causes": [root],
                      "recorded": false,
                      "frames": [{ "bindings": {}, "ended": "then",
                                   "calls": [flow_id(100 + number)] }] }],
    });
    let first = json!({
        "id": root, "concept": "Requesting", "action": "request", "state": "completed",
        "outcome": "success", "seq": 1,
        "input": { "path": "/auth/login" }, "output": {}, "asked_us": BEGAN, "completed_us": BEGAN,
    });
    let respond = rest["respond"].clone();
    for (into, from) in [(&mut second, authenticate), (&mut flow, rest)] {
        let (into, from) = (into.as_object_mut(), from.as_object().cloned());
        into.into_iter().for_each(|into| into.extend(from.clone().unwrap_or_default()));
    }
    let actions = [first, second, respond].into_iter().filter(|action| !action.is_null());
    flow["actions"] = actions.collect();
    flow
}

fn flow_by_id(id: &str) -> Option<Value> {
    let open = flow(1, json!({ "state": "in_flight" }), json!({ "outcome": "open" }));
    let dead = flow(
        2,
        json!({ "state": "dead", "dead": { "reason": "attempts used up", "attempts": 10,
            "at_us": BEGAN } }),
        json!({ "outcome": "dead", "halt": { "status": 508,
            "why": "the flow reached its limit of `depth`" } }),
    );
    let fault = flow(
        3,
        json!({ "state": "completed", "outcome": "fault",
            "output": { "error": "busy", "fault": "unavailable" }, "completed_us": BEGAN + 4000,
            "seq": 2 }),
        json!({ "outcome": "fault", "status": 503, "answered_by": "Concert.fault", "respond": {
            "id": flow_id(203), "concept": "Requesting", "action": "respond", "state": "completed",
            "outcome": "success", "seq": 3,
            "input": { "error": "busy", "status": 503 }, "output": {}, "asked_us": BEGAN + 4000,
            "completed_us": BEGAN + 5000,
            "by": { "sync": "Concert.fault", "frame": 0, "call": 0, "cause_seq": 2 },
        } }),
    );
    [open, dead, fault].into_iter().find(|flow| flow["flow"] == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_flow_shows_its_state() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|name, input| {
        Ok(match name {
            "_flow" => input["flow"].as_str().and_then(flow_by_id).into_iter().collect(),
            "_rules" => vec![json!({ "version": "v", "syncs": [], "svg": "" })],
            _ => Vec::new(),
        })
    }))
    .await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/#/flow/{}", edge.console(), flow_id(1))).await?;
    browser.write("#token", TOKEN).await?;
    browser.click("form.locked button").await?;
    browser.shows(".summary .answered", "In progress; no response yet.").await?;
    browser.shows(".step.in_flight", "called; not completed yet").await?;

    browser.run(&format!("location.hash = '#/flow/{}'", flow_id(2))).await?;
    browser.shows(".step.dead", "dead-lettered: attempts used up").await?;
    browser.shows(".step.halt", "stopped with 508").await?;
    browser.shows(".summary .answered", "No rule answered").await?;

    browser.run(&format!("location.hash = '#/flow/{}'", flow_id(3))).await?;
    browser
        .shows(".summary .answered", "Answered by the router (no rule handles this fault)")
        .await?;
    browser.shows(".step.answer", "responded 503").await?;
    // The arrow starts at the failed action.
    let arrow =
        browser.run("return document.querySelector('.step.answer .arrow').className").await?;
    assert_eq!(arrow, "arrow left");
    browser.shows(".details", "Called by the router").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}
