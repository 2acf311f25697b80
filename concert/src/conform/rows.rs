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
    /// `true` if it kills or stops the worker or a server.
    is_alone: bool,
    check: for<'a> fn(&'a World) -> BoxFuture<'a, Checked>,
}

macro_rules! rules {
    ($($name:literal $kind:ident $module:ident::$check:ident;)*) => {
        &[$(Rule {
            name: $name,
            is_alone: stringify!($kind).len() == "alone".len(),
            check: |world| Box::pin($module::$check(world)),
        }),*]
    };
}

/// All rules, in the order of the table. Those that are checked `alone` come last.
const RULES: &[Rule] = rules! {
    "announcement" shared queries::announcement;
    "happy path" shared outcomes::happy_path;
    "injected action" shared outcomes::injected;
    "refusal" shared outcomes::refusal;
    "fault" shared outcomes::fault;
    "bad output" shared outcomes::bad_output;
    "unknown action" shared outcomes::unknown_action;
    "bad input" shared outcomes::bad_input;
    "retry" shared outcomes::retry;
    "exhaustion" shared outcomes::exhaustion;
    "deadline without effects" shared outcomes::deadline_without_effects;
    "deadline with effects" shared outcomes::deadline_with_effects;
    "standing completion" shared deliveries::standing_completion;
    "late refusal" shared deliveries::late_refusal;
    "edit, later edit, first edit" shared deliveries::first_edit_again;
    "redelivery without completion" shared deliveries::redelivery_without_completion;
    "two deliveries at once" shared deliveries::two_at_once;
    "several deliveries in flight" shared deliveries::several_in_flight;
    "slow handler" shared deliveries::slow_handler;
    "flow older than the log" shared deliveries::old_flow;
    "secrets" shared values::secrets;
    "large values" shared values::large_values;
    "query" shared queries::query;
    "query cardinality" shared queries::cardinality;
    "batched queries" shared queries::batch;
    "key rotation" alone values::key_rotation;
    "kill before the write" alone crashes::before_the_write;
    "kill after the write" alone crashes::after_the_write;
    "kill after the completion" alone crashes::after_the_completion;
    "kill before the ack" alone crashes::before_the_ack;
    "SIGSTOP past the lease" alone crashes::stopped_past_the_lease;
    "poison" alone crashes::poison;
    "drain" alone crashes::drain;
    "unreadable headers" alone servers::unreadable_headers;
    "server restart" alone servers::restart;
    "database restart" alone servers::database_restart;
    "closed account" alone servers::closed_account;
};

/// Checks the rules whose names contain one of the texts, or all of them.
pub(super) async fn run(world: &World, only: &[String]) -> Report {
    let is_selected =
        |rule: &&Rule| only.is_empty() || only.iter().any(|text| rule.name.contains(text));
    let (alone, shared): (Vec<_>, Vec<_>) =
        RULES.iter().filter(is_selected).partition(|rule| rule.is_alone);
    let mut checked = join_all(shared.into_iter().map(|rule| check(rule, world))).await;
    for rule in alone {
        checked.push(check(rule, world).await);
    }
    let not_selected = |rule: &Rule| Row {
        row: rule.name,
        result: Verdict::NotTried,
        seen: "not selected".to_owned(),
    };
    let rows = RULES.iter().map(|rule| {
        let found = checked.iter().position(|row| row.row == rule.name);
        found.map_or_else(|| not_selected(rule), |found| checked.swap_remove(found))
    });
    Report::new(rows.collect())
}

async fn check(rule: &Rule, world: &World) -> Row {
    let (result, seen) = match (rule.check)(world).await {
        Ok(Seen(result, seen)) => (result, seen),
        Err(error) => (Verdict::Failed, format!("{error:#}")),
    };
    Row { row: rule.name, result, seen }
}
