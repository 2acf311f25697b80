//! The complete state of a run, and its steps.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use concert_engine::Version;
use concert_wire::id::ActionId;

use crate::chance::Chance;
use crate::client::Client;
use crate::coverage::{Coverage, Mark};
use crate::edge::Edge;
use crate::faults::{Faults, Sabotage};
use crate::letters::Letters;
use crate::log::Log;
use crate::packet::{Caller, Packet, Process};
use crate::program::Programs;
use crate::queue::Queue;
use crate::reference::{Reference, limits};
use crate::router::Router;
use crate::state::State;
use crate::worker::Worker;

/// The concepts that have workers, in the order of their queues.
pub(crate) const CONCEPTS: [&str; 3] = ["Profile", "Sessioning", "Shop"];
/// Processes of each kind.
pub(crate) const OF_EACH: usize = 2;
/// The ack wait, in ticks.
pub(crate) const ACK_WAIT: u64 = 300;
/// The step at which faults end at the latest, and the maximum number of steps to become idle after
/// that.
const DISORDER_STEPS: u64 = 6000;
const REST_STEPS: u64 = 60_000;
/// Maximum silence of the active router before the standby takes over.
const PIN_TTL: u64 = 80;

/// Adds a line to the history if it is recorded.
macro_rules! record {
    ($world:expr, $($text:tt)*) => {
        if $world.lines.is_some() {
            let line = format!($($text)*);
            $world.record(line);
        }
    };
}
pub(crate) use record;

/// The state of a process.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) incarnation: u32,
    pub(crate) is_down: bool,
    /// Stopped, with the time of its restart.
    pub(crate) back_at: u64,
    /// Paused until this time.
    pub(crate) paused_until: u64,
    /// Disconnected from NATS until this time; the database is reachable.
    pub(crate) cut_off_until: u64,
    calls: u32,
}

impl Life {
    pub(crate) fn runs(&self, now: u64) -> bool {
        !self.is_down && self.paused_until <= now
    }

    pub(crate) fn caller(&mut self, process: Process) -> Caller {
        self.calls += 1;
        Caller { process, incarnation: self.incarnation, call: self.calls }
    }
}

pub(crate) struct World<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    pub(crate) has_short_flows: bool,
    pub(crate) sabotage: Option<Sabotage>,
    /// The time in ticks; each step takes one.
    pub(crate) now: u64,
    pub(crate) network: Vec<Packet>,
    pub(crate) log: Log,
    pub(crate) queues: Vec<Queue>,
    /// All invocations, and responds of the router, that were ever stored.
    pub(crate) stored: BTreeSet<ActionId>,
    /// The history of active rules outside the log.
    pub(crate) history: Vec<(u64, Version)>,
    pub(crate) state: State,
    pub(crate) routers: Vec<Router>,
    /// The active router, and when it was last ready.
    pub(crate) pin: usize,
    pin_seen_at: u64,
    pub(crate) workers: Vec<Worker>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) clients: Vec<Client>,
    /// Number of injected actions.
    pub(crate) by_hand: u64,
    pub(crate) reference: Reference,
    pub(crate) coverage: Coverage,
    /// The recorded history of the run.
    pub(crate) lines: Option<Vec<String>>,
    /// Maximum number of ordinary attempts per action.
    pub(crate) attempts: i64,
    /// The actions whose handlers crash their process.
    pub(crate) poison: BTreeSet<ActionId>,
    pub(crate) letters: Letters,
    /// The first violation.
    pub(crate) broken: Option<String>,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        seed: u64,
        programs: &'a Programs,
        sabotage: Option<Sabotage>,
        keeps_history: bool,
    ) -> Self {
        let mut chance = Chance::new(seed);
        let faults = Faults::drawn(&mut chance);
        let clients = (0..2 + chance.below(3)).map(|_| Client::new(&mut chance)).collect();
        Self {
            programs,
            sabotage,
            has_short_flows: faults.has_short_flows,
            now: 1,
            network: Vec::new(),
            log: Log::default(),
            queues: CONCEPTS.iter().map(|_| Queue::default()).collect(),
            stored: BTreeSet::new(),
            history: Vec::new(),
            state: State::new(
                sabotage != Some(Sabotage::NoStamps),
                sabotage != Some(Sabotage::NoCutoff),
            ),
            routers: (0..OF_EACH).map(|number| Router::new(number, &faults)).collect(),
            pin: 0,
            pin_seen_at: 0,
            workers: (0..CONCEPTS.len() * OF_EACH).map(|_| Worker::default()).collect(),
            edges: (0..OF_EACH).map(|_| Edge::default()).collect(),
            clients,
            by_hand: 0,
            reference: Reference::new(limits(faults.has_short_flows, NonZeroUsize::MAX), programs),
            coverage: Coverage::default(),
            lines: keeps_history.then(Vec::new),
            broken: None,
            attempts: 2 + chance.below(4) as i64,
            poison: BTreeSet::new(),
            letters: Letters::default(),
            chance,
            faults,
        }
    }

    /// Runs to the end; returns the first violation.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for router in 0..OF_EACH {
            self.start_router(router);
        }
        let mut steps = 0;
        let mut calm_at = None;
        loop {
            steps += 1;
            self.now += 1;
            if calm_at.is_none() {
                self.disturb();
                if steps > DISORDER_STEPS
                    || self.clients.iter().all(Client::is_done) && self.chance.one_in(40)
                {
                    record!(self, "no more faults from here on");
                    self.faults = Faults::default();
                    calm_at = Some(steps);
                }
            }
            self.bring_back();
            if calm_at.is_some() {
                self.retry_letters();
            }
            if !self.act() {
                if calm_at.is_some() && self.is_at_rest() {
                    break;
                }
                self.now += 10;
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if calm_at.is_some_and(|calm_at| steps > calm_at + REST_STEPS) {
                return Err("the world does not become idle".to_owned());
            }
        }
        self.judge()
    }

    pub(crate) fn record(&mut self, line: String) {
        let now = self.now;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>6} {line}"));
        }
    }

    /// Records a violation.
    pub(crate) fn breaks(&mut self, what: impl Into<String>) {
        let what = what.into();
        record!(self, "!!! {what}");
        self.broken.get_or_insert(what);
    }

    pub(crate) fn must(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(what);
        }
    }

    pub(crate) fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// True at the rate of a fault, which is counted.
    pub(crate) fn fault(&mut self, rate: impl Fn(&Faults) -> u32, mark: Mark) -> bool {
        let happens = self.chance.permille(rate(&self.faults));
        if happens {
            self.coverage.mark(mark);
        }
        happens
    }

    pub(crate) fn life(&self, process: Process) -> Option<&Life> {
        match process {
            Process::Router(number) => self.routers.get(number).map(|router| &router.life),
            Process::Worker(number) => self.workers.get(number).map(|worker| &worker.life),
            Process::Edge(number) => self.edges.get(number).map(|edge| &edge.life),
        }
    }

    pub(crate) fn life_mut(&mut self, process: Process) -> Option<&mut Life> {
        match process {
            Process::Router(number) => self.routers.get_mut(number).map(|router| &mut router.life),
            Process::Worker(number) => self.workers.get_mut(number).map(|worker| &mut worker.life),
            Process::Edge(number) => self.edges.get_mut(number).map(|edge| &mut edge.life),
        }
    }

    pub(crate) fn runs(&self, process: Process) -> bool {
        self.life(process).is_some_and(|life| life.runs(self.now))
    }

    /// Executes one of the possible steps; returns whether there was one.
    fn act(&mut self) -> bool {
        let kinds: [fn(&mut Self) -> bool; 6] = [
            Self::receive,
            Self::work,
            Self::deliver_log,
            Self::deliver_queue,
            Self::let_a_client_act,
            Self::let_an_edge_look,
        ];
        let first = match self.chance.below(100) {
            0..50 => 0,
            50..70 => 1,
            70..80 => 2,
            80..90 => 3,
            90..95 => 4,
            _ => 5,
        };
        (0..kinds.len()).any(|next| {
            let kind = kinds.get((first + next) % kinds.len());
            kind.is_some_and(|kind| kind(self))
        })
    }

    /// The log's consumer delivers a message, for the first time or again.
    fn deliver_log(&mut self) -> bool {
        let ready = |world: &Self, number: usize| {
            let process = Process::Router(number);
            world.runs(process)
                && !world.is_cut_off(process)
                && world.routers.get(number).is_some_and(|router| router.is_ready)
        };
        if ready(self, self.pin) {
            self.pin_seen_at = self.now;
        } else if self.now > self.pin_seen_at + PIN_TTL && ready(self, 1 - self.pin) {
            self.pin = 1 - self.pin;
            self.pin_seen_at = self.now;
            self.coverage.mark(Mark::StandbyTookOver);
        }
        let now = self.now;
        let again: Vec<u64> =
            self.log.due.iter().filter(|(_, due)| due.at <= now).map(|(seq, _)| *seq).collect();
        let has_new = self.log.delivered < self.log.last();
        let again = self.chance.pick(&again).filter(|_| !has_new || self.chance.one_in(2));
        let Some(seq) = again.or(has_new.then_some(self.log.delivered + 1)) else {
            return false;
        };
        let mut to = self.pin;
        if ready(self, 1 - to) && self.fault(|faults| faults.two_active, Mark::DeliveredToStandby) {
            to = 1 - to;
        }
        if !ready(self, to) {
            return false;
        }
        if seq > self.log.delivered {
            self.log.delivered = seq;
        } else {
            self.coverage.mark(Mark::LogRedelivered);
            if self.log.acknowledged.contains(&seq) {
                self.coverage.mark(Mark::LogDeliveredAfterItsAck);
            }
        }
        self.log.due.insert(seq, crate::log::Due { at: now + ACK_WAIT });
        let message = self.log.at(seq);
        // A connection keeps its order, unless it is lost.
        if self.chance.permille(self.faults.late_requests * 3) {
            let incarnation = self.life(Process::Router(to)).map_or(0, |life| life.incarnation);
            self.network.push(Packet::LogMessage { router: to, incarnation, seq, message });
        } else {
            self.router_receives(to, seq, message);
        }
        true
    }

    fn is_at_rest(&self) -> bool {
        self.network.is_empty()
            && self.queues.iter().all(|queue| queue.waiting.is_empty())
            && self.letters.is_empty()
            && self.log.due.is_empty()
            && self.log.delivered == self.log.last()
            && self.clients.iter().all(Client::is_done)
            && self.edges.iter().all(|edge| edge.open.is_empty())
            && self.workers.iter().all(|worker| worker.jobs.is_empty())
    }
}
