//! Which dead letters are meant.

use std::time::Duration;

use anyhow::{Context as _, bail};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::dead::{self, StoredDeadLetter};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::{ActionName, ConceptName};

/// Letters with something in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Only of this concept.
    #[arg(long, value_name = "NAME")]
    concept: Option<ConceptName>,
    /// Only of this action.
    #[arg(long, value_name = "NAME")]
    action: Option<ActionName>,
    /// Only of this flow.
    #[arg(long, value_name = "ID")]
    flow: Option<FlowId>,
    /// Only those whose reason has this text in it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those that are younger, such as 10m or 2days.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
}

/// Letters by name, or with something in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Selection {
    /// The numbers of letters, or the ids of their actions.
    #[arg(value_name = "LETTER", conflicts_with = "all", required_unless_present = "all")]
    letters: Vec<String>,
    /// All of them, or all that the filters leave.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Filter {
    /// Takes every letter that is meant, the oldest first.
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
            let is_meant = letter.stored_at_ms >= since_ms
                && self.flow.is_none_or(|flow| letter.flow() == Some(flow))
                && self.reason.as_ref().is_none_or(|text| letter.reason().contains(text));
            if is_meant {
                take(letter);
            }
        })
        .await?;
        Ok(())
    }
}

impl Selection {
    /// The letters that are meant.
    pub(crate) async fn letters(&self, bus: &Bus) -> anyhow::Result<Vec<StoredDeadLetter>> {
        let mut found = Vec::new();
        if self.all {
            self.filter.each(bus, |letter| found.push(letter)).await?;
        }
        for named in &self.letters {
            found.push(one(bus, named).await?);
        }
        Ok(found)
    }
}

/// The letter of this number, or the last one of the action with this id.
pub(crate) async fn one(bus: &Bus, named: &str) -> anyhow::Result<StoredDeadLetter> {
    let found = if let Ok(seq) = named.parse() {
        dead::find(bus, seq).await?
    } else if let Ok(id) = named.parse::<ActionId>() {
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
            "`{named}` is neither the number of a letter nor the id of an action; `concert dead list` names both"
        );
    };
    found.with_context(|| format!("there is no dead letter `{named}`"))
}
