//! Deliveries that are repeated, concurrent, slow or late.

use anyhow::{Context as _, bail, ensure};
use concert_runtime::log;
use concert_runtime::nats::HeaderMap;
use concert_wire::id::FlowId;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::conform::call::Call;
use crate::conform::journal::Step;
use crate::conform::report::{Checked, ok};
use crate::conform::world::World;

/// Number of concurrent actions.
const IN_FLIGHT: usize = 8;
/// Longer than the ack deadline, in milliseconds.
const SLOW_MS: u64 = 4000;
/// Attempts until a slow action is delivered once.
const SLOW_ATTEMPTS: usize = 3;
/// A flow of the year 2023.
const OLD_FLOW: &str = "01857000-0000-7000-8000-000000000000";

pub(super) async fn standing_completion(world: &World) -> Checked {
    let call = Call::add("standing", "a");
    let body = json!({ "input": { "name": "standing", "entry": "a" }, "output": { "entry": "b" } });
    let body = body.to_string().into_bytes().into();
    log::publish_once(&world.bus, call.completion(), HeaderMap::new(), body).await?;
    world.invoke(&call).await?;
    let tap = &world.worker.tap;
    tap.nth(1, Step::Ack, call.id).await?;
    let reply = tap.nth(1, Step::Reply, call.id).await?;
    ensure!(reply.body == br#"{"entry":"b"}"#, "the caller gets another output");
    ensure!(tap.count(Step::Completion, call.id) == 0, "the action is completed again");
    world.expect_entries("standing", &[]).await?;
    ok("no write; the caller gets the output of the log")
}

pub(super) async fn late_refusal(world: &World) -> Checked {
    let claim = |owner| Call::root("claim", &json!({ "name": "late refusal", "owner": owner }));
    let (first, second) = (claim("a"), claim("b"));
    let claimed = world.run(&first).await?;
    ensure!(claimed == json!({ "owner": "a" }), "the output is {claimed}");
    let refused = world.run(&second).await?;
    ensure!(refused.get("error").is_some(), "the second claim is not refused: {refused}");
    world.worker.tap.nth(1, Step::Ack, second.id).await?;
    world.run(&Call::root("release", &json!({ "name": "late refusal" }))).await?;
    // Now the claim would succeed.
    world.invoke(&second).await?;
    world.worker.tap.nth(2, Step::Ack, second.id).await?;
    let rows = world.rows("_owner", &json!({ "name": "late refusal" })).await?;
    ensure!(rows == json!([]), "the refused claim took effect: {rows}");
    ok("a refused action that is delivered again stays refused")
}

pub(super) async fn first_edit_again(world: &World) -> Checked {
    let put = |value| Call::root("put", &json!({ "name": "edit", "value": value }));
    let (first, second) = (put("a"), put("b"));
    for call in [&first, &second] {
        world.run(call).await?;
        world.worker.tap.nth(1, Step::Ack, call.id).await?;
    }
    world.forget(&first).await?;
    let again = world.run(&first).await?;
    ensure!(again == json!({ "value": "a" }), "the first edit now has the output {again}");
    let rows = world.rows("_value", &json!({ "name": "edit" })).await?;
    ensure!(rows == json!([{ "value": "b" }]), "the later edit is lost: {rows}");
    ok("the first edit has its first output, and the later one stays")
}

pub(super) async fn redelivery_without_completion(world: &World) -> Checked {
    let call = Call::add("again", "a");
    let first = world.run(&call).await?;
    world.worker.tap.nth(1, Step::Ack, call.id).await?;
    world.forget(&call).await?;
    let again = world.run(&call).await?;
    ensure!(again == first, "the outputs {first} and {again} differ");
    world.expect_entries("again", &["a"]).await?;
    ok("one write, and the same output")
}

pub(super) async fn two_at_once(world: &World) -> Checked {
    let call = Call::add("two at once", "a");
    let tap = &world.worker.tap;
    tap.discard(Step::Extension, call.id);
    let mut first = tap.hold(Step::Completion, call.id);
    world.invoke(&call).await?;
    first.reached().await?;
    // The first delivery has written. The second one completes.
    let output = world.output(&call).await?;
    ensure!(output == json!({ "entry": "a" }), "the output is {output}");
    first.release();
    tap.nth(2, Step::CompletionResult, call.id).await?;
    tap.nth(1, Step::Ack, call.id).await?;
    world.expect_entries("two at once", &["a"]).await?;
    let letters = world.letters(&call).await?;
    let reason = letters.first().map(|letter| letter.reason().to_owned()).unwrap_or_default();
    ensure!(letters.is_empty(), "it is dead-lettered: {reason}");
    ok("one write, and one completion")
}

pub(super) async fn several_in_flight(world: &World) -> Checked {
    let name = |number: usize| format!("in flight {number}");
    let calls: Vec<Call> = (0..IN_FLIGHT).map(|number| Call::add(&name(number), "a")).collect();
    let tap = &world.worker.tap;
    let mut held: Vec<_> = calls.iter().map(|call| tap.hold(Step::Completion, call.id)).collect();
    try_join_all(calls.iter().map(|call| world.invoke(call))).await?;
    let reached = try_join_all(held.iter_mut().map(|held| held.reached()));
    reached.await.context("the actions do not run concurrently")?;
    for held in held {
        held.release();
    }
    try_join_all(calls.iter().map(|call| world.output(call))).await?;
    ok(format!("{IN_FLIGHT} actions run concurrently"))
}

/// A machine that is busy for a second delays an extension, too. So the action may be delivered again
/// in some of the attempts; without extensions, it is in each.
pub(super) async fn slow_handler(world: &World) -> Checked {
    let tap = &world.worker.tap;
    let mut deliveries = 0;
    for attempt in 1..=SLOW_ATTEMPTS {
        let name = format!("slow {attempt}");
        let input = json!({ "name": name, "entry": "a", "milliseconds": SLOW_MS });
        let call = Call::root("wait", &input);
        world.run(&call).await?;
        tap.nth(1, Step::Ack, call.id).await?;
        world.expect_entries(&name, &["a"]).await?;
        deliveries = tap.count(Step::Delivery, call.id);
        if deliveries == 1 {
            let extensions = tap.count(Step::Extension, call.id);
            return ok(format!("{extensions} extensions in {SLOW_MS} ms, one delivery"));
        }
    }
    bail!("the action was delivered {deliveries} times, in each of {SLOW_ATTEMPTS} attempts")
}

pub(super) async fn old_flow(world: &World) -> Checked {
    let flow: FlowId = OLD_FLOW.parse()?;
    let call = Call::in_flow(flow, "add", &json!({ "name": "old flow", "entry": "a" }));
    world.invoke(&call).await?;
    let reason = world.dead(&call).await?;
    world.worker.tap.nth(1, Step::Termination, call.id).await?;
    world.expect_entries("old flow", &[]).await?;
    ok(format!("a dead letter: {reason}"))
}
