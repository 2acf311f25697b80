//! Queries, and what the worker announces.

use anyhow::{Context as _, ensure};
use concert_runtime::clock;
use concert_runtime::service::NoAnswer;
use concert_wire::subject::QUERY_BATCH;
use serde_json::{Value, json};

use crate::conform::call::{CONCEPT, Call};
use crate::conform::report::{Checked, Seen, Verdict, ok};
use crate::conform::world::{World, spec};

/// What the worker's micro service says about itself.
async fn discovered(world: &World, verb: &str) -> anyhow::Result<Value> {
    let subject = format!("$SRV.{verb}.{CONCEPT}");
    let response = world.bus.client.request(subject, "".into()).await?;
    Ok(serde_json::from_slice(&response.payload)?)
}

pub(super) async fn announcement(world: &World) -> Checked {
    let ping = discovered(world, "PING").await?;
    let metadata = ping.get("metadata").context("the service has no metadata")?;
    let expected = [("concert-protocol", "1".to_owned()), ("concert-spec", spec()?.hash())];
    for (key, value) in expected {
        let found = metadata.get(key);
        ensure!(found == Some(&json!(value)), "{key} is {found:?} instead of `{value}`");
    }
    let limit = metadata.get("concert-timeout-ms").and_then(Value::as_str);
    let limit = limit.and_then(|limit| limit.parse::<u64>().ok());
    let limit = limit.context("concert-timeout-ms is not a number")?;
    ok(format!("version 1, the hash of the spec, a timeout of {limit} ms"))
}

/// The error code of a query.
async fn code_of(world: &World, query: &str, input: &Value) -> anyhow::Result<String> {
    match world.ask(query, None, input).await {
        Err(NoAnswer::Refused { code, .. }) => Ok(code),
        Err(error) => Err(error.into()),
        Ok(answer) => Ok(Value::Object(answer.body).to_string()),
    }
}

pub(super) async fn query(world: &World) -> Checked {
    world.run(&Call::add("query", "a")).await?;
    world.run(&Call::add("query", "b")).await?;
    world.expect_entries("query", &["a", "b"]).await?;
    world.expect_entries("no such name", &[]).await?;
    let code = code_of(world, "_entries", &json!({ "name": 5 })).await?;
    ensure!(code == "400", "input that does not match the spec gives {code}");
    ok("rows of the state; the error 400 for bad input")
}

pub(super) async fn cardinality(world: &World) -> Checked {
    let rows = world.rows("_rows", &json!({ "count": 1 })).await?;
    ensure!(rows.as_array().is_some_and(|rows| rows.len() == 1), "the rows are {rows}");
    let code = code_of(world, "_rows", &json!({ "count": 2 })).await?;
    ensure!(code == "500", "two rows where the spec allows one give {code}");
    ok("the error 500 for two rows where the spec allows one")
}

pub(super) async fn batch(world: &World) -> Checked {
    let info = discovered(world, "INFO").await?;
    let endpoints = info.get("endpoints").and_then(Value::as_array).context("no endpoints")?;
    let is_batch = |of: &Value| of.get("name") == Some(&json!(QUERY_BATCH));
    if !endpoints.iter().any(is_batch) {
        return Ok(Seen(Verdict::NotTried, "optional; the worker offers none".to_owned()));
    }
    world.run(&Call::add("batch", "a")).await?;
    let names = json!([{ "name": "batch" }, { "name": "no such name" }, { "name": "batch" }]);
    let input = json!({ "query": "_entries", "inputs": names });
    let answer = world.ask(QUERY_BATCH, Some(clock::new_flow()), &input).await?;
    let found = answer.body.get("results").context("the response has no results")?;
    let row = json!([{ "entry": "a" }]);
    ensure!(*found == json!([row, [], row]), "the results are {found}");
    ok("results in the order of the inputs")
}
