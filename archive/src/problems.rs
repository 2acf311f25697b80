//! Current problems: dead letters, backlogs, and recently failed flows.

use concert_engine::provenance::Outcome;
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::dead;
use concert_runtime::streams::{self, Lag};
use concert_wire::subject::{ARCHIVES, LOG, ROUTERS, WORKERS, actions_stream};
use serde_json::{Value, json};

use crate::queries::{Refused, unavailable};
use crate::repository::Archive;
use crate::rule_cache::{RuleCache, RuleVersion};

/// Maximum number of dead letters in the row.
const SHOWN: usize = 50;
const HOUR_US: u64 = 3_600_000_000;

/// The row of the `_wrong` query.
pub(crate) async fn row(bus: &Bus, archive: &Archive, rules: &RuleCache) -> Result<Value, Refused> {
    let since = (clock::now_ms() * 1000).saturating_sub(HOUR_US);
    let (letters, dead_count) = letters(bus).await?;
    Ok(json!({
        "dead": letters,
        "dead_count": dead_count,
        "lag": lag(bus, rules).await,
        "failed_last_hour": archive.count(Outcome::Failed, since).await.map_err(unavailable)?,
        "faults_last_hour": archive.count(Outcome::Fault, since).await.map_err(unavailable)?,
    }))
}

/// The newest dead letters, and the total number.
async fn letters(bus: &Bus) -> Result<(Vec<Value>, u64), Refused> {
    let (first, last, count) = streams::dead_state(bus).await.map_err(unavailable)?;
    let mut shown = Vec::new();
    let mut seq = last;
    // Dropped and retried dead letters leave gaps.
    while seq >= first && seq > 0 && shown.len() < SHOWN && last - seq < 10 * SHOWN as u64 {
        if let Some(letter) = dead::find(bus, seq).await.map_err(unavailable)? {
            let (concept, name) = letter.name().split_once('.').unwrap_or((letter.name(), "_"));
            let attempts = letter.headers.get(concert_wire::header::ATTEMPTS);
            shown.push(json!({
                "number": letter.seq,
                "action": letter.action_id().map(|id| id.to_string()),
                "concept": concept,
                "name": name,
                "flow": letter.flow().map(|flow| flow.to_string()),
                "reason": letter.reason(),
                "at_us": letter.stored_at_ms * 1000,
                "attempts": attempts.and_then(|attempts| attempts.as_str().parse::<u64>().ok()),
            }));
        }
        seq -= 1;
    }
    Ok((shown, count))
}

/// Backlogs of all consumers that this process may read.
pub(crate) async fn lags(
    bus: &Bus,
    compiled: Option<&RuleVersion>,
) -> Vec<(String, &'static str, Lag)> {
    let mut consumers = vec![(LOG.to_owned(), ROUTERS), (LOG.to_owned(), ARCHIVES)];
    if let Some(compiled) = compiled {
        let names = compiled.rules.program().concepts.iter();
        let names = names.filter_map(|spec| spec.name.parse().ok());
        consumers.extend(names.map(|name| (actions_stream(&name), WORKERS)));
    }
    let mut lags = Vec::new();
    for (stream, consumer) in consumers {
        match streams::lag(bus, &stream, consumer).await {
            Ok(lag) => lags.push((stream, consumer, lag)),
            Err(error) => tracing::debug!(%error, stream, "cannot read the backlog of a consumer"),
        }
    }
    lags
}

async fn lag(bus: &Bus, rules: &RuleCache) -> Vec<Value> {
    let compiled = rules.latest().await.ok();
    let lags = lags(bus, compiled.as_deref()).await.into_iter();
    let rows = lags.map(|(stream, consumer, lag)| {
        json!({
            "stream": stream,
            "consumer": consumer,
            "pending": lag.pending,
            "ack_pending": lag.ack_pending,
            "redelivered": lag.redelivered,
        })
    });
    rows.collect()
}
