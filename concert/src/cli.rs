//! The commands and their flags.

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::check::CheckArgs;
use crate::config::{ConfigArgs, SettingFlags, of};
use crate::dead::DeadArgs;
use crate::describe::DescribeArgs;
use crate::explain::ExplainArgs;
use crate::flow::{FlowArgs, FlowsArgs, TailArgs, WhyNotArgs};
use crate::fmt::FmtArgs;
use crate::graph::GraphArgs;
use crate::keys::KeysArgs;
use crate::ready::ReadyArgs;
use crate::services::worker::WorkerServiceArgs;
use crate::setup::SetupArgs;
use crate::up::UpArgs;

/// Runs concepts in concert: independent services, declarative rules, durable flows.
#[derive(Debug, Parser)]
#[command(name = "concert", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts everything: NATS, MongoDB, the edge, the router and the workers. This is what
    /// `concert` alone does.
    Up(Box<UpArgs>),
    /// Runs the edge: HTTP requests in, responses out.
    HttpEdge(Box<SettingFlags<of::HttpEdge>>),
    /// Runs the router: it applies the rules to completed actions.
    SyncRouter(Box<SettingFlags<of::SyncRouter>>),
    /// Runs the worker of one concept.
    Worker(Box<WorkerServiceArgs>),
    /// Runs the archive: it stores flows and answers queries about them.
    Archive(Box<SettingFlags<of::Archive>>),
    /// Says where the benchmark has moved to.
    #[command(hide = true)]
    Bench(BenchArgs),
    /// Show the configuration and where it comes from
    Config(Box<ConfigArgs>),
    /// Tells what happens to a request of a path, outcome by outcome.
    Explain(ExplainArgs),
    /// Describes the paths as OpenAPI, or the bus as AsyncAPI, on standard output.
    Describe(DescribeArgs),
    /// Draws which action leads to which through which rule, on standard output.
    Graph(GraphArgs),
    /// Tells every mistake in specs and rules, before they run.
    Check(CheckArgs),
    /// Makes what is missing: keys, the accounts of the NATS server, its streams, the replica set.
    /// For whoever does not use `concert up`.
    Setup(SetupArgs),
    /// Lists and changes keys while everything runs.
    Keys(KeysArgs),
    /// Ends with 0 when a worker, and an edge, answer. For health checks.
    Ready(ReadyArgs),
    /// Lists, shows, tries again and drops dead letters: messages that were given up.
    Dead(DeadArgs),
    /// Tells a flow as a tree: what happened, which rule caused it, how long it took, and which
    /// rules nearly fired.
    Flow(FlowArgs),
    /// Lists flows, the newest last.
    Flows(FlowsArgs),
    /// Lists flows as they happen.
    Tail(TailArgs),
    /// Tells the first thing that kept a rule from firing in a flow.
    WhyNot(WhyNotArgs),
    /// Prints completions for a shell.
    Completions(CompletionsArgs),
    /// Lays out files of rules (`*.sync`). Specs (`*.concept`) are left alone.
    Fmt(FmtArgs),
}

/// The arguments with `up` added where they name no command: `concert --listen …` is `concert up
/// --listen …`.
///
/// `up` is not flattened into [`Cli`]: its variables would then be read for every command, and a
/// bad one would stop all.
pub(crate) fn with_command(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let is_up = args.get(1).is_none_or(|first| {
        let first = first.to_string_lossy();
        first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&&*first)
    });
    if is_up {
        args.insert(args.len().min(1), "up".into());
    }
    args
}

/// Arguments of `concert completions`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the completions of all commands.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "concert", &mut text);
    Ok(crate::say::text(&String::from_utf8(text)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_the_command_where_none_is_named() {
        for (typed, run) in [
            ("concert", "concert up"),
            ("concert --listen :8000", "concert up --listen :8000"),
            ("concert up --listen :8000", "concert up --listen :8000"),
            ("concert worker profile", "concert worker profile"),
            ("concert --help", "concert --help"),
            ("concert -V", "concert -V"),
        ] {
            let with_command = with_command(typed.split(' ').map(OsString::from));
            assert_eq!(with_command, run.split(' ').collect::<Vec<_>>(), "{typed}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
