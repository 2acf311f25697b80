//! The commands and their flags.

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::account::AccountArgs;
use crate::bench::BenchArgs;
use crate::check::CheckArgs;
use crate::config::{ConfigArgs, SettingFlags, of};
use crate::conform::ConformArgs;
use crate::dead::DeadArgs;
use crate::describe::DescribeArgs;
use crate::explain::ExplainArgs;
use crate::flow::{FlowArgs, FlowsArgs, TailArgs, WhyNotArgs};
use crate::fmt::FmtArgs;
use crate::generate::GenArgs;
use crate::graph::GraphArgs;
use crate::keys::KeysArgs;
use crate::migrate::MigrateArgs;
use crate::ready::ReadyArgs;
use crate::scaffold::{AddArgs, NewArgs};
use crate::services::archive::ArchiveServiceArgs;
use crate::services::worker::WorkerServiceArgs;
use crate::setup::SetupArgs;
use crate::up::{DevArgs, UpArgs};

/// Runtime for concepts and synchronization rules on NATS JetStream and MongoDB
#[derive(Debug, Parser)]
#[command(name = "concert", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start NATS, MongoDB, the edge, the router, the workers, the archive and the console (the
    /// default command)
    Up(Box<UpArgs>),
    /// Like `up`, and reload changed rules, specs, settings and sources of workers
    Dev(Box<DevArgs>),
    /// Create an application: a concept with a worker, its rules, and a test
    New(NewArgs),
    /// Add a concept to the application in the current directory
    Add(AddArgs),
    /// Run the HTTP edge
    HttpEdge(Box<SettingFlags<of::HttpEdge>>),
    /// Run the router, which evaluates the rules
    SyncRouter(Box<SettingFlags<of::SyncRouter>>),
    /// Run the worker of one concept
    Worker(Box<WorkerServiceArgs>),
    /// Run the archive, which stores flows and answers queries about them, or delete flows from it
    Archive(Box<ArchiveServiceArgs>),
    /// Print the command that replaces `concert bench`
    #[command(hide = true)]
    Bench(BenchArgs),
    /// Show the configuration and where it comes from
    Config(Box<ConfigArgs>),
    /// Explain how a request to a path is handled, outcome by outcome
    Explain(ExplainArgs),
    /// Print the HTTP API as OpenAPI, or the message bus as AsyncAPI
    Describe(DescribeArgs),
    /// Write the types of a concept's worker, for TypeScript or Python
    Gen(GenArgs),
    /// Print the graph of actions and rules
    Graph(GraphArgs),
    /// Check specs and rules, and report all errors
    Check(CheckArgs),
    /// Check that a worker program follows the worker protocol, on servers of its own
    Conform(ConformArgs),
    /// Create missing keys, NATS accounts and streams, and the MongoDB replica set; not needed with
    /// `concert up`
    Setup(SetupArgs),
    /// List and rotate keys without downtime
    Keys(KeysArgs),
    /// Exit 0 if a worker, an edge, or both are ready; for health checks
    Ready(ReadyArgs),
    /// List, show, retry and delete dead letters
    Dead(DeadArgs),
    /// Disable or enable an account, or end its sessions
    Account(AccountArgs),
    /// Import the accounts and the data of another system
    Migrate(Box<MigrateArgs>),
    /// Show a flow as a tree: actions, rules, timings and near misses
    Flow(FlowArgs),
    /// List flows, newest last
    Flows(FlowsArgs),
    /// Stream flows as they happen
    Tail(TailArgs),
    /// Show why a rule did not fire in a flow
    WhyNot(WhyNotArgs),
    /// Generate shell completions
    Completions(CompletionsArgs),
    /// Format rule files (`*.sync`); leaves specs (`*.concept`) unchanged
    Fmt(FmtArgs),
}

/// Adds `up` to arguments that name no command: `concert --listen …` is `concert up --listen …`.
///
/// `up` is not flattened into [`Cli`]: every command would then read its variables, and an invalid
/// one would make all of them fail.
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
    /// Shell to generate completions for
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the completions of all commands.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "concert", &mut text);
    Ok(crate::output::print_text(&String::from_utf8(text)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_the_default_command() {
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

    /// Adds the help of a command and of its subcommands.
    fn add_help(page: &mut String, command: &mut clap::Command, name: &str) {
        let help = command.render_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        *page += &format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
        let shown =
            |command: &&mut clap::Command| !command.is_hide_set() && command.get_name() != "help";
        for command in command.get_subcommands_mut().filter(shown) {
            let name = format!("{name} {}", command.get_name());
            add_help(page, command, &name);
        }
    }

    /// `CONCERT_BLESS=1` updates the page.
    #[test]
    fn commands_page_matches_help() -> std::io::Result<()> {
        let mut cli = Cli::command().term_width(96);
        cli.build();
        let mut page = include_str!("cli/commands.txt").to_owned();
        add_help(&mut page, &mut cli, "concert");
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
        if std::env::var_os("CONCERT_BLESS").is_some() {
            std::fs::write(file, &page)?;
        }
        let is_current = std::fs::read_to_string(file)? == page;
        assert!(is_current, "docs/commands.md is outdated; CONCERT_BLESS=1 updates it");
        Ok(())
    }

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
