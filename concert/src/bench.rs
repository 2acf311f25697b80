//! `concert bench`: what this machine does, beside what it could do at best.
//!
//! Absolute figures do not travel between machines, so each is printed as a ratio to a floor that was measured in the same run: raw argon2id hashes on the same processors,
//! and bare chains of JetStream messages of the same length, for a login with its hash.

mod floor;
mod http;
mod load;
mod observability;
mod overload;
mod process;
mod report;
mod scenario;
mod stack;
mod timing;

use std::time::Duration;

use clap::Args;
use concert_profile::{HashArgs, HashPool};
use concert_sync_router::RulesArgs;

use crate::say;

use self::floor::Course;
use self::report::Report;
use self::scenario::Kind;
use self::scenario::Scenarios;
use self::stack::BenchStack;

/// Arguments of `concert bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// How long each run takes, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Requests in flight.
    #[arg(long, default_values_t = [1, 16, 64], value_delimiter = ',', value_name = "N")]
    pub(crate) in_flight: Vec<usize>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) only: Vec<Kind>,
    /// Measures memory over so many logouts instead.
    #[arg(long, value_name = "FLOWS")]
    pub(crate) soak: Option<u64>,
    /// As `concert up` has it.
    #[arg(long, default_value = "1s", value_name = "INTERVAL")]
    pub(crate) sync_interval: String,
    /// As `concert up` has it.
    #[arg(long)]
    pub(crate) isolate_parts: bool,
    /// As `concert up` has it.
    #[arg(long)]
    pub(crate) no_archive: bool,
    /// Prints JSON, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// Runs every scenario at every number of requests in flight, and prints the report.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(args.seconds);
    let progress = |text: &str| {
        if !args.json {
            say::progress(text);
        }
    };
    progress("starting a stack of its own");
    let stack = BenchStack::start(&args).await?;
    let outcome = measure(&args, &stack, seconds, progress).await;
    stack.stop().await;
    let report = outcome?;
    say::line(if args.json { report.to_json() } else { report.to_text() });
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
        tokio::task::spawn_blocking(move || concert_profile::raw_hashes_per_second(seconds)).await?;
    for in_flight in args.in_flight.iter().copied() {
        progress(&format!("bare chain of messages, {in_flight} in flight"));
        let chain = async |course: &Course| {
            floor::chain(course, &args.sync_interval, stack.nats_server(), in_flight, seconds).await
        };
        report.chains.push(chain(&Course::Logout).await?);
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| args.only.is_empty() || args.only.contains(kind))
        {
            if kind == Kind::Login {
                progress(&format!("bare chain of a login and its hash, {in_flight} in flight"));
                let hashes = HashPool::start(&HashArgs::default())?;
                report.login_chains.push(chain(&Course::Login(hashes)).await?);
            }
            progress(&format!("{}, {in_flight} in flight", kind.name()));
            report
                .results
                .push(scenarios.run(stack, kind, in_flight, seconds).await?);
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
