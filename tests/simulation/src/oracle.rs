//! The checks once everything is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use std::rc::Rc;

use concert_engine::{Effect, Engine, Event, Logged};
use concert_wire::envelope::Object;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::{REQUEST, value};
use serde_json::Value;

use crate::log::is_answer;
use crate::reference::{describe, limits};
use crate::world::World;

impl World<'_> {
    /// Checks the idle world; returns the first violation.
    pub(crate) fn judge(&mut self) -> Result<(), String> {
        self.every_invocation_is_completed()?;
        self.every_request_has_one_response()?;
        self.logins_have_their_sessions()?;
        self.no_session_outlives_its_account()?;
        self.state_matches_the_log()?;
        self.rules_share_query_results()?;
        self.new_router_finds_no_work()
    }

    fn every_invocation_is_completed(&self) -> Result<(), String> {
        // An injected action that was lost on its way was never accepted.
        let accepted = self.reference.expected().filter(|asked| {
            let is_injected = asked.flow.root() == asked.id;
            !is_injected || self.stored.contains(&asked.id)
        });
        for asked in accepted {
            let Some(done) = self.log.find(asked.id) else {
                return Err(format!("accepted and not completed: {}", describe(asked)));
            };
            let input = value::object(&asked.body).unwrap_or_default();
            if input != done.body.input {
                return Err(format!(
                    "{} was completed with {:?}",
                    describe(asked),
                    done.body.input
                ));
            }
        }
        Ok(())
    }

    fn every_request_has_one_response(&self) -> Result<(), String> {
        for root in self.log.completions().filter(|logged| &*logged.action == REQUEST) {
            let answers: Vec<_> =
                self.log.flow(root.flow).iter().filter(|logged| is_answer(logged)).collect();
            // The router may respond to two failures if neither had a response yet.
            let by_router = |id: ActionId| {
                let asked = self.reference.get(id);
                asked.is_some_and(|asked| asked.sync.starts_with("Concert."))
            };
            match answers.as_slice() {
                [_] => {}
                [] => {
                    return Err(format!("{} has no response: {:?}", root.flow, root.body.input));
                }
                more if more.iter().any(|answer| by_router(answer.id)) => {}
                more => return Err(format!("{} has {} responses", root.flow, more.len())),
            }
        }
        Ok(())
    }

    fn logins_have_their_sessions(&self) -> Result<(), String> {
        for root in self.log.completions().filter(|logged| &*logged.action == REQUEST) {
            let is_login =
                root.body.input.get("path").and_then(Value::as_str) == Some("/auth/login");
            let Some(answer) = self.log.answer(root.flow).filter(|_| is_login) else {
                continue;
            };
            let made = self.log.flow(root.flow).iter().filter(|logged| &*logged.action == "create");
            let tokens: Vec<_> = made.map(|made| made.body.output.get("session")).collect();
            let returned = answer.body.input.get("session");
            let status = answer.body.input.get("status").and_then(Value::as_f64);
            let right = match returned {
                // The flow was stopped before its end.
                None if status == Some(508.0) => true,
                Some(_) => tokens == [returned],
                None => tokens.is_empty(),
            };
            if !right {
                return Err(format!(
                    "login {} created {tokens:?} and returned {returned:?}",
                    root.flow
                ));
            }
        }
        Ok(())
    }

    /// A login that is in progress while its account is deleted leaves no live session, in any
    /// order.
    fn no_session_outlives_its_account(&self) -> Result<(), String> {
        let live = self.state.sessions.all.values().filter(|session| session.ended_by.is_none());
        for session in live {
            let user = self.state.users.by_id(&session.user);
            if user.is_some_and(|user| user.deleted_by.is_some()) {
                return Err(format!("{} outlives its account", session.created_by));
            }
        }
        Ok(())
    }

    /// The successes of an action, by id.
    fn done(&self, concept: &str, action: &str) -> BTreeMap<ActionId, &Object> {
        let all = self.log.completions();
        let done = all.filter(|logged| &*logged.concept == concept && &*logged.action == action);
        let successes = done.filter(|logged| !logged.body.is_failure());
        successes.map(|logged| (logged.id, &logged.body.input)).collect()
    }

    fn state_matches_the_log(&self) -> Result<(), String> {
        let check = |what: &str, state: Vec<ActionId>, log: BTreeMap<ActionId, &Object>| {
            let mut state = state;
            state.sort_unstable();
            let log: Vec<ActionId> = log.into_keys().collect();
            if state == log {
                Ok(())
            } else {
                Err(format!("{what}: the state has {state:?} and the log {log:?}"))
            }
        };
        let users = &self.state.users.all;
        let sessions = self.state.sessions.all.values();
        let items = self.state.shop.items.values();
        let created = users.iter().map(|user| user.created_by).collect();
        check("accounts", created, self.done("Profile", "createAccount"))?;
        let deleted = users.iter().filter_map(|user| user.deleted_by).collect();
        check("deleted accounts", deleted, self.done("Profile", "deleteAccount"))?;
        let mut changes = self.done("Profile", "changePassword");
        changes.extend(self.done("Profile", "deleteAccount"));
        check("changes", users.iter().flat_map(|user| user.changes.clone()).collect(), changes)?;
        let began = sessions.clone().map(|session| session.created_by).collect();
        check("sessions", began, self.done("Sessioning", "create"))?;
        let sweeps = &self.state.sessions.sweeps;
        let ended = sessions.filter(|session| session.ended_by != Some(session.created_by));
        let ended = ended.filter_map(|session| session.ended_by);
        let ended = ended.filter(|by| !sweeps.contains(by)).collect();
        check("ended sessions", ended, self.done("Sessioning", "delete"))?;
        let swept = sweeps.iter().copied().collect();
        check("ends to all sessions", swept, self.done("Sessioning", "deleteAll"))?;
        let sold = items.clone().flat_map(|item| item.sold_by.clone()).collect();
        check("sales", sold, self.done("Shop", "sell"))?;
        let restocked = items.flat_map(|item| item.restocked_by.clone()).collect();
        check("deliveries", restocked, self.done("Shop", "restock"))?;
        let mut made = self.done("Shop", "note");
        made.extend(self.done("Shop", "pack"));
        check("notes and parcels", self.state.shop.made.keys().copied().collect(), made)?;
        let mut names = BTreeSet::new();
        match users.iter().filter_map(|user| user.name.as_ref()).find(|name| !names.insert(*name)) {
            Some(name) => Err(format!("two accounts have the name {name}")),
            None => Ok(()),
        }
    }

    /// Of two rules with the same query at the same completion, exactly one fires.
    fn rules_share_query_results(&self) -> Result<(), String> {
        for (id, _) in self.done("Shop", "sell") {
            let text = Value::from(format!("stock? {}", crate::state::sale(id)));
            let notes = self.done("Shop", "note");
            let notes = notes.values().filter(|input| input.get("text") == Some(&text)).count();
            let is_stopped = |logged: &Rc<Logged>| {
                self.log
                    .flow(logged.flow)
                    .iter()
                    .any(|other| other.id == logged.flow.limit_response())
            };
            if notes != 1 && !self.has_short_flows && !self.log.find(id).is_some_and(is_stopped) {
                return Err(format!("{notes} of two exclusive rules fired for {id}"));
            }
        }
        Ok(())
    }

    /// A router that starts at the end, and receives the log in any order, calls nothing new.
    fn new_router_finds_no_work(&mut self) -> Result<(), String> {
        let mut engine = Engine::without_rules(limits(
            self.has_short_flows,
            NonZeroUsize::MIN.saturating_add(2),
        ));
        for program in &self.programs.0 {
            engine.step(Event::RulesFetched(program.clone()));
        }
        let through = self.log.last();
        let history = self.history.clone();
        engine.step(Event::RulesRead { through, history });
        // A sequence that is not the newest makes the engine read the whole flow.
        let (seq, reason) = (through + 1, String::new());
        engine.step(Event::Undecodable { seq, reason });
        let mut seqs: Vec<u64> = (1..=through).collect();
        while !seqs.is_empty() {
            let seq = seqs.swap_remove(self.chance.below(seqs.len()));
            let Some(logged) = self.log.at(seq) else { continue };
            let mut events = vec![Event::Delivered((*logged).clone())];
            let mut is_settled = false;
            while let Some(event) = events.pop() {
                for effect in engine.step(event) {
                    match effect {
                        Effect::ReadFlow { flow, .. } => events.push(self.whole(flow, through)),
                        Effect::Adopt { seq, .. } => events.push(Event::Stored { seq }),
                        // A rule with queries that did not fire leaves no record. It queries again,
                        // and gets no result here.
                        Effect::Ask { seq, .. } => events.push(Event::Unanswered { seq }),
                        Effect::Ack { .. } | Effect::Retry { .. } => is_settled = true,
                        other => {
                            return Err(format!(
                                "everything is done, but a new router has {other:?}"
                            ));
                        }
                    }
                }
            }
            if !is_settled {
                return Err(format!("message {seq} was neither acknowledged nor dead-lettered"));
            }
        }
        Ok(())
    }

    fn whole(&self, flow: FlowId, through: u64) -> Event {
        Event::FlowRead {
            flow,
            through,
            log: self.log.flow(flow).iter().map(|logged| (**logged).clone()).collect(),
        }
    }
}
