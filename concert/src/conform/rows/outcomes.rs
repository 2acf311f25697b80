//! The outcomes of an action that is delivered without disturbances.

use anyhow::{Context as _, ensure};
use concert_runtime::clock;
use concert_wire::{header, value};
use serde_json::{Value, json};

use crate::conform::call::Call;
use crate::conform::journal::Step;
use crate::conform::report::{Checked, ok};
use crate::conform::world::World;

/// Time by which a deadline has passed, in milliseconds; more than `workers.clock_skew_ms`.
const PAST_MS: u64 = 10_000;

/// Checks the output of a fault.
fn expect_fault(output: &Value, fault: &str) -> anyhow::Result<()> {
    let error = output.get("error").and_then(Value::as_str).unwrap_or_default();
    ensure!(!error.is_empty(), "the output {output} has no error");
    ensure!(output.get("fault") == Some(&json!(fault)), "the fault of {output} is not `{fault}`");
    Ok(())
}

pub(super) async fn happy_path(world: &World) -> Checked {
    let call = Call::add("happy path", "a");
    let output = world.run(&call).await?;
    ensure!(output == json!({ "entry": "a" }), "the output is {output}");
    let tap = &world.worker.tap;
    let reply = tap.nth(1, Step::Reply, call.id).await?;
    ensure!(reply.body == output.to_string().as_bytes(), "the caller gets another output");
    tap.nth(1, Step::Ack, call.id).await?;
    let completion = tap.nth(1, Step::Completion, call.id).await?;
    let once = format!("{}: 0", header::EXPECTED_LAST_SUBJECT_SEQUENCE).to_lowercase();
    let headers = completion.headers.to_lowercase();
    ensure!(headers.contains(&once), "the completion does not require an unused subject");
    let body = value::object(&completion.body).context("the completion")?;
    let keys: Vec<&str> = body.keys().map(String::as_str).collect();
    ensure!(keys == ["input", "output"], "the completion has the keys {keys:?}");
    world.expect_entries("happy path", &["a"]).await?;
    ok("one write, completion, reply, acknowledgement")
}

pub(super) async fn injected(world: &World) -> Checked {
    let input = json!({ "name": "injected", "entry": "a" });
    let done = world.ask("add", None, &input).await?;
    ensure!(Value::Object(done.body.clone()) == json!({ "entry": "a" }), "{:?}", done.body);
    world.expect_entries("injected", &["a"]).await?;
    ok("the request gets the output")
}

pub(super) async fn refusal(world: &World) -> Checked {
    let output = world.run(&Call::add("refusal", "")).await?;
    ensure!(output.get("fault").is_none(), "the refusal {output} is a fault");
    let error = output.get("error").and_then(Value::as_str).unwrap_or_default();
    ensure!(!error.is_empty(), "the output {output} has no error");
    world.expect_entries("refusal", &[]).await?;
    ok("an error without a fault, and no write")
}

pub(super) async fn fault(world: &World) -> Checked {
    let output = world.run(&Call::root("misbehave", &json!({ "kind": "error" }))).await?;
    expect_fault(&output, "invalid")?;
    ok("an error that the spec does not declare is the fault `invalid`")
}

pub(super) async fn bad_output(world: &World) -> Checked {
    let output = world.run(&Call::root("misbehave", &json!({ "kind": "type" }))).await?;
    expect_fault(&output, "invalid")?;
    ok("an output that does not match the spec is the fault `invalid`")
}

pub(super) async fn unknown_action(world: &World) -> Checked {
    let output = world.run(&Call::root("missing", &json!({}))).await?;
    expect_fault(&output, "invalid")?;
    ok("the fault `invalid`")
}

pub(super) async fn bad_input(world: &World) -> Checked {
    let bodies = [
        json!({ "name": "bad input" }).to_string(),
        json!({ "name": "bad input", "entry": 5 }).to_string(),
        json!({ "name": "bad input".repeat(10), "entry": "a" }).to_string(),
        json!(["bad input", "a"]).to_string(),
        "no JSON".to_owned(),
        r#"{"name": "bad input", "name": "bad input", "entry": "a"}"#.to_owned(),
    ];
    for body in &bodies {
        let call = Call::raw("add", body.clone().into_bytes());
        let output = world.run(&call).await.with_context(|| body.clone())?;
        expect_fault(&output, "invalid").with_context(|| body.clone())?;
    }
    world.expect_entries("bad input", &[]).await?;
    ok(format!("{} bodies: the fault `invalid`, and no write", bodies.len()))
}

pub(super) async fn retry(world: &World) -> Checked {
    let call = Call::root("fail", &json!({ "name": "retry", "times": 1 }));
    let output = world.run(&call).await?;
    ensure!(output == json!({ "name": "retry" }), "the output is {output}");
    let retry = world.worker.tap.nth(1, Step::Retry, call.id).await?;
    let delay = String::from_utf8_lossy(&retry.body);
    let delay = delay.strip_prefix("-NAK").unwrap_or_default();
    let delay: Value = serde_json::from_str(delay).context("the delay of -NAK")?;
    let delay = delay.get("delay").and_then(Value::as_u64).context("-NAK has no delay")?;
    ensure!((50_000_000..=100_000_000).contains(&delay), "the first delay is {delay} ns");
    world.expect_entries("retry", &["done"]).await?;
    ok(format!("retried after {} ms", delay / 1_000_000))
}

pub(super) async fn exhaustion(world: &World) -> Checked {
    let call = Call::root("fail", &json!({ "name": "exhaustion", "times": 1000 }));
    world.invoke(&call).await?;
    let reason = world.dead(&call).await?;
    ensure!(reason.starts_with("failed after 3 attempts: "), "the reason is `{reason}`");
    world.worker.tap.nth(1, Step::Termination, call.id).await?;
    // The server delivers it once more if the machine stalls before the termination.
    let deliveries = world.worker.tap.count(Step::Delivery, call.id);
    ensure!((3..=4).contains(&deliveries), "the action was delivered {deliveries} times");
    // A fourth attempt would follow a third retry.
    let retries = world.worker.tap.count(Step::Retry, call.id);
    ensure!(retries <= 2, "the worker asked for {retries} retries");
    world.expect_entries("exhaustion", &[]).await?;
    ok("a dead letter after 2 attempts and an isolated one")
}

pub(super) async fn deadline_without_effects(world: &World) -> Checked {
    let past = clock::now_ms() - PAST_MS;
    let call = Call::root("echo", &json!({ "value": "a" })).until(past);
    expect_fault(&world.run(&call).await?, "deadline")?;
    let future = clock::now_ms() + PAST_MS;
    let call = Call::root("echo", &json!({ "value": "a" })).until(future);
    let output = world.run(&call).await?;
    ensure!(output == json!({ "value": "a" }), "before the deadline, the output is {output}");
    ok("the fault `deadline`")
}

pub(super) async fn deadline_with_effects(world: &World) -> Checked {
    let past = clock::now_ms() - PAST_MS;
    let output = world.run(&Call::add("deadline", "a").until(past)).await?;
    ensure!(output == json!({ "entry": "a" }), "the output is {output}");
    world.expect_entries("deadline", &["a"]).await?;
    ok("executed")
}
