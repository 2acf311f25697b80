//! The rows of the table, and the order in which they are checked.

mod crashes;
mod deliveries;
mod outcomes;
mod queries;
mod servers;
mod values;

use futures_util::future::{BoxFuture, join_all};

use super::report::{Checked, Report, Row, Seen, Verdict};
use super::world::World;

/// A rule of the protocol.
struct Rule {
    name: &'static str,
    check: for<'a> fn(&'a World) -> BoxFuture<'a, Checked>,
}

macro_rules! rules {
    ($($name:literal $module:ident::$check:ident;)*) => {
        &[$(Rule { name: $name, check: |world| Box::pin($module::$check(world)) }),*]
    };
}

/// Rules that are checked at once, in the order of the table.
const SHARED: &[Rule] = rules! {
    "announcement" queries::announcement;
    "happy path" outcomes::happy_path;
    "injected action" outcomes::injected;
    "refusal" outcomes::refusal;
    "fault" outcomes::fault;
    "bad output" outcomes::bad_output;
    "unknown action" outcomes::unknown_action;
    "bad input" outcomes::bad_input;
    "retry" outcomes::retry;
    "exhaustion" outcomes::exhaustion;
    "deadline without effects" outcomes::deadline_without_effects;
    "deadline with effects" outcomes::deadline_with_effects;
    "standing completion" deliveries::standing_completion;
    "late refusal" deliveries::late_refusal;
    "edit, later edit, first edit" deliveries::first_edit_again;
    "redelivery without completion" deliveries::redelivery_without_completion;
    "two deliveries at once" deliveries::two_at_once;
    "several deliveries in flight" deliveries::several_in_flight;
    "slow handler" deliveries::slow_handler;
    "flow older than the log" deliveries::old_flow;
    "secrets" values::secrets;
    "large values" values::large_values;
    "query" queries::query;
    "query cardinality" queries::cardinality;
    "batched queries" queries::batch;
};

/// Rules that kill or stop the worker or a server; they follow, one after the other.
const ALONE: &[Rule] = rules! {
    "key rotation" values::key_rotation;
    "kill before the write" crashes::before_the_write;
    "kill after the write" crashes::after_the_write;
    "kill after the completion" crashes::after_the_completion;
    "kill before the ack" crashes::before_the_ack;
    "SIGSTOP past the lease" crashes::stopped_past_the_lease;
    "poison" crashes::poison;
    "drain" crashes::drain;
    "unreadable headers" servers::unreadable_headers;
    "server restart" servers::restart;
    "database restart" servers::database_restart;
    "closed account" servers::closed_account;
};

/// Checks the rules whose names contain one of the texts, or all of them.
pub(super) async fn run(world: &World, only: &[String]) -> Report {
    let mut rows = join_all(SHARED.iter().map(|rule| row(rule, world, only))).await;
    for rule in ALONE {
        rows.push(row(rule, world, only).await);
    }
    Report::new(rows)
}

async fn row(rule: &Rule, world: &World, only: &[String]) -> Row {
    let is_selected = only.is_empty() || only.iter().any(|text| rule.name.contains(text));
    let (result, seen) = match is_selected {
        false => (Verdict::NotTried, "not selected".to_owned()),
        true => match (rule.check)(world).await {
            Ok(Seen(result, seen)) => (result, seen),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        },
    };
    Row { row: rule.name, result, seen }
}
