//! `concert`: the command line. Without a command it is `concert up`.

mod access;
mod bench;
mod check;
mod cli;
mod dead;
mod describe;
mod explain;
mod fmt;
mod graph;
mod keys;
mod ready;
mod say;
mod setup;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Up(Box::new(cli.up))) {
        Command::Up(args) => Box::pin(up::run(*args)).await,
        Command::Bench(args) => Box::pin(bench::run(args)).await,
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Setup(args) => setup::run(args).await,
        Command::Keys(args) => keys::run(args),
        Command::Ready(args) => ready::run(args).await,
        Command::Dead(args) => Box::pin(dead::run(args)).await,
        Command::Fmt(args) => fmt::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}
