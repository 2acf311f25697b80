//! One run, from its seed to its verdict.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::{self, Sums};
use crate::client::Load;
use crate::cluster::Cluster;
use crate::forge::Forger;
use crate::history::History;
use crate::nemesis::{Fault, Nemesis};

/// What a run is.
#[derive(Debug, Clone)]
pub struct Options {
    /// What chance follows from.
    pub seed: u64,
    /// For how long there are load and faults.
    pub time: Duration,
    /// Requests a second.
    pub rate: u32,
    /// The time from one fault to the next.
    pub fault_every: Duration,
    /// Three servers of each, instead of one.
    pub three: bool,
    /// All connections to the one server of each are encrypted.
    pub tls: bool,
    /// The servers' data on small disks, so that these can be full; it is said when that is not
    /// allowed.
    pub small_disks: bool,
    /// No fault but this.
    pub only: Option<Fault>,
    /// The guard that is taken away.
    pub sabotage: Option<String>,
    /// The programs, built with the feature `chaos`.
    pub programs: PathBuf,
    /// Where logs and findings go.
    pub dir: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What is wrong; empty when all is well.
    pub violations: Vec<String>,
    /// How many requests were answered with which status; 0 is no answer.
    pub statuses: BTreeMap<u16, u32>,
    /// How long answers of 2xx to 4xx took: median, 99 of 100, most.
    pub took_ms: [u128; 3],
    /// The faults.
    pub faults: BTreeMap<Fault, u32>,
    /// Kills at named points.
    pub hits: BTreeMap<String, u32>,
    /// What the log came to.
    pub sums: Sums,
    /// Why no disk was full, where it was asked for and not possible.
    pub no_small_disks: Option<String>,
    /// Sent by hand: injected, doubled, repeated, malformed, foreign.
    pub by_hand: [u64; 5],
}

/// How long clients may take to finish what they began.
const FINISH: Duration = Duration::from_secs(240);
/// Actions injected by hand, the time from one to the next.
const INJECT_EVERY: Duration = Duration::from_millis(500);
/// How long faults are begun after the first violation; it is not long, so that its traces are
/// fresh. What has begun goes on to its end.
const AFTER_VIOLATION: Duration = Duration::from_secs(5);

/// Runs it.
///
/// # Errors
/// The system does not start, or cannot be looked at. A violation is no error.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.dir)?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let cluster = Arc::new(Cluster::start(options).await?);
    let history = Arc::new(History::default());
    let forger = Arc::new(Forger::connect(&cluster.bus, history.clone()).await?);
    let load = Arc::new(Load::new(cluster.address, history.clone())?);
    let nemesis = Arc::new(Nemesis {
        cluster: cluster.clone(),
        forger: forger.clone(),
        history: history.clone(),
        done: Default::default(),
        told: Default::default(),
        stop: Default::default(),
    });

    let mut background = JoinSet::new();
    let (watched, seen) = (cluster.clone(), history.clone());
    background.spawn(async move { watched.supervise(&seen).await });
    let (paced, rate) = (load.clone(), options.rate);
    background.spawn(async move { pace(&paced, rate).await });
    let (by_hand, mut chance, stop) = (forger.clone(), rng.fork(), load.clone());
    background.spawn(async move {
        while !stop.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(INJECT_EVERY).await;
            // While NATS is away nothing is confirmed, and nothing is expected.
            if let Err(error) = by_hand.inject(&mut chance).await {
                drop(error);
            }
        }
    });
    let mut clients = JoinSet::new();
    for number in 1..=u64::from(options.rate) * 8 {
        clients.spawn(load.clone().client(number, rng.fork()));
    }

    let end = Instant::now() + options.time;
    let mut breaking = tokio::spawn({
        let (nemesis, every, only, chance) =
            (nemesis.clone(), options.fault_every, options.only, rng.fork());
        async move { nemesis.run(every, end, only, chance).await }
    });
    let broken = async {
        while history.violations().is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(AFTER_VIOLATION).await;
    };
    tokio::select! {
        ended = &mut breaking => ended?,
        () = broken => {
            // What has begun goes on to its end: a server that was killed is started again.
            nemesis.stop.store(true, Ordering::Relaxed);
            breaking.await?;
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    cluster.heal().await?;
    let finished = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH, finished).await.is_err() {
        history.violated("clients do not get to an end".to_owned());
    }
    cluster.ready().await?;
    let sums = checker::check(&cluster, &load, &forger).await?;
    background.shutdown().await;
    history.save(&options.dir.join("history.jsonl"))?;
    std::fs::write(options.dir.join("faults.txt"), nemesis.told.lock().await.join("\n"))?;
    let violations = history.violations();
    std::fs::write(options.dir.join("violations.txt"), violations.join("\n"))?;
    for log in cluster.server_logs().await {
        if let Some(name) = log.file_name() {
            std::fs::copy(&log, options.dir.join(name))?;
        }
    }
    let no_small_disks = match cluster.servers.lock().await.why_no_small_disks() {
        Some(why) if options.small_disks => Some(why.to_owned()),
        _ => None,
    };
    let sent = forger.sent.lock().await;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (statuses, took_ms) = sums_of(&history);
    Ok(Report {
        violations,
        statuses,
        took_ms,
        faults: nemesis.done.lock().await.clone(),
        hits: cluster.points.hits()?,
        sums,
        no_small_disks,
        by_hand: [
            count(sent.injected.len()),
            sent.doubled,
            sent.repeated,
            sent.malformed,
            count(sent.foreign.len()),
        ],
    })
}

/// Lets requests begin, so many a second; what could not begin is made up for within a second, and
/// no further.
async fn pace(load: &Load, rate: u32) {
    let most = usize::try_from(rate).unwrap_or(usize::MAX);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    loop {
        tick.tick().await;
        if load.room.available_permits() < most {
            load.room.add_permits(1);
        }
    }
}

fn sums_of(history: &History) -> (BTreeMap<u16, u32>, [u128; 3]) {
    let mut statuses = BTreeMap::new();
    let mut took: Vec<u128> = Vec::new();
    for request in history.requests() {
        *statuses.entry(request.status).or_default() += 1;
        if (200..500).contains(&request.status) {
            took.push(request.ended_ms.saturating_sub(request.began_ms));
        }
    }
    took.sort_unstable();
    let at = |percent: usize| {
        let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or(0)
    };
    (statuses, [at(50), at(99), at(100)])
}
