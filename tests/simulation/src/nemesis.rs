//! Faults of processes and servers; packet faults are in the network.

use std::rc::Rc;

use crate::coverage::Mark;
use crate::packet::{Answer, Packet, Process};
use crate::world::{ACK_WAIT, CONCEPTS, OF_EACH, World, record};

/// Maximum number of injected purchases and sales per run.
const TRADES: u64 = 25;

impl World<'_> {
    /// Injects a random fault.
    pub(crate) fn disturb(&mut self) {
        if self.chance.permille(self.faults.crashes) {
            let process = self.any_process();
            self.crash(process);
        }
        if self.chance.permille(self.faults.pauses) {
            let process = self.any_process();
            self.pause(process);
        }
        if self.chance.permille(self.faults.cut_offs) {
            let process = self.any_process();
            self.cut_off(process);
        }
        if self.chance.permille(self.faults.late_keys) {
            let number = self.chance.below(CONCEPTS.len() * OF_EACH);
            let until = self.now + self.chance.ticks(ACK_WAIT * 2);
            record!(self, "worker {number} lacks a key until {until}");
            if let Some(worker) = self.workers.get_mut(number) {
                worker.keyless_until = until;
            }
        }
        if self.chance.permille(self.faults.new_rules) {
            let router = self.chance.below(OF_EACH);
            self.change_rules(router);
        }
        // The rules are the first message of the log, because nothing is sent before them.
        if self.log.last() > 0 && self.chance.permille(self.faults.rubbish) {
            let seq = self.log.append_rubbish();
            record!(self, "log {seq}: malformed message");
            let fed = self.reference.feed(seq, None);
            self.must(fed);
        }
        if self.log.last() > 0 && self.by_hand < TRADES && self.chance.permille(self.faults.trades)
        {
            self.trade();
        }
        if self.chance.permille(self.faults.forgotten_log_acks) {
            let acknowledged: Vec<u64> =
                self.log.acknowledged.iter().rev().take(20).copied().collect();
            if let Some(seq) = self.chance.pick(&acknowledged) {
                record!(self, "the server forgets that log {seq} was acknowledged");
                self.log.due.insert(seq, crate::log::Due { at: self.now });
            }
        }
        if self.chance.permille(self.faults.forgotten_queue_acks) {
            let number = self.chance.below(CONCEPTS.len());
            self.forget_acknowledgement(number);
        }
    }

    fn forget_acknowledgement(&mut self, number: usize) {
        let Some(queue) = self.queues.get_mut(number) else {
            return;
        };
        let which = self.chance.below(queue.gone.len());
        let Some(asked) = queue.gone.get(which).map(Rc::clone) else {
            return;
        };
        if queue.enqueue(&asked) {
            self.coverage.mark(Mark::InvokedAgainAfterItsAck);
            record!(self, "the server forgets that {} {} was acknowledged", asked.action, asked.id);
        }
    }

    fn any_process(&mut self) -> Process {
        match self.chance.below(3) {
            0 => Process::Router(self.chance.below(OF_EACH)),
            1 => Process::Edge(self.chance.below(OF_EACH)),
            _ => Process::Worker(self.chance.below(CONCEPTS.len() * OF_EACH)),
        }
    }

    pub(crate) fn pause(&mut self, process: Process) {
        let until = self.now + self.chance.ticks(ACK_WAIT * 2);
        record!(self, "{process:?} is paused until {until}");
        self.coverage.mark(match process {
            Process::Router(_) => Mark::RouterPaused,
            Process::Worker(_) => Mark::WorkerPaused,
            Process::Edge(_) => Mark::EdgePaused,
        });
        if let Some(life) = self.life_mut(process) {
            life.paused_until = until;
        }
    }

    fn cut_off(&mut self, process: Process) {
        let until = self.now + self.chance.ticks(ACK_WAIT * 2);
        if matches!(process, Process::Router(_)) {
            self.release_log();
        }
        record!(self, "{process:?} cannot reach NATS until {until}");
        self.coverage.mark(match process {
            Process::Router(_) => Mark::RouterCutOff,
            Process::Worker(_) => Mark::WorkerCutOff,
            Process::Edge(_) => Mark::EdgeCutOff,
        });
        if let Some(life) = self.life_mut(process) {
            life.cut_off_until = until;
        }
    }

    pub(crate) fn crash(&mut self, process: Process) {
        if self.life(process).is_none_or(|life| life.is_down) {
            return;
        }
        record!(self, "{process:?} crashes");
        let back_at = self.now + 1 + self.chance.ticks(200);
        if let Some(life) = self.life_mut(process) {
            life.incarnation += 1;
            life.is_down = true;
            life.back_at = back_at;
            life.paused_until = 0;
        }
        self.end(process);
    }

    /// A standby router releases the messages of one that has exited, or has no connection.
    fn release_log(&mut self) {
        if self.chance.one_in(2) {
            let at = self.now + self.chance.ticks(20);
            self.coverage.mark(Mark::LogReleased);
            self.log.due.values_mut().for_each(|due| due.at = due.at.min(at));
        }
    }

    /// A crash loses the memory of a process.
    fn end(&mut self, process: Process) {
        match process {
            Process::Router(number) => {
                self.release_log();
                if let Some(router) = self.routers.get_mut(number) {
                    let mark = router.end();
                    self.coverage.mark(mark);
                }
            }
            Process::Worker(number) => self.worker_ends(number),
            Process::Edge(number) => {
                let open = self.edges.get_mut(number).map(|edge| std::mem::take(&mut edge.open));
                for open in open.unwrap_or_default() {
                    self.coverage.mark(open.crash_mark());
                    self.network.push(Packet::Answer {
                        client: open.client,
                        number: open.number,
                        answer: Answer::Gone,
                    });
                }
            }
        }
    }

    /// Restarts processes after their downtime.
    pub(crate) fn bring_back(&mut self) {
        let processes = (0..OF_EACH)
            .flat_map(|number| [Process::Router(number), Process::Edge(number)])
            .chain((0..self.workers.len()).map(Process::Worker));
        for process in processes {
            let now = self.now;
            let Some(life) =
                self.life_mut(process).filter(|life| life.is_down && life.back_at <= now)
            else {
                continue;
            };
            life.is_down = false;
            record!(self, "{process:?} restarts");
            if let Process::Router(number) = process {
                self.start_router(number);
            }
        }
    }
}
