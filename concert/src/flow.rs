//! `concert flow`, `flows`, `tail` and `why-not`: queries about flows, answered by the archive.

mod large;
mod lines;
mod tree;

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
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

use self::large::Expiries;
use self::lines::Paint;
use crate::operator::OperatorArgs;
use crate::output;

/// Timeout of a query.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of all commands that query the archive.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Print JSON, one row per line, as described in `docs/provenance.md`
    #[arg(long)]
    json: bool,
}

/// Arguments of `concert flow`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FlowArgs {
    /// ID of the flow, as in the response header `Concert-Flow`
    #[arg(value_name = "FLOW")]
    flow: FlowId,
    /// Print only one value, whole: an action, a key of its input or output, and the keys below it,
    /// such as `Library.createDocument.epubContent`
    #[arg(long, value_name = "PATH", conflicts_with = "json")]
    value: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
}

/// Arguments of `concert why-not`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WhyNotArgs {
    /// ID of the flow
    #[arg(value_name = "FLOW")]
    flow: FlowId,
    /// Name of the rule
    #[arg(value_name = "SYNC")]
    sync: String,
    #[command(flatten)]
    query: QueryArgs,
}

/// Filters for flows.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FlowFilter {
    /// Only requests to this path
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only flows with an action of this concept
    #[arg(long, value_name = "NAME")]
    concept: Option<String>,
    /// Only flows with these outcomes: succeeded, failed, fault, open, dead
    #[arg(
        long,
        value_name = "OUTCOME",
        value_delimiter = ',',
        value_parser = outcome,
        conflicts_with = "failed"
    )]
    outcome: Vec<Outcome>,
    /// Only flows that failed, ended in a fault, or have dead-lettered actions
    #[arg(long)]
    failed: bool,
    /// Only flows that contain this text in their ID, path, root, status, error or trace, or in a
    /// rule that fired; upper and lower case are equal
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// Arguments of `concert flows`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    filter: FlowFilter,
    /// Only flows with this action: `delete`, or `Sessioning.delete`
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// Only flows that started within this time, such as 10m or 2days
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Only flows that started more than this time ago
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    until: Option<Duration>,
    /// Maximum number of flows
    #[arg(
        long,
        default_value_t = 50,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=500)
    )]
    limit: u16,
    #[command(flatten)]
    query: QueryArgs,
}

/// Arguments of `concert tail`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    filter: FlowFilter,
    #[command(flatten)]
    query: QueryArgs,
}

fn outcome(word: &str) -> Result<Outcome, String> {
    serde_json::from_value(Value::from(word))
        .map_err(|_| "one of succeeded, failed, fault, open, dead".to_owned())
}

impl FlowFilter {
    fn outcomes(&self) -> Vec<Outcome> {
        if self.failed {
            vec![Outcome::Failed, Outcome::Fault, Outcome::Dead]
        } else {
            self.outcome.clone()
        }
    }

    fn filter(&self) -> Object {
        let mut filter = Object::new();
        let named = [("path", &self.path), ("concept", &self.concept), ("text", &self.text)];
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

    /// Returns whether a row matches the filters.
    fn matches(&self, row: &Summary) -> bool {
        let outcomes = self.outcomes();
        self.path.as_ref().is_none_or(|path| row.path.as_ref() == Some(path))
            && self.concept.as_ref().is_none_or(|concept| row.concepts.contains(concept))
            && (outcomes.is_empty() || outcomes.contains(&row.outcome))
            && self.text.as_ref().is_none_or(|text| row.searched().contains(&text.to_lowercase()))
    }
}

impl QueryArgs {
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
        let answer = service::ask(&bus, (RESERVED_CONCEPT, query), None, input, TIMEOUT).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(NoAnswer::Refused { why, .. }) => bail!("{why}"),
            Err(error @ (NoAnswer::Unreachable(_) | NoAnswer::TimedOut(_))) => {
                return Err(error).context(
                    "no archive is running; `concert up` starts one, and so does `concert archive`",
                );
            }
            Err(error) => return Err(error.into()),
        };
        let rows: Rows<T> = serde_json::from_value(Value::Object(answer.body))
            .context("the archive runs another version of concert; use that version")?;
        Ok(rows.rows)
    }

    fn print<T: serde::Serialize>(
        &self,
        rows: &[T],
        text: impl FnOnce(Paint) -> String,
    ) -> anyhow::Result<()> {
        if !self.json {
            let paint = Paint(terminal::shows_colours(&std::io::stdout()));
            return Ok(output::print_text(&text(paint))?);
        }
        for row in rows {
            output::print_text(&format!("{}\n", serde_json::to_string(row)?))?;
        }
        Ok(())
    }
}

fn not_found(flow: FlowId) -> anyhow::Error {
    anyhow!(
        "flow {flow} not found in the log or the archive; it has expired, or its ID is incomplete"
    )
}

/// Prints a flow as a tree.
pub(crate) async fn flow(args: FlowArgs) -> anyhow::Result<()> {
    let input = Object::from_iter([("flow".to_owned(), Value::from(args.flow.to_string()))]);
    let rows: Vec<Flow> = args.query.rows("_flow", &input).await?;
    let Some(flow) = rows.first() else {
        return Err(not_found(args.flow));
    };
    if args.value.is_none() && args.query.json {
        return args.query.print(&rows, |_| String::new());
    }
    let bus = args.query.connect().await?;
    if let Some(path) = &args.value {
        return Ok(output::print_text(&large::read(flow, path, &bus).await?)?);
    }
    let expiries = Expiries::of(flow, &bus).await?;
    args.query.print(&rows, |paint| tree::of(flow, &expiries, paint))
}

/// Prints why a rule did not fire.
pub(crate) async fn why_not(args: WhyNotArgs) -> anyhow::Result<()> {
    let input = Object::from_iter([
        ("flow".to_owned(), Value::from(args.flow.to_string())),
        ("sync".to_owned(), Value::from(args.sync.as_str())),
    ]);
    let rows: Vec<WhyNot> = args.query.rows("_whyNot", &input).await?;
    let Some(row) = rows.first() else {
        return Err(not_found(args.flow));
    };
    args.query.print(&rows, |_| format!("{}\n", lines::clean(&row.text)))
}

/// Lists flows.
pub(crate) async fn flows(args: FlowsArgs) -> anyhow::Result<()> {
    let mut input = args.filter.filter();
    if let Some(action) = &args.action {
        input.insert("action".to_owned(), Value::from(action.as_str()));
    }
    let ago = |time: Duration| {
        (clock::now_ms() * 1000).saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    };
    for (name, time) in [("since_us", args.since), ("until_us", args.until)] {
        if let Some(time) = time {
            input.insert(name.to_owned(), Value::from(ago(time)));
        }
    }
    input.insert("limit".to_owned(), Value::from(args.limit));
    let rows: Vec<Summary> = args.query.rows("_flows", &input).await?;
    args.query.print(&rows, |paint| {
        if rows.is_empty() {
            "no flows\n".to_owned()
        } else {
            lines::HEADING.to_owned()
                + &rows.iter().rev().map(|row| lines::row(row, paint)).collect::<String>()
        }
    })
}

/// Prints flows as they happen, until it is stopped.
pub(crate) async fn tail(args: TailArgs) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Notice {
        flows: Vec<Summary>,
        left_out: usize,
    }
    let bus = args.query.connect().await?;
    let mut notices = bus.client.subscribe(concert_wire::subject::FLOWS_NOTICE).await?;
    args.query.print::<Summary>(&[], |_| lines::HEADING.to_owned())?;
    while let Some(notice) = notices.next().await {
        let notice: Notice = serde_json::from_slice(&notice.payload)
            .context("the archive runs another version of concert; use that version")?;
        if notice.left_out > 0 {
            output::print_progress(&format!("{} flows are not shown", notice.left_out));
        }
        for row in notice.flows.iter().rev().filter(|row| args.filter.matches(row)) {
            args.query.print(std::slice::from_ref(row), |paint| lines::row(row, paint))?;
        }
    }
    bail!("the connection to NATS was closed; run the command again")
}
