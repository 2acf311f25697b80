//! The command line of a Concert application: `up`, the services, and the tools for authors and
//! operators.

mod access;
mod account;
mod bench;
#[cfg(feature = "built-in")]
pub mod built_in;
mod check;
mod cli;
pub mod config;
mod conform;
mod dead;
mod describe;
mod explain;
mod flow;
mod fmt;
mod generate;
mod graph;
mod keys;
mod migrate;
mod operator;
mod output;
mod ready;
mod rotation;
mod running;
mod scaffold;
mod services;
mod setup;
mod up;
mod workers;

use std::process::ExitCode;

use clap::Parser as _;
use concert_runtime::process;
use concert_wire::access::User;

use crate::cli::{Cli, Command};
use crate::config::{SettingFlags, Settings, Uses};
use crate::services::archive::ArchiveCommand;

pub use concert_worker::Worker;

pub use crate::running::Started;

/// Runs the command that the process arguments name, with these workers compiled in.
///
/// If the handlers of a worker do not match its spec, every command fails.
pub fn main(workers: impl IntoIterator<Item = Worker>) -> ExitCode {
    let workers: Vec<Worker> = workers.into_iter().collect();
    let cli = Cli::parse_from(cli::with_command(std::env::args_os()));
    let started = workers::check(&workers).and_then(|()| Ok(tokio::runtime::Runtime::new()?));
    match started {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli.command, &workers));
            // All work that must finish has finished. A DNS lookup in progress must not keep the
            // process alive.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command, workers: &[Worker]) -> ExitCode {
    let result = match command {
        Command::Up(args) => Box::pin(up::run(*args, workers)).await,
        Command::Dev(args) => Box::pin(up::dev(*args, workers)).await,
        Command::HttpEdge(flags) => {
            return service(&flags, workers, &User::Edge, services::http_edge::run).await;
        }
        Command::SyncRouter(flags) => {
            return service(&flags, workers, &User::Router, services::sync_router::run).await;
        }
        Command::Archive(args) => match &args.command {
            None => {
                let archive = &User::Archive;
                return service(&args.settings, workers, archive, services::archive::run).await;
            }
            Some(ArchiveCommand::Forget { texts }) => {
                Box::pin(services::archive::forget(&args.settings, workers, texts)).await
            }
        },
        Command::Worker(args) => match worker_and_user(workers, &args.concept) {
            Ok((worker, user)) => {
                let run = |settings| services::worker::run(worker, settings);
                let workers = std::slice::from_ref(worker);
                return service(&args.settings, workers, &user, run).await;
            }
            Err(unknown) => Err(unknown),
        },
        Command::Config(args) => config::run(&args, workers),
        Command::New(args) => scaffold::new(&args),
        Command::Add(args) => scaffold::add(&args, workers),
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args, workers),
        Command::Conform(args) => Box::pin(conform::run(args)).await,
        Command::Explain(args) => explain::run(&args, workers),
        Command::Describe(args) => describe::run(&args, workers),
        Command::Gen(args) => generate::run(&args, workers),
        Command::Graph(args) => graph::run(&args, workers),
        Command::Setup(args) => Box::pin(setup::run(args, workers)).await,
        Command::Keys(args) => Box::pin(keys::run(args, workers)).await,
        Command::Ready(args) => ready::run(args).await,
        Command::Account(args) => Box::pin(account::run(args)).await,
        Command::Migrate(args) => Box::pin(migrate::run(*args, workers)).await,
        Command::Dead(args) => Box::pin(dead::run(args)).await,
        Command::Flow(args) => Box::pin(flow::flow(args)).await,
        Command::Flows(args) => Box::pin(flow::flows(args)).await,
        Command::Tail(args) => Box::pin(flow::tail(args)).await,
        Command::WhyNot(args) => Box::pin(flow::why_not(args)).await,
        Command::Completions(args) => cli::completions(args.shell),
        Command::Fmt(args) => fmt::run(&args, workers),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn worker_and_user<'a>(workers: &'a [Worker], concept: &str) -> anyhow::Result<(&'a Worker, User)> {
    let worker = workers::named(workers, concept)?;
    Ok((worker, User::Worker(worker.concept().parse()?)))
}

/// Runs a service, which logs the reason if it fails. Without a configured NATS server, it joins the
/// `concert up` that runs, as `user`.
async fn service<C: Uses, F: Future<Output = anyhow::Result<()>>>(
    flags: &SettingFlags<C>,
    workers: &[Worker],
    user: &User,
    run: impl FnOnce(Settings) -> F,
) -> ExitCode {
    match flags.load(workers) {
        Ok(mut loaded) => {
            let lines = loaded.settings.telemetry.lines();
            let course = async {
                loaded.warn();
                running::join(&mut loaded, user)?;
                Box::pin(run(loaded.settings)).await
            };
            process::run(&lines, course).await
        }
        Err(problems) => {
            output::print_error(&problems.into());
            ExitCode::FAILURE
        }
    }
}
