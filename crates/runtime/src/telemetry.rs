//! Logging. Lines go to standard error, so that standard output contains only a command's result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::terminal;

/// Filter and format of the log.
#[derive(Debug, Clone)]
pub struct LogArgs {
    /// Filter: a level, or directives such as `info,concert_sync_router=debug`.
    pub filter: String,
    /// Format of a log line.
    pub log_format: LogFormat,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One human-readable line per event.
    Text,
    /// Several human-readable lines per event, with all fields and the source location.
    Pretty,
    /// One JSON object per line, for machines.
    Json,
}

/// The filter is invalid.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log filter `{filter}` is invalid: {source}; use a level such as `info`, or directives \
     such as `info,concert_sync_router=debug`"
)]
pub struct BadFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter is invalid.
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
    // A second start in one process (in tests) keeps the first subscriber.
    let _already = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(shows_no_messages))
        .with(lines)
        .try_init();
    Ok(())
}

/// Suppresses the NATS client's events below `info` regardless of the filter: they contain whole
/// messages, and manually published messages contain secrets in clear text.
fn shows_no_messages(line: &Metadata<'_>) -> bool {
    !line.target().starts_with("async_nats") || *line.level() <= Level::INFO
}
