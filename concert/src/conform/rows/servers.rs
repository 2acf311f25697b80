//! The servers: restarts, access rights, and messages that a NATS client cannot read.

use anyhow::{Context as _, ensure};
use concert_runtime::log;
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::conform::call::Call;
use crate::conform::report::{Checked, ok};
use crate::conform::tap::TIMEOUT;
use crate::conform::world::{Outcome, World};

/// Header blocks that the server stores, and that some clients reject.
const UNREADABLE: [&[u8]; 3] = [
    b"NATS/1.0\r\nno header\r\n\r\n",
    b"NATS/1.0\r\nConcert-Flow: \xff\r\n\r\n",
    b"NATS/9.9\r\n\r\n",
];

pub(super) async fn restart(world: &World) -> Checked {
    world.restart_nats().await?;
    let call = Call::add("restart", "a");
    let (body, deadline) = (call.body.clone().into(), Instant::now() + TIMEOUT);
    log::publish_until(&world.bus, call.subject(), call.headers(), body, deadline).await?;
    world.output(&call).await?;
    world.expect_entries("restart", &["a"]).await?;
    ok("the worker reconnects, and continues")
}

pub(super) async fn database_restart(world: &World) -> Checked {
    world.restart_mongod().await?;
    world.run(&Call::add("database restart", "a")).await?;
    world.expect_entries("database restart", &["a"]).await?;
    ok("the worker reconnects, and continues")
}

pub(super) async fn unreadable_headers(world: &World) -> Checked {
    let calls: Vec<Call> =
        UNREADABLE.iter().map(|_| Call::root("echo", &json!({ "value": "a" }))).collect();
    for (call, headers) in calls.iter().zip(UNREADABLE) {
        let (subject, size) = (call.subject(), headers.len() + call.body.len());
        let mut frame = format!("HPUB {subject} {} {size}\r\n", headers.len()).into_bytes();
        frame.extend([headers, &call.body, b"\r\n"].concat());
        world.worker.tap.send(&frame).await?;
    }
    let next = Call::add("unreadable", "a");
    world.invoke(&next).await?;
    let outcomes = async {
        world.output(&next).await.context("the action after them")?;
        let outcomes = try_join_all(calls.iter().map(|call| world.outcome(call))).await;
        outcomes.context("an action with such headers")
    };
    let outcomes = world.restarting(UNREADABLE.len(), outcomes).await?;
    let dead = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Dead(_))).count();
    ok(format!("{dead} dead letters, {} completions; nothing is blocked", outcomes.len() - dead))
}

pub(super) async fn closed_account(world: &World) -> Checked {
    let errors = world.worker.tap.errors();
    let violation = errors.iter().find(|error| error.contains("Permissions Violation"));
    ensure!(violation.is_none(), "the server reports `{}`", violation.cloned().unwrap_or_default());
    ok("all requests are within the rights of the concept's own account")
}
