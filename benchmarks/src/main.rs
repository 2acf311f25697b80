//! The benchmark: the performance of Concert on this machine, compared with the best possible.
//!
//! Absolute numbers do not compare across machines. Each is therefore also printed as a ratio to a
//! baseline of the same run: raw argon2id hashes on the same processors, and chains of the same
//! JetStream messages, with the hash for a login.

mod args;
mod baseline;
mod http;
mod kind;
mod load;
mod measurement;
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
use crate::baseline::Course;
use crate::kind::Kind;
use crate::report::Report;
use crate::scenario::Scenarios;
use crate::stack::BenchStack;

fn main() -> ExitCode {
    // `BenchStack` starts this program again as the system under load.
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
        progress(&format!("message-only chain, {in_flight} in flight"));
        let chain = async |course: &Course| {
            baseline::chain(course, &args.sync_interval, stack.nats_server(), in_flight, seconds)
                .await
        };
        report.chains.push(chain(&Course::Logout).await?);
        for kind in
            Kind::ALL.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind))
        {
            if kind == Kind::Login {
                progress(&format!(
                    "message-only chain of a login with its hash, {in_flight} in flight"
                ));
                let hashes = HashPool::start(&Settings::default())?;
                report.login_chains.push(chain(&Course::Login(hashes)).await?);
            }
            progress(&format!("{}, {in_flight} in flight", kind.name()));
            report.results.push(scenarios.run(stack, kind, in_flight, seconds).await?);
        }
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
    if args.only.is_empty() || args.only.contains(&Kind::Observability) {
        progress("with and without archive, traces and metrics");
        report.observability = observability::run(args, seconds).await?;
    }
    Ok(report)
}
