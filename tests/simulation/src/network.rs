//! The network between processes and servers: sent packets, and their arrival.

use crate::packet::{Caller, Op, Packet, Process, Reply};
use crate::world::World;

impl World<'_> {
    /// Sends a request to the servers; returns its number for the response.
    pub(crate) fn call(&mut self, process: Process, op: Op) -> u32 {
        let Some(caller) = self.life_mut(process).map(|life| life.caller(process)) else {
            return 0;
        };
        self.network.push(if self.is_cut_off(process) {
            Packet::Reply(caller, Reply::Silence)
        } else {
            Packet::Request(Some(caller), op)
        });
        caller.call
    }

    pub(crate) fn is_cut_off(&self, process: Process) -> bool {
        self.life(process).is_some_and(|life| life.cut_off_until > self.now)
    }

    /// Sends a request to the servers without waiting for the response.
    pub(crate) fn send_from(&mut self, process: Process, op: Op) {
        if !self.is_cut_off(process) {
            self.send(op);
        }
    }

    /// Sends a request to the servers without a sender.
    pub(crate) fn send(&mut self, op: Op) {
        self.network.push(Packet::Request(None, op));
    }

    /// Delivers a packet.
    pub(crate) fn receive(&mut self) -> bool {
        // Packets to a paused process wait; a few tries find another.
        for _ in 0..4 {
            let number = self.chance.below(self.network.len());
            let number = self.first_response(number);
            let Some(packet) = self.network.get(number) else {
                return false;
            };
            let to = match packet {
                Packet::Reply(caller, _) => Some((caller.process, caller.incarnation)),
                Packet::LogMessage { router, incarnation, .. } => {
                    Some((Process::Router(*router), *incarnation))
                }
                Packet::QueueMessage { worker, incarnation, .. } => {
                    Some((Process::Worker(*worker), *incarnation))
                }
                Packet::Response { edge, incarnation, .. } => {
                    Some((Process::Edge(*edge), *incarnation))
                }
                Packet::Late(at, _) if *at > self.now => continue,
                Packet::Request(..) | Packet::Late(..) | Packet::Answer { .. } => None,
            };
            let gone = to.is_some_and(|(process, incarnation)| {
                self.life(process)
                    .is_none_or(|life| life.is_down || life.incarnation != incarnation)
            });
            if !gone && to.is_some_and(|(process, _)| !self.runs(process)) {
                continue;
            }
            let cut_off = to.is_some_and(|(process, _)| self.is_cut_off(process));
            match self.network.swap_remove(number) {
                _ if gone => {}
                Packet::Reply(caller, _) if cut_off => self.reply(caller, Reply::Silence),
                Packet::Response { edge, .. } if cut_off => self.edge_misses(edge),
                _ if cut_off => {}
                packet => self.take(packet),
            }
            return true;
        }
        false
    }

    /// Takes the packet at this index; for an edge the earliest response, because a connection
    /// keeps their order.
    fn first_response(&self, number: usize) -> usize {
        let seq = |packet: &Packet, to: usize| match packet {
            Packet::Response { edge, received, .. } if *edge == to => Some(received.seq),
            _ => None,
        };
        let Some(Packet::Response { edge, .. }) = self.network.get(number) else {
            return number;
        };
        let packets = self.network.iter().enumerate();
        let first = packets.filter_map(|(at, packet)| Some((seq(packet, *edge)?, at))).min();
        first.map_or(number, |(_, at)| at)
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::Request(caller, op) => self.serve(caller, op),
            Packet::Late(_, op) => self.serve(None, op),
            Packet::Reply(caller, reply) => self.reply(caller, reply),
            Packet::LogMessage { router, seq, message, .. } => {
                self.router_receives(router, seq, message)
            }
            Packet::QueueMessage { worker, sent_at, delivery, .. } => {
                self.worker_receives(worker, sent_at, delivery)
            }
            Packet::Response { edge, received, .. } => self.on_response(edge, &received),
            Packet::Answer { client, number, answer } => self.client_hears(client, number, answer),
        }
    }

    fn reply(&mut self, caller: Caller, reply: Reply) {
        match caller.process {
            Process::Router(number) => self.router_hears(number, caller.call, reply),
            Process::Worker(number) => self.worker_hears(number, caller.call, reply),
            Process::Edge(number) => self.edge_is_answered(number, caller.call, reply),
        }
    }
}
