//! The benchmark: what Concert does on this machine, and what the machine could do at best.
//!
//! Absolute figures do not travel between machines, so each is printed as a ratio to a floor that
//! was measured in the same run: raw argon2id hashes on the same processors, and bare chains of
//! JetStream messages of the same length, for a login with its hash.

mod args;
mod figures;
mod floor;
mod http;
mod kind;
mod load;
mod observability;
mod overload;
mod process;
mod report;
mod scenario;
mod stack;
mod timing;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use concert_profile::{HashPool, Settings};

use crate::args::BenchArgs;
use crate::floor::Course;
use crate::kind::Kind;
use crate::report::Report;
use crate::scenario::Scenarios;
use crate::stack::BenchStack;

fn main() -> ExitCode {
    // `BenchStack` starts this program again, as the stack under load.
    if std::env::args_os().nth(1).is_some_and(|first| first == "up") {
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

/// Runs every scenario at every number of requests in flight, and prints the report.
async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(args.seconds);
    let progress = |text: &str| {
        if !args.json {
            drop(writeln!(std::io::stderr(), "  {text}"));
        }
    };
    progress("starting a stack of its own");
    let stack = BenchStack::start(&args).await?;
    let outcome = measure(&args, &stack, seconds, progress).await;
    stack.stop().await;
    let report = outcome?;
    let text = if args.json { report.to_json() } else { report.to_text() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

async fn measure(
    args: &BenchArgs,
    stack: &BenchStack,
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
    for in_flight in args.in_flight.iter().copied() {
        progress(&format!("bare chain of messages, {in_flight} in flight"));
        let chain = async |course: &Course| {
            floor::chain(course, &args.sync_interval, stack.nats_server(), in_flight, seconds).await
        };
        report.chains.push(chain(&Course::Logout).await?);
        for kind in
            Kind::ALL.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind))
        {
            if kind == Kind::Login {
                progress(&format!("bare chain of a login and its hash, {in_flight} in flight"));
                let hashes = HashPool::start(&Settings::default())?;
                report.login_chains.push(chain(&Course::Login(hashes)).await?);
            }
            progress(&format!("{}, {in_flight} in flight", kind.name()));
            report.results.push(scenarios.run(stack, kind, in_flight, seconds).await?);
        }
    }
    if args.only.is_empty() {
        progress("logout of a live session beside 16 busy logins");
        report.beside_logins = Some(scenarios.beside_logins(stack, seconds).await?);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Overload) {
        progress("more logins than there are processors for");
        report.overload = Some(scenarios.overload(stack, seconds).await?);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Timing) {
        progress("logins that fail, under names that nobody has and others");
        report.timing = Some(timing::run(stack.address(), seconds).await?);
    }
    report.processes = stack.processes();
    if args.only.is_empty() || args.only.contains(&Kind::Observability) {
        progress("with archive, traces and metrics, and without");
        report.observability = observability::run(args, seconds).await?;
    }
    Ok(report)
}
