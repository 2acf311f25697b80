//! The fault injector: one fault per interval, with kind and target chosen by the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::bad_messages::BadMessageInjector;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::history::History;
use crate::keys;
use crate::partition::{MODES, PartitionMode};
use crate::points::POINTS;
use crate::proxy::Mode;

/// The faults with their relative weights.
const FAULTS: [(Fault, u32); 18] = [
    (Fault::KillAtPoint, 64),
    (Fault::Kill, 6),
    (Fault::Pause, 5),
    (Fault::KillNats, 3),
    (Fault::KillMongo, 3),
    (Fault::StepDown, 3),
    (Fault::Cut, 4),
    (Fault::HoldToServer, 3),
    (Fault::HoldToProcess, 3),
    (Fault::Forge, 4),
    (Fault::RotateKeys, 3),
    (Fault::RotateUser, 3),
    (Fault::FullStream, 2),
    (Fault::Clock, 5),
    (Fault::FullDiskNats, 2),
    (Fault::FullDiskMongo, 2),
    (Fault::DivideNats, 4),
    (Fault::DivideMongo, 4),
];

/// Longer than the ack wait.
const PAUSE: Duration = Duration::from_secs(10);
/// Maximum clock error.
const CLOCK_MS: i64 = 20 * 3600 * 1000;
const MS_PER_DAY: i64 = 24 * 3600 * 1000;
/// Minimum distance of the edge's clock from midnight.
const EDGE_MARGIN_MS: i64 = 15 * 60 * 1000;
/// Minimum duration of a partition; longer than an election of either server.
const DIVIDED: Duration = Duration::from_secs(6);

/// The fault injector.
pub struct Nemesis {
    /// The system under test.
    pub cluster: Arc<Cluster>,
    /// Injects messages.
    pub injector: Arc<BadMessageInjector>,
    /// The history that records the faults.
    pub history: Arc<History>,
    /// Number of faults of each kind.
    pub done: Mutex<BTreeMap<Fault, u32>>,
    /// The faults with their times.
    pub log_entries: Mutex<Vec<String>>,
    /// Set when no further fault may begin.
    pub stop: AtomicBool,
}

impl Nemesis {
    /// Injects one fault per interval until the time is up or it must stop; then waits for the last
    /// one to end.
    pub async fn run(
        self: &Arc<Self>,
        every: Duration,
        until: tokio::time::Instant,
        only: Option<Fault>,
        mut rng: fastrand::Rng,
    ) {
        let mut under_way = JoinSet::new();
        let mut points: Vec<&'static str> = Vec::new();
        // The first faults cycle through all kinds, so that a short run covers each.
        let three = self.cluster.options.three;
        let has_disks = self.cluster.servers.lock().await.why_no_small_disks().is_none();
        let possible: Vec<(Fault, u32)> = FAULTS
            .into_iter()
            .filter(|(fault, _)| {
                (!three || !fault.is_of_links())
                    && (three || !fault.is_of_nodes())
                    && (has_disks || !fault.is_of_disks())
            })
            .collect();
        let mut first: Vec<Fault> = possible.iter().map(|(fault, _)| *fault).collect();
        rng.shuffle(&mut first);
        let mut next = tokio::time::interval(every);
        next.tick().await;
        loop {
            next.tick().await;
            if tokio::time::Instant::now() >= until || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let drawn = first.pop().unwrap_or_else(|| any_fault(&possible, &mut rng));
            let fault = only.unwrap_or(drawn);
            if points.is_empty() {
                points = POINTS.into_iter().filter(|point| self.may_kill_at(point)).collect();
                rng.shuffle(&mut points);
            }
            let point = if fault == Fault::KillAtPoint { points.pop() } else { None };
            *self.done.lock().await.entry(fault).or_default() += 1;
            let (nemesis, rng) = (self.clone(), rng.fork());
            under_way.spawn(async move { nemesis.strike(fault, point, rng).await });
            while let Some(ended) = under_way.try_join_next() {
                if let Err(error) = ended {
                    self.history.violated(format!("a fault failed: {error}"));
                }
            }
        }
        while let Some(ended) = under_way.join_next().await {
            if let Err(error) = ended {
                self.history.violated(format!("a fault failed: {error}"));
            }
        }
    }

    /// A missing stamp has an effect only if a worker is killed between its write and its publish.
    fn may_kill_at(&self, point: &str) -> bool {
        let is_worker = ["profile.written", "sessioning.written"].contains(&point);
        is_worker || self.cluster.options.sabotage.as_deref() != Some("stamp")
    }

    async fn strike(&self, fault: Fault, point: Option<&str>, mut rng: fastrand::Rng) {
        let Some(part) = rng.choice(&self.cluster.parts) else {
            return;
        };
        let began = self.history.now_ms();
        let mut place = String::new();
        let short = Duration::from_millis(rng.u64(500..4000));
        let outcome = match fault {
            Fault::KillAtPoint => {
                self.cluster.points.arm(point.unwrap_or_default()).map_err(anyhow::Error::from)
            }
            Fault::Kill => {
                self.cluster.signal(part, Signal::KILL).await;
                Ok(())
            }
            Fault::Pause => {
                self.cluster.signal(part, Signal::STOP).await;
                tokio::time::sleep(PAUSE).await;
                self.cluster.signal(part, Signal::CONT).await;
                Ok(())
            }
            Fault::KillNats => {
                let mut servers = self.cluster.servers.lock().await;
                servers.kill_nats(rng.bool(), short).await
            }
            Fault::KillMongo => {
                let mut servers = self.cluster.servers.lock().await;
                servers.kill_mongo(rng.bool(), short).await
            }
            Fault::StepDown => self.step_down().await,
            Fault::Cut | Fault::HoldToServer | Fault::HoldToProcess => {
                let link = if rng.bool() { &part.nats } else { &part.mongo };
                link.set(match fault {
                    Fault::Cut => Mode::Cut,
                    Fault::HoldToServer => Mode::HoldToServer,
                    _ => Mode::HoldToProcess,
                });
                tokio::time::sleep(short).await;
                link.set(if rng.u8(..4) == 0 { Mode::Slow } else { Mode::Pass });
                tokio::time::sleep(short).await;
                link.set(Mode::Pass);
                Ok(())
            }
            Fault::Forge => self.injector.forge(&mut rng).await,
            Fault::RotateKeys | Fault::RotateUser => {
                let rotated = if fault == Fault::RotateKeys {
                    keys::rotate(&self.cluster, &mut rng).await
                } else {
                    keys::rotate_user(&self.cluster, &mut rng).await
                };
                // No concurrent fault excuses a failure here: keys are files, which a process reads
                // when it is back.
                if let Err(error) = &rotated {
                    self.history.violated(format!("cannot rotate a key: {error}"));
                }
                rotated.map(|which| place = which)
            }
            Fault::FullStream => self.fill(short, &mut rng).await,
            Fault::Clock => {
                let offset_ms = offset_ms(part.role, &mut rng);
                place = format!("{} by {} s", part.name, offset_ms / 1000);
                self.jump(part.name, offset_ms, short * 2).await
            }
            Fault::FullDiskNats => self.cluster.servers.lock().await.fill_nats(short).await,
            Fault::FullDiskMongo => self.cluster.servers.lock().await.fill_mongo(short).await,
            Fault::DivideNats | Fault::DivideMongo => {
                let (leader, mode) = (rng.bool(), rng.choice(MODES).unwrap_or(PartitionMode::Both));
                place = format!("{} {mode:?}", if leader { "leader" } else { "follower" });
                let (mut servers, long) = (self.cluster.servers.lock().await, short + DIVIDED);
                if fault == Fault::DivideNats {
                    servers.divide_nats(leader, mode, long).await
                } else {
                    servers.divide_mongo(leader, mode, long).await
                }
            }
        };
        match fault {
            Fault::KillAtPoint => point.unwrap_or_default().clone_into(&mut place),
            Fault::Kill
            | Fault::Pause
            | Fault::Cut
            | Fault::HoldToServer
            | Fault::HoldToProcess => {
                part.name.clone_into(&mut place);
            }
            _ => {}
        }
        // A fault may be impossible during another one; that is not a violation.
        let came =
            outcome.map_or_else(|error| format!(" was not possible: {error}"), |()| String::new());
        let log_entries =
            format!("{began} ms to {} ms: {fault:?} {place}{came}", self.history.now_ms());
        self.log_entries.lock().await.push(log_entries);
    }

    /// Changes a clock for some time.
    async fn jump(&self, process: &str, offset_ms: i64, time: Duration) -> anyhow::Result<()> {
        self.cluster.points.set_clock(process, offset_ms)?;
        tokio::time::sleep(time).await;
        Ok(self.cluster.points.set_clock(process, 0)?)
    }

    async fn step_down(&self) -> anyhow::Result<()> {
        let client = mongodb::Client::with_uri_str(&self.cluster.admin_uri).await?;
        client
            .database("admin")
            .run_command(
                doc! { "replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 0, "force": true },
            )
            .await?;
        Ok(())
    }

    /// Sets the limit of a stream to its current size, and back.
    async fn fill(&self, time: Duration, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let jetstream = async_nats::jetstream::new(self.cluster.bus.connect().await?);
        let names = ["COMPLETIONS", "ACTIONS_Profile", "ACTIONS_Sessioning"];
        let name = rng.choice(names).unwrap_or("COMPLETIONS");
        let info = jetstream.get_stream(name).await?.cached_info().clone();
        let held = i64::try_from(info.state.messages)?;
        let mut full = info.config.clone();
        full.max_messages = held.max(1);
        jetstream.update_stream(full).await?;
        tokio::time::sleep(time).await;
        // A concurrent fault may block the reset, which must happen anyway.
        for _ in 0..60 {
            if jetstream.update_stream(info.config.clone()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("cannot reset the limit of the stream {name}")
    }
}

/// A random clock error; seconds are as likely as hours. The edge's clock stays within its UTC day,
/// because an idempotency key is valid for one day.
fn offset_ms(role: &str, rng: &mut fastrand::Rng) -> i64 {
    let forward = rng.bool();
    let reach = rng.i64(1..=CLOCK_MS) >> rng.u32(..14);
    if role != "edge" {
        return if forward { reach } else { -reach };
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    let of_day = i64::try_from(now).unwrap_or_default() % MS_PER_DAY;
    let left = |room: i64| reach.min((room - EDGE_MARGIN_MS).max(0));
    if forward { left(MS_PER_DAY - of_day) } else { -left(of_day) }
}

fn any_fault(possible: &[(Fault, u32)], rng: &mut fastrand::Rng) -> Fault {
    let sum: u32 = possible.iter().map(|(_, weight)| weight).sum();
    let mut number = rng.u32(..sum);
    for (fault, weight) in possible {
        if number < *weight {
            return *fault;
        }
        number -= weight;
    }
    Fault::Kill
}
