//! `concert-chaos`: runs the whole system under load and faults, and checks it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use concert_chaos::fault::Fault;
use concert_chaos::{Options, Report, build, disk, run};

/// Exit code if the only fault of a run is not possible here.
const NOT_TRIED: u8 = 2;

/// The guards that can be disabled.
const GUARDS: [&str; 6] = [
    "stamp",
    "expected-sequence",
    "worker-acks-first",
    "router-acks-first",
    "archive-acks-first",
    "look",
];

/// Run the whole system under load and faults, and check it. Exits 1 if there are violations; with
/// `--sabotage`, exits 1 if there are none
#[derive(Debug, Parser)]
struct Args {
    /// Duration of load and faults
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
    /// Requests per second
    #[arg(long, default_value_t = 50, value_name = "N")]
    rate: u32,
    /// Interval between faults
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    fault_every: f64,
    /// Seed of the random choices; random by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only kill processes at named points
    #[arg(long)]
    points_only: bool,
    /// Only inject this fault
    #[arg(long, value_name = "FAULT", conflicts_with = "points_only")]
    only: Option<Fault>,
    /// Use three NATS nodes, streams with three replicas, and a replica set of three; kill and
    /// isolate nodes
    #[arg(long)]
    three: bool,
    /// Encrypt all connections between processes
    #[arg(long, conflicts_with = "three")]
    tls: bool,
    /// Start mongod with authentication, and give each concept its own user
    #[arg(long, conflicts_with_all = ["three", "beside"])]
    mongodb_users: bool,
    /// Disable this guard; the checker must then find violations
    #[arg(long, value_name = "GUARD", value_parser = GUARDS)]
    sabotage: Option<String>,
    /// Run one router, one archive and the workers with this `concert` of an earlier release, as in
    /// an upgrade. It has no kill points
    #[arg(long, value_name = "PROGRAM", requires = "rules")]
    beside: Option<PathBuf>,
    /// Directory with `concepts` and `syncs`, such as those of an earlier release; by default those
    /// of this repository
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Directory of logs and results
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // This must come before any other code of this process.
    let disks = if args.three { Ok(()) } else { disk::enter() };
    tokio::runtime::Runtime::new()?.block_on(chaos(args, disks))
}

async fn chaos(args: Args, disks: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let programs = build::programs().await?;
    let dir = args.dir.unwrap_or_else(|| {
        programs.with_file_name("chaos").join(format!("{seed}-{}", std::process::id()))
    });
    // The process under test runs in the new namespace.
    let dir = std::path::absolute(dir)?;
    let options = Options {
        seed,
        time: Duration::from_secs(args.seconds),
        rate: args.rate,
        fault_every: Duration::try_from_secs_f64(args.fault_every)?,
        three: args.three,
        tls: args.tls,
        mongodb_users: args.mongodb_users,
        small_disks: disks.is_ok() && !args.three,
        only: args.points_only.then_some(Fault::KillAtPoint).or(args.only),
        sabotage: args.sabotage.clone(),
        beside: args.beside,
        rules: args.rules.map(std::path::absolute).transpose()?,
        programs,
        dir,
    };
    eprintln!("seed {seed}; results in {}", options.dir.display());
    let report = tokio::select! {
        report = run(&options) => report?,
        stopped = asked_to_stop() => {
            stopped?;
            eprintln!("stopped");
            return Ok(ExitCode::from(130));
        }
    };
    tell(&report);
    let not_tried = disks.err().map(|error| error.to_string()).or(report.no_small_disks.clone());
    let not_tried = not_tried.filter(|_| options.only.is_none_or(Fault::is_of_disks));
    if let Some(why) = &not_tried {
        eprintln!("NOT TESTED: a full disk, because {why}");
    }
    if not_tried.is_some() && options.only.is_some() {
        return Ok(ExitCode::from(NOT_TRIED));
    }
    let expected = args.sabotage.is_some();
    let found = !report.violations.is_empty();
    Ok(if found == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for SIGINT or SIGTERM. Dropping the run stops all processes by process id.
async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

fn tell(report: &Report) {
    let [injected, doubled, repeated, malformed, foreign] = report.by_hand;
    let [median, most_of, longest] = report.took_ms;
    let requests: u32 = report.statuses.values().sum();
    eprintln!("requests: {requests}, by status {:?}", report.statuses);
    eprintln!("response times: {median} ms (median), {most_of} ms (99 %), {longest} ms (maximum)");
    eprintln!("faults: {} {:?}", report.faults.values().sum::<u32>(), report.faults);
    eprintln!("kills at points: {} {:?}", report.hits.values().sum::<u32>(), report.hits);
    eprintln!(
        "messages: {injected} injected, {doubled} doubled, {repeated} repeated, {malformed} malformed, \
         {foreign} foreign"
    );
    let sums = &report.sums;
    eprintln!(
        "log: {} messages in {} flows, {} of them complete in the archive; dead letters {:?}; \
         idle after {:.1} s; {} tokens tried",
        sums.logged, sums.flows, sums.archived, sums.dead, sums.rest_s, sums.tokens
    );
    eprintln!("violations: {}", report.violations.len());
}
