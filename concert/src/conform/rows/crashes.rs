//! Workers that are killed, stopped and drained.

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::conform::call::Call;
use crate::conform::journal::Step;
use crate::conform::report::{Checked, ok};
use crate::conform::world::World;

/// Kills the worker at a step of an action that adds an entry, starts it again, and checks that the
/// entry exists once.
async fn killed_at(world: &World, step: Step, name: &str) -> anyhow::Result<()> {
    let call = Call::add(name, "a");
    let tap = &world.worker.tap;
    let mut held = tap.hold(step, call.id);
    world.invoke(&call).await?;
    let reached = held.reached().await;
    let (replies, acks) = (tap.count(Step::Reply, call.id), tap.count(Step::Ack, call.id));
    world.worker.kill().await;
    world.restart().await?;
    reached?;
    let output = world.output(&call).await?;
    ensure!(output == json!({ "entry": "a" }), "the output is {output}");
    tap.nth(acks + 1, Step::Ack, call.id).await?;
    ensure!(tap.count(Step::Reply, call.id) > replies, "the caller gets no output");
    world.expect_entries(name, &["a"]).await?;
    let letters = world.letters(&call).await?;
    ensure!(letters.is_empty(), "the action is dead-lettered");
    Ok(())
}

pub(super) async fn before_the_write(world: &World) -> Checked {
    killed_at(world, Step::Lookup, "killed before the write").await?;
    ok("executed by the next delivery")
}

pub(super) async fn after_the_write(world: &World) -> Checked {
    killed_at(world, Step::Completion, "killed after the write").await?;
    ok("one write; the next delivery completes it")
}

pub(super) async fn after_the_completion(world: &World) -> Checked {
    killed_at(world, Step::CompletionResult, "killed after the completion").await?;
    ok("one write; the next delivery replies and acknowledges")
}

pub(super) async fn before_the_ack(world: &World) -> Checked {
    killed_at(world, Step::Ack, "killed before the ack").await?;
    ok("one write; the next delivery acknowledges")
}

pub(super) async fn stopped_past_the_lease(world: &World) -> Checked {
    let call = Call::add("stopped", "a");
    let (stopped, second) = (&world.worker, world.second().await?);
    // The worker has asked whether it may write, and does not get the response yet.
    let mut lookup = stopped.tap.hold(Step::LookupResult, call.id);
    world.invoke(&call).await?;
    lookup.reached().await?;
    stopped.signal(Signal::STOP).await;
    let checked = async {
        second.start(&world.bus).await?;
        world.output(&call).await?;
        second.tap.nth(1, Step::Ack, call.id).await?;
        anyhow::Ok(())
    };
    let checked = checked.await;
    second.kill().await;
    lookup.release();
    stopped.signal(Signal::CONT).await;
    checked.context("the second worker")?;
    // Only the stopped worker runs, so it has continued when these actions are completed. One is
    // too few: it can overtake the stopped action.
    for entry in ["b", "c", "d", "e"] {
        world.run(&Call::add("stopped", entry)).await?;
    }
    for step in [Step::Completion, Step::Reply, Step::Ack, Step::Retry, Step::Termination] {
        let sent = stopped.tap.count(step, call.id);
        ensure!(sent == 0, "the stopped worker continued with the step {step:?}");
    }
    world.expect_entries("stopped", &["a", "b", "c", "d", "e"]).await?;
    ok("another worker completes the action; the stopped one sends nothing")
}

pub(super) async fn poison(world: &World) -> Checked {
    let poison = Call::root("crash", &json!({ "name": "poison" }));
    let input = json!({ "name": "not poison", "entry": "a", "milliseconds": 300 });
    let other = Call::root("wait", &input);
    // Both are in flight when the process exits.
    let mut held = world.worker.tap.hold(Step::Completion, other.id);
    world.invoke(&other).await?;
    held.reached().await?;
    world.invoke(&poison).await?;
    let reason = world.restarting(3, world.dead(&poison)).await?;
    world.output(&other).await.context("an action that ran at the same time")?;
    world.expect_entries("not poison", &["a"]).await?;
    ok(reason)
}

pub(super) async fn drain(world: &World) -> Checked {
    let input = json!({ "name": "drain", "entry": "a", "milliseconds": 1500 });
    let call = Call::root("wait", &input);
    world.invoke(&call).await?;
    world.worker.tap.nth(1, Step::Delivery, call.id).await?;
    world.worker.signal(Signal::TERM).await;
    let exited = world.worker.exited().await;
    let deliveries = world.worker.tap.count(Step::Delivery, call.id);
    let acks = world.worker.tap.count(Step::Ack, call.id);
    world.worker.kill().await;
    world.restart().await?;
    exited?;
    ensure!((deliveries, acks) == (1, 1), "the action was not finished before the exit");
    world.expect_entries("drain", &["a"]).await?;
    ok("the action in progress is finished before the exit")
}
