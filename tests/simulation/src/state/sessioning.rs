//! The sessions, as in `workers/sessioning`: an ended one stays as a tombstone.

use std::collections::{BTreeMap, BTreeSet};

use concert_wire::id::{ActionId, FlowId};

use super::{Call, Outcome, Plan, Written};

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) created_by: ActionId,
    pub(crate) ended_by: Option<ActionId>,
}

pub(crate) struct Sessions {
    stamps: bool,
    has_cutoffs: bool,
    /// By token.
    pub(crate) all: BTreeMap<String, Session>,
    /// By user: the latest position in the log before which no login leaves a live session, and the
    /// flow that set it.
    cutoffs: BTreeMap<String, (u64, FlowId)>,
    /// The ids of the actions that ended all sessions of a user, once each.
    pub(crate) sweeps: BTreeSet<ActionId>,
}

/// Derived from the action id; the real one also uses a key.
pub(crate) fn token(action: ActionId) -> String {
    format!("token-{action}")
}

fn not_found() -> Outcome {
    Outcome::refused("Session not found")
}

impl Sessions {
    pub(super) fn new(stamps: bool, has_cutoffs: bool) -> Self {
        Self {
            stamps,
            has_cutoffs,
            all: BTreeMap::new(),
            cutoffs: BTreeMap::new(),
            sweeps: BTreeSet::new(),
        }
    }

    pub(super) fn user(&self, token: &str) -> Option<String> {
        let session = self.all.get(token).filter(|session| session.ended_by.is_none());
        session.map(|session| session.user.clone())
    }

    pub(super) fn read(&self, call: Call<'_>) -> Plan {
        let write = Plan::Write { seen: String::new() };
        if matches!(call.action, "create" | "deleteAll") {
            return write;
        }
        match self.all.get(call.text("session")) {
            None => Plan::Answer(not_found()),
            Some(session) => match session.ended_by {
                None => write,
                Some(by) => Plan::Answer(self.ended(call, by)),
            },
        }
    }

    fn ended(&self, call: Call<'_>, by: ActionId) -> Outcome {
        if self.stamps && by == call.id { Outcome::done([]) } else { not_found() }
    }

    /// The first delivery stores the list of sessions to end, so that a later one ends no newer
    /// session. The real worker ends them in several steps.
    fn end_all(&mut self, call: Call<'_>) -> Written {
        let done = Outcome::done([]);
        if !self.sweeps.insert(call.id) && self.stamps {
            return Written::Before(done);
        }
        let user = call.text("user");
        if let Some(position) = call.position {
            let cutoff = self.cutoffs.entry(user.to_owned()).or_insert((0, call.flow));
            if position.cause > cutoff.0 {
                *cutoff = (position.cause, call.flow);
            }
        }
        let live = self.all.values_mut().filter(|session| session.ended_by.is_none());
        for session in live.filter(|session| session.user == user) {
            session.ended_by = Some(call.id);
        }
        Written::Now(done)
    }

    fn is_cut_off(&self, call: Call<'_>, user: &str) -> bool {
        let (Some(position), Some((cutoff, flow))) = (call.position, self.cutoffs.get(user)) else {
            return false;
        };
        self.has_cutoffs && position.root < *cutoff && call.flow != *flow
    }

    pub(super) fn write(&mut self, call: Call<'_>) -> Written {
        if call.action == "create" {
            let token = token(call.id);
            let done = Outcome::done([("session", token.clone().into())]);
            if self.all.contains_key(&token) {
                return Written::Before(done);
            }
            let user = call.text("user").to_owned();
            let ended_by = self.is_cut_off(call, &user).then_some(call.id);
            let session = Session { user, created_by: call.id, ended_by };
            self.all.insert(token, session);
            return Written::Now(done);
        }
        if call.action == "deleteAll" {
            return self.end_all(call);
        }
        let standing = self.all.get(call.text("session")).and_then(|session| session.ended_by);
        if let Some(by) = standing {
            return Written::Before(self.ended(call, by));
        }
        match self.all.get_mut(call.text("session")) {
            Some(session) => {
                session.ended_by = Some(call.id);
                Written::Now(Outcome::done([]))
            }
            None => Written::Now(not_found()),
        }
    }
}
