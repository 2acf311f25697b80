//! `concert flow`, `flows`, `tail` and `why-not`: what happened, asked of the archive.

mod lines;
mod tree;

use std::time::Duration;

use anyhow::{Context as _, bail};
use concert_engine::provenance::{Flow, Outcome, Summary, WhyNot};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::service::{self, NoAnswer};
use concert_runtime::terminal;
use concert_wire::RESERVED_CONCEPT;
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::lines::Paint;
use crate::operator::OperatorArgs;
use crate::say;

/// How long the archive may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to ask, and how to tell.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Prints JSON, one row on a line, as `docs/provenance.md` has it.
    #[arg(long)]
    json: bool,
}

/// Arguments of `concert flow`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FlowArgs {
    /// The flow, as the header `Concert-Flow` of an answer names it.
    #[arg(value_name = "FLOW")]
    flow: FlowId,
    #[command(flatten)]
    ask: AskArgs,
}

/// Arguments of `concert why-not`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WhyNotArgs {
    /// The flow.
    #[arg(value_name = "FLOW")]
    flow: FlowId,
    /// The rule.
    #[arg(value_name = "SYNC")]
    sync: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which flows.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Only requests of this path.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only flows with an action of this concept.
    #[arg(long, value_name = "NAME")]
    concept: Option<String>,
    /// Only flows with this action: `delete`, or `Sessioning.delete`.
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// Only flows of these outcomes: succeeded, failed, fault, open, dead.
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = outcome, conflicts_with = "failed")]
    outcome: Vec<Outcome>,
    /// Only flows that failed, ended in a fault or were given up.
    #[arg(long)]
    failed: bool,
    /// Only flows with this somewhere in their id, path, root, status, error or trace, or in a rule
    /// that fired; large letters or small.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// Arguments of `concert flows`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    which: Which,
    /// Only flows that began within this time, such as 10m or 2days.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Only flows that began before this time ago.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    until: Option<Duration>,
    /// So many at most.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    ask: AskArgs,
}

/// Arguments of `concert tail`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    ask: AskArgs,
}

fn outcome(word: &str) -> Result<Outcome, String> {
    serde_json::from_value(Value::from(word))
        .map_err(|_| "one of succeeded, failed, fault, open, dead".to_owned())
}

impl Which {
    fn outcomes(&self) -> Vec<Outcome> {
        if self.failed {
            vec![Outcome::Failed, Outcome::Fault, Outcome::Dead]
        } else {
            self.outcome.clone()
        }
    }

    fn filter(&self) -> Object {
        let mut filter = Object::new();
        let named = [
            ("path", &self.path),
            ("concept", &self.concept),
            ("action", &self.action),
            ("text", &self.text),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                filter.insert(name.to_owned(), Value::from(value.as_str()));
            }
        }
        let outcomes = self.outcomes();
        if !outcomes.is_empty() {
            filter.insert("outcome".to_owned(), json!(outcomes));
        }
        filter
    }

    /// Whether a row is meant, as far as a row tells: it does not name its actions.
    fn means(&self, row: &Summary) -> bool {
        let outcomes = self.outcomes();
        self.path.as_ref().is_none_or(|path| row.path.as_ref() == Some(path))
            && self.concept.as_ref().is_none_or(|concept| row.concepts.contains(concept))
            && (outcomes.is_empty() || outcomes.contains(&row.outcome))
            && self.text.as_ref().is_none_or(|text| row.searched().contains(&text.to_lowercase()))
    }
}

impl AskArgs {
    async fn connect(&self) -> anyhow::Result<Bus> {
        self.operator.connect("concert-flow").await
    }

    async fn rows<T: DeserializeOwned>(
        &self,
        query: &str,
        input: &Object,
    ) -> anyhow::Result<Vec<T>> {
        #[derive(Deserialize)]
        struct Rows<T> {
            rows: Vec<T>,
        }
        let bus = self.connect().await?;
        let answer = service::ask(&bus, (RESERVED_CONCEPT, query), None, input, PATIENCE).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(NoAnswer::Refused { why, .. }) => bail!("{why}"),
            Err(error @ (NoAnswer::Unreachable(_) | NoAnswer::TimedOut(_))) => {
                return Err(error)
                    .context("no archive answers; `concert up` starts one, and so does `archive`");
            }
            Err(error) => return Err(error.into()),
        };
        let rows: Rows<T> = serde_json::from_value(Value::Object(answer.body))
            .context("the archive is of another version")?;
        Ok(rows.rows)
    }

    fn print<T: serde::Serialize>(
        &self,
        rows: &[T],
        told: impl FnOnce(Paint) -> String,
    ) -> anyhow::Result<()> {
        if !self.json {
            let paint = Paint(terminal::shows_colours(&std::io::stdout()));
            return Ok(say::text(&told(paint))?);
        }
        for row in rows {
            say::text(&format!("{}\n", serde_json::to_string(row)?))?;
        }
        Ok(())
    }
}

/// Tells a flow as a tree.
pub(crate) async fn flow(args: FlowArgs) -> anyhow::Result<()> {
    let input = Object::from_iter([("flow".to_owned(), Value::from(args.flow.to_string()))]);
    let rows: Vec<Flow> = args.ask.rows("_flow", &input).await?;
    let Some(flow) = rows.first() else {
        bail!("there is no flow {}: neither the log nor the archive has its root", args.flow);
    };
    args.ask.print(&rows, |paint| tree::of(flow, paint))
}

/// Tells why a rule did not fire.
pub(crate) async fn why_not(args: WhyNotArgs) -> anyhow::Result<()> {
    let input = Object::from_iter([
        ("flow".to_owned(), Value::from(args.flow.to_string())),
        ("sync".to_owned(), Value::from(args.sync.as_str())),
    ]);
    let rows: Vec<WhyNot> = args.ask.rows("_whyNot", &input).await?;
    let Some(told) = rows.first() else {
        bail!("there is no flow {}: neither the log nor the archive has its root", args.flow);
    };
    args.ask.print(&rows, |_| format!("{}\n", lines::clean(&told.text)))
}

/// Lists flows.
pub(crate) async fn flows(args: FlowsArgs) -> anyhow::Result<()> {
    let mut input = args.which.filter();
    let ago = |time: Duration| {
        (clock::now_ms() * 1000).saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    };
    for (name, time) in [("since_us", args.since), ("until_us", args.until)] {
        if let Some(time) = time {
            input.insert(name.to_owned(), Value::from(ago(time)));
        }
    }
    input.insert("limit".to_owned(), Value::from(args.limit));
    let rows: Vec<Summary> = args.ask.rows("_flows", &input).await?;
    args.ask.print(&rows, |paint| {
        if rows.is_empty() {
            "no flows\n".to_owned()
        } else {
            lines::HEADING.to_owned()
                + &rows.iter().rev().map(|row| lines::row(row, paint)).collect::<String>()
        }
    })
}

/// Lists flows as they happen, until it is stopped.
pub(crate) async fn tail(args: TailArgs) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Notice {
        flows: Vec<Summary>,
        left_out: usize,
    }
    if args.which.action.is_some() {
        bail!(
            "`concert tail` hears of flows, not of their actions; `concert flows --action` finds those"
        );
    }
    let bus = args.ask.connect().await?;
    let mut notices = bus.client.subscribe(concert_wire::subject::FLOWS_NOTICE).await?;
    args.ask.print::<Summary>(&[], |_| lines::HEADING.to_owned())?;
    while let Some(notice) = notices.next().await {
        let notice: Notice =
            serde_json::from_slice(&notice.payload).context("the archive is of another version")?;
        if notice.left_out > 0 {
            say::progress(&format!("{} flows are not shown", notice.left_out));
        }
        for row in notice.flows.iter().rev().filter(|row| args.which.means(row)) {
            args.ask.print(std::slice::from_ref(row), |paint| lines::row(row, paint))?;
        }
    }
    bail!("the connection ended")
}
