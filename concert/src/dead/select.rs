//! Selects dead letters by filter, number or action id.

use std::time::Duration;

use anyhow::{Context as _, bail};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::dead::{self, StoredDeadLetter};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::{ActionName, ConceptName};

/// Filters for dead letters.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Only dead letters of this concept
    #[arg(long, value_name = "NAME")]
    concept: Option<ConceptName>,
    /// Only dead letters of this action
    #[arg(long, value_name = "NAME")]
    action: Option<ActionName>,
    /// Only dead letters of this flow
    #[arg(long, value_name = "ID")]
    flow: Option<FlowId>,
    /// Only dead letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only dead letters newer than this, such as 10m or 2days
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
}

/// Dead letters by number, action id or filter.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Selection {
    /// Numbers of dead letters, or IDs of their actions
    #[arg(value_name = "LETTER", conflicts_with = "all", required_unless_present = "all")]
    letters: Vec<String>,
    /// All dead letters that match the filters
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Filter {
    /// Passes every matching dead letter to `take`, oldest first.
    pub(crate) async fn each(
        &self,
        bus: &Bus,
        mut take: impl FnMut(StoredDeadLetter),
    ) -> anyhow::Result<()> {
        let token = |name: Option<&str>| name.unwrap_or("*").to_owned();
        let concept = token(self.concept.as_ref().map(ConceptName::as_str));
        let action = token(self.action.as_ref().map(ActionName::as_str));
        let since_ms = self.since.map_or(0, |since| {
            clock::now_ms().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        });
        dead::each(bus, format!("dead.{concept}.{action}"), |letter| {
            let matches = letter.stored_at_ms >= since_ms
                && self.flow.is_none_or(|flow| letter.flow() == Some(flow))
                && self.reason.as_ref().is_none_or(|text| letter.reason().contains(text));
            if matches {
                take(letter);
            }
        })
        .await?;
        Ok(())
    }
}

impl Selection {
    /// The selected dead letters.
    pub(crate) async fn letters(&self, bus: &Bus) -> anyhow::Result<Vec<StoredDeadLetter>> {
        let mut found = Vec::new();
        if self.all {
            self.filter.each(bus, |letter| found.push(letter)).await?;
        }
        for selector in &self.letters {
            found.push(one(bus, selector).await?);
        }
        Ok(found)
    }
}

/// The dead letter with this number, or the newest one of the action with this id.
pub(crate) async fn one(bus: &Bus, selector: &str) -> anyhow::Result<StoredDeadLetter> {
    let found = if let Ok(seq) = selector.parse() {
        dead::find(bus, seq).await?
    } else if let Ok(id) = selector.parse::<ActionId>() {
        let mut found = None;
        dead::each(bus, "dead.>".to_owned(), |letter| {
            if letter.action_id() == Some(id) {
                found = Some(letter);
            }
        })
        .await?;
        found
    } else {
        bail!(
            "`{selector}` is neither the number of a dead letter nor the ID of an action; \
             `concert dead list` prints both"
        );
    };
    found.with_context(|| {
        format!("dead letter `{selector}` not found; `concert dead list` prints the existing ones")
    })
}
