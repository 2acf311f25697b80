//! What breaks things: a fault every so often, of a kind and at a place that follow from the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::border::{WAYS, Way};
use crate::cluster::Cluster;
use crate::forge::Forger;
use crate::history::History;
use crate::keys;
use crate::points::POINTS;
use crate::proxy::Mode;

/// What may be done, and how often of a hundred.
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

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// `kill -9` at a named point.
    KillAtPoint,
    /// `kill -9` at any moment.
    Kill,
    /// SIGSTOP, and SIGCONT after longer than the wait for an acknowledgement.
    Pause,
    /// `kill -9` of nats-server, and a restart.
    KillNats,
    /// `kill -9` of mongod, and a restart.
    KillMongo,
    /// The primary steps down.
    StepDown,
    /// All connections of a process to a server end, and none is made for a while.
    Cut,
    /// What a process sends is kept back for a while, and then arrives.
    HoldToServer,
    /// What a server sends is kept back for a while, and then arrives.
    HoldToProcess,
    /// Repeated, malformed and forged messages.
    Forge,
    /// A new key to seal with, to make tokens with, or to know requests and clients by.
    RotateKeys,
    /// A new key for a user of the bus; the old one lets nobody in any more.
    RotateUser,
    /// A stream that takes no more for a while.
    FullStream,
    /// The clock of a process jumps by up to hours, forward or back, and then to what is right.
    Clock,
    /// The disk of nats-server has no room for a while.
    FullDiskNats,
    /// The disk of mongod has no room for a while.
    FullDiskMongo,
    /// A NATS node and the two others do not hear each other for a while, or not in one direction.
    DivideNats,
    /// A member of the replica set and the two others do not hear each other for a while, or not in
    /// one direction.
    DivideMongo,
}

impl Fault {
    /// Whether it needs a link between a process and its server.
    const fn is_of_links(self) -> bool {
        matches!(self, Self::Cut | Self::HoldToServer | Self::HoldToProcess)
    }

    /// Whether it needs a disk that can be full.
    pub const fn is_of_disks(self) -> bool {
        matches!(self, Self::FullDiskNats | Self::FullDiskMongo)
    }

    /// Whether it needs several nodes.
    const fn is_of_nodes(self) -> bool {
        matches!(self, Self::DivideNats | Self::DivideMongo)
    }
}

/// Longer than the server waits for an acknowledgement.
const PAUSE: Duration = Duration::from_secs(10);
/// By how much a clock may be wrong.
const CLOCK_MS: i64 = 20 * 3600 * 1000;
const MS_PER_DAY: i64 = 24 * 3600 * 1000;
/// How far from midnight the edge's clock stays.
const EDGE_MARGIN_MS: i64 = 15 * 60 * 1000;
/// How long nodes are divided at least: longer than either kind takes to choose another leader.
const DIVIDED: Duration = Duration::from_secs(6);

/// The nemesis.
pub struct Nemesis {
    /// Whom it breaks.
    pub cluster: Arc<Cluster>,
    /// Who sends by hand.
    pub forger: Arc<Forger>,
    /// Where it says what it did.
    pub history: Arc<History>,
    /// How often it did what.
    pub done: Mutex<BTreeMap<Fault, u32>>,
    /// The faults, each with its time.
    pub told: Mutex<Vec<String>>,
    /// No further fault is begun.
    pub stop: AtomicBool,
}

impl Nemesis {
    /// Makes faults, one in each interval, until the time is over or it is told to stop; then waits
    /// until the last of them has passed.
    pub async fn run(
        self: &Arc<Self>,
        every: Duration,
        until: tokio::time::Instant,
        only: Option<Fault>,
        mut rng: fastrand::Rng,
    ) {
        let mut under_way = JoinSet::new();
        let mut points: Vec<&'static str> = Vec::new();
        // The first of each kind come in turn, so that a short run has all of them.
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
                points = POINTS.to_vec();
                rng.shuffle(&mut points);
            }
            let point = if fault == Fault::KillAtPoint { points.pop() } else { None };
            *self.done.lock().await.entry(fault).or_default() += 1;
            let (nemesis, rng) = (self.clone(), rng.fork());
            under_way.spawn(async move { nemesis.strike(fault, point, rng).await });
            while let Some(ended) = under_way.try_join_next() {
                if let Err(error) = ended {
                    self.history.violated(format!("a fault ended in disorder: {error}"));
                }
            }
        }
        while let Some(ended) = under_way.join_next().await {
            if let Err(error) = ended {
                self.history.violated(format!("a fault ended in disorder: {error}"));
            }
        }
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
            Fault::Forge => self.forger.forge(&mut rng).await,
            Fault::RotateKeys | Fault::RotateUser => {
                let rotated = if fault == Fault::RotateKeys {
                    keys::rotate(&self.cluster, &mut rng).await
                } else {
                    keys::rotate_user(&self.cluster, &mut rng).await
                };
                // No other fault excuses that: keys are files, and who was away comes back to them.
                if let Err(error) = &rotated {
                    self.history.violated(format!("a key is not changed: {error}"));
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
                let (leader, way) = (rng.bool(), rng.choice(WAYS).unwrap_or(Way::Both));
                place = format!("{} {way:?}", if leader { "leader" } else { "follower" });
                let (mut servers, long) = (self.cluster.servers.lock().await, short + DIVIDED);
                if fault == Fault::DivideNats {
                    servers.divide_nats(leader, way, long).await
                } else {
                    servers.divide_mongo(leader, way, long).await
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
        // A fault that meets another one may not come about; that is no violation.
        let came = outcome
            .map_or_else(|error| format!(" did not come about: {error}"), |()| String::new());
        let told = format!("{began} ms to {} ms: {fault:?} {place}{came}", self.history.now_ms());
        self.told.lock().await.push(told);
    }

    /// Sets a clock wrong for some time.
    async fn jump(&self, process: &str, offset_ms: i64, time: Duration) -> anyhow::Result<()> {
        self.cluster.points.set_clock(process, offset_ms)?;
        tokio::time::sleep(time).await;
        Ok(self.cluster.points.set_clock(process, 0)?)
    }

    async fn step_down(&self) -> anyhow::Result<()> {
        let client = mongodb::Client::with_uri_str(&self.cluster.mongo_uri).await?;
        client
            .database("admin")
            .run_command(
                doc! { "replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 0, "force": true },
            )
            .await?;
        Ok(())
    }

    /// Sets the bound of a stream to what it holds, and back.
    async fn fill(&self, time: Duration, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let jetstream = async_nats::jetstream::new(self.cluster.bus.connect().await?);
        let names = ["COMPLETIONS", "ACTIONS_Profile", "ACTIONS_Sessioning", "ACTIONS_Requesting"];
        let name = rng.choice(names).unwrap_or("COMPLETIONS");
        let info = jetstream.get_stream(name).await?.cached_info().clone();
        let held = i64::try_from(info.state.messages)?;
        let mut full = info.config.clone();
        full.max_messages = held.max(1);
        jetstream.update_stream(full).await?;
        tokio::time::sleep(time).await;
        // Another fault may be in the way of this; it must come about all the same.
        for _ in 0..60 {
            if jetstream.update_stream(info.config.clone()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("the stream {name} stays full")
    }
}

/// By how much a clock is wrong: seconds as likely as hours. The edge's stays within its day, since
/// a request is the same as another within one UTC day only.
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
