//! A run, from its seed to its verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bad_messages::BadMessageInjector;
use crate::checker::{self, Sums};
use crate::client::Load;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::history::History;
use crate::nemesis::Nemesis;
use crate::options::Options;

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The violations.
    pub violations: Vec<String>,
    /// The number of responses by status; 0 is no response.
    pub statuses: BTreeMap<u16, u32>,
    /// Response times of status 2xx to 4xx: median, 99th percentile and maximum.
    pub took_ms: [u128; 3],
    /// The faults.
    pub faults: BTreeMap<Fault, u32>,
    /// The hits of the kill points.
    pub hits: BTreeMap<String, u32>,
    /// Statistics of the log.
    pub sums: Sums,
    /// Reason why the disks could not be filled, if that was requested.
    pub no_small_disks: Option<String>,
    /// Injected messages: actions, duplicates, repeated, malformed and forged ones.
    pub by_hand: [u64; 5],
}

/// Maximum time for clients to finish their requests.
const FINISH: Duration = Duration::from_secs(240);
/// Interval between injected actions.
const INJECT_EVERY: Duration = Duration::from_millis(500);
/// Time for which faults continue after the first violation; short, so that its traces stay recent.
/// A fault that has begun runs to its end.
const AFTER_VIOLATION: Duration = Duration::from_secs(5);

/// Runs it.
///
/// # Errors
/// The system does not start, or cannot be inspected. A violation is not an error.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.dir)?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let cluster = Arc::new(Cluster::start(options).await?);
    let history = Arc::new(History::default());
    let injector = Arc::new(BadMessageInjector::connect(&cluster.bus, history.clone()).await?);
    let load = Arc::new(Load::new(cluster.address, history.clone())?);
    let nemesis = Arc::new(Nemesis {
        cluster: cluster.clone(),
        injector: injector.clone(),
        history: history.clone(),
        done: Default::default(),
        log_entries: Default::default(),
        stop: Default::default(),
    });

    let mut background = JoinSet::new();
    let (watched, seen) = (cluster.clone(), history.clone());
    background.spawn(async move { watched.supervise(&seen).await });
    let (paced, rate) = (load.clone(), options.rate);
    background.spawn(async move { pace(&paced, rate).await });
    let (by_hand, mut chance, stop) = (injector.clone(), rng.fork(), load.clone());
    background.spawn(async move {
        while !stop.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(INJECT_EVERY).await;
            // While NATS is down no publish is acknowledged, and none is expected.
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
            // A fault that has begun runs to its end, so that a killed server is restarted.
            nemesis.stop.store(true, Ordering::Relaxed);
            breaking.await?;
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    cluster.heal().await?;
    let finished = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH, finished).await.is_err() {
        history.violated("clients did not finish in time".to_owned());
    }
    cluster.ready().await?;
    let sums = checker::check(&cluster, &load, &injector).await?;
    background.shutdown().await;
    history.save(&options.dir.join("history.jsonl"))?;
    std::fs::write(options.dir.join("faults.txt"), nemesis.log_entries.lock().await.join("\n"))?;
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
    let sent = injector.sent.lock().await;
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

/// Releases a number of request permits per second. Missed permits are made up within a second.
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
