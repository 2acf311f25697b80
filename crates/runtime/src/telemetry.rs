//! Logging. Lines go to standard error, so that standard output stays free for what a command
//! prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::terminal;

/// How and what to log.
#[derive(Debug, Clone)]
pub struct LogArgs {
    /// What to log: a level, or directives such as `info,concert_sync_router=debug`.
    pub filter: String,
    /// The form of a log line.
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: one line each.
    Text,
    /// For people who look closely: several lines each, with every field and where in the code it
    /// comes from.
    Pretty,
    /// One JSON object a line, for machines.
    Json,
}

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log filter `{filter}` cannot be read: {source}")]
pub struct BadFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter cannot be read.
pub fn start(args: &LogArgs) -> Result<(), BadFilter> {
    let filter = EnvFilter::try_new(&args.filter)
        .map_err(|source| BadFilter { filter: args.filter.clone(), source })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(terminal::shows_colours(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let lines = match args.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Pretty => lines.pretty().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second start in one process (tests) keeps the first.
    let _already = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(shows_no_messages))
        .with(lines)
        .try_init();
    Ok(())
}

/// Whatever the filter says: below `info` the NATS client logs whole messages, and those typed by
/// hand hold secrets in clear.
fn shows_no_messages(line: &Metadata<'_>) -> bool {
    !line.target().starts_with("async_nats") || *line.level() <= Level::INFO
}
