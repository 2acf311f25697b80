//! The benchmark: the performance of Concert on this machine, compared with the best possible.
//!
//! Absolute numbers do not compare across machines. Each is therefore also printed as a ratio to a
//! baseline of the same run: raw argon2id hashes on the same processors, and chains of the same
//! JetStream messages, with the hash for a login.

mod args;
mod baseline;
mod http;
mod kind;
mod large;
mod load;
mod measurement;
mod observability;
mod overload;
mod peer;
mod process;
mod processes;
mod report;
mod scenario;
mod stack;
mod timing;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use concert_profile::{HashPool, Settings};

use crate::args::BenchArgs;
use crate::baseline::Course;
use crate::kind::Kind;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::scenario::Scenarios;
use crate::stack::{BenchStack, Extras};

/// Subcommands of `concert` that this program runs.
const SERVICES: [&str; 4] = ["up", "sync-router", "http-edge", "worker"];

fn main() -> ExitCode {
    // `BenchStack` starts this program again as the system under load.
    if std::env::args_os().nth(1).is_some_and(|first| SERVICES.iter().any(|name| first == *name)) {
        return concert::main(concert::built_in::workers());
    }
    let args = BenchArgs::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
    match runtime.and_then(|runtime| runtime.block_on(Box::pin(run(args)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = concert_runtime::process::error_chain(error.as_ref());
            drop(writeln!(std::io::stderr(), "error: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs every scenario at every number of concurrent requests, and prints the report.
async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(args.seconds);
    let progress = |text: &str| {
        if !args.json {
            drop(writeln!(std::io::stderr(), "  {text}"));
        }
    };
    progress("starting a separate stack");
    let stack = BenchStack::start(&args).await?;
    let second = match args.has_second_stack() {
        true => Some(BenchStack::start_with(&args, &Extras::versus(&args)).await?),
        false => None,
    };
    let outcome = measure(&args, &stack, second.as_ref(), seconds, progress).await;
    stack.stop().await;
    if let Some(second) = second {
        second.stop().await;
    }
    let report = outcome?;
    let (json, markdown) = (report.to_json()?, report.to_markdown());
    // Printed first, so that a directory that cannot be written does not lose the report.
    writeln!(std::io::stdout(), "{}", if args.json { &json } else { &markdown })?;
    if let Some(dir) = &args.output {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("bench.json"), &json)?;
        std::fs::write(dir.join("bench.md"), &markdown)?;
    }
    Ok(())
}

async fn measure(
    args: &BenchArgs,
    stack: &BenchStack,
    second: Option<&BenchStack>,
    seconds: Duration,
    progress: impl Fn(&str),
) -> anyhow::Result<Report> {
    let mut report = Report::new(args);
    let scenarios = Scenarios::prepare(stack).await?;
    if let Some(flows) = args.soak {
        report.soak = scenarios.soak(stack, flows, &progress).await?;
        return Ok(report);
    }
    progress("raw argon2id");
    report.hashes_per_second =
        tokio::task::spawn_blocking(move || concert_profile::raw_hashes_per_second(seconds))
            .await?;
    let mut stacks = vec![(false, stack)];
    if let Some(second) = second {
        Scenarios::prepare(second).await?;
        stacks.push((true, second));
    }
    for number in 1..=args.rounds {
        progress(&format!("round {number} of {}", args.rounds));
        let server = stack.nats_server();
        report.rounds.push(round(args, &scenarios, &stacks, server, seconds, &progress).await?);
        // The stacks take turns at being first.
        stacks.reverse();
    }
    if args.only.is_empty() {
        progress("logout of a live session during 16 concurrent logins");
        report.beside_logins = Some(scenarios.beside_logins(stack, seconds).await?);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Overload) {
        progress("more logins than the processors can serve");
        report.overload = Some(scenarios.overload(stack, seconds).await?);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Timing) {
        progress("failed logins with unknown usernames and with wrong passwords");
        report.timing = Some(timing::run(stack.address(), seconds).await?);
    }
    report.processes = stack.processes();
    if args.only.is_empty() || args.only.contains(&Kind::Large) {
        progress("large values, on a separate stack");
        report.large = Some(large::run(args, seconds, &progress).await?);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Observability) {
        progress("with and without archive, traces and metrics");
        report.observability = observability::run(args, seconds).await?;
    }
    Ok(report)
}

/// Runs the chains and the chosen scenarios once at each number of concurrent requests. `server` is
/// the program of the NATS server of the chains.
async fn round(
    args: &BenchArgs,
    scenarios: &Scenarios,
    stacks: &[(bool, &BenchStack)],
    server: &Path,
    seconds: Duration,
    progress: &impl Fn(&str),
) -> anyhow::Result<Vec<Measurement>> {
    let is_chosen = |kind: &Kind| args.only.is_empty() || args.only.contains(kind);
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(is_chosen).collect();
    let mut measured = Vec::new();
    if kinds.is_empty() {
        return Ok(measured);
    }
    for in_flight in args.in_flight.iter().copied() {
        let mut courses = vec![Course::Logout, Course::ShortLogout];
        if kinds.contains(&Kind::Login) {
            courses.push(Course::Login(HashPool::start(&Settings::default())?));
        }
        for course in courses {
            progress(&format!("{}, {in_flight} in flight", course.name()));
            let sync = &args.sync_interval;
            measured.push(baseline::chain(&course, sync, server, in_flight, seconds).await?);
        }
        for kind in &kinds {
            progress(&format!("{}, {in_flight} in flight", kind.name()));
            for (is_second, stack) in stacks {
                let run = scenarios.run(stack, *kind, in_flight, seconds).await?;
                measured.push(Measurement { is_second: *is_second, ..run });
            }
        }
        for peer in &args.peer {
            progress(&format!("{}, {in_flight} in flight", peer.name));
            measured.push(peer.run(in_flight, seconds).await?);
        }
    }
    // The same order in each round.
    measured.sort_by_cached_key(|run| (run.in_flight, run.name.clone(), run.is_second));
    Ok(measured)
}
