//! The concepts' state in the database: one atomic operation on one document at a time, each
//! stamped with the id of its action.

mod profile;
mod sessioning;
mod shop;

use concert_wire::envelope::{ERROR, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::position::Position;
use serde_json::Value;

pub(crate) use self::profile::Users;
pub(crate) use self::sessioning::Sessions;
pub(crate) use self::shop::{Shop, sale};

/// The outcome of an action.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Done(Object),
    Refused(String),
}

impl Outcome {
    pub(crate) fn done<const N: usize>(output: [(&str, Value); N]) -> Self {
        Self::Done(output.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    pub(crate) fn output(self) -> Object {
        match self {
            Self::Done(output) => output,
            Self::Refused(why) => Object::from_iter([(ERROR.to_owned(), Value::String(why))]),
        }
    }
}

/// The decision of a handler after its reads.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Nothing to write.
    Answer(Outcome),
    /// Write if the condition still holds.
    Write {
        /// The condition of the write.
        seen: String,
    },
}

/// The result of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// Written now.
    Now(Outcome),
    /// Written at an earlier delivery of the same action.
    Before(Outcome),
    /// The condition no longer holds; the action is retried.
    Again,
}

/// An action with its input.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) id: ActionId,
    pub(crate) flow: FlowId,
    pub(crate) position: Option<Position>,
    pub(crate) action: &'a str,
    pub(crate) input: &'a Object,
}

impl Call<'_> {
    /// A text of the input, or an empty one.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.input.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, key: &str) -> i64 {
        self.input.get(key).and_then(Value::as_f64).unwrap_or_default() as i64
    }
}

/// The state of all concepts. No concept reads another's.
pub(crate) struct State {
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) shop: Shop,
}

impl State {
    /// `stamps` and `cutoffs` are false if that guard is disabled.
    pub(crate) fn new(stamps: bool, cutoffs: bool) -> Self {
        Self {
            users: Users::new(stamps),
            sessions: Sessions::new(stamps, cutoffs),
            shop: Shop::new(stamps),
        }
    }

    /// Runs the handler up to its write.
    pub(crate) fn read(&self, concept: &str, call: Call<'_>) -> Plan {
        match concept {
            "Profile" => self.users.read(call),
            "Sessioning" => self.sessions.read(call),
            _ => self.shop.read(call),
        }
    }

    /// Executes the one write of a handler.
    pub(crate) fn write(&mut self, concept: &str, call: Call<'_>, seen: &str) -> Written {
        match concept {
            "Profile" => self.users.write(call, seen),
            "Sessioning" => self.sessions.write(call),
            _ => self.shop.write(call),
        }
    }

    /// The current rows of a query.
    pub(crate) fn query(&self, name: &str, input: &Object) -> Vec<Object> {
        let text = |key| input.get(key).and_then(Value::as_str).unwrap_or_default();
        let rows: Vec<(&str, Value)> = match name {
            "_getUser" => {
                let user = self.sessions.user(text("session"));
                user.map(|user| ("user", user.into())).into_iter().collect()
            }
            "_getUserDetails" => {
                let name = self.users.name_of(text("user"));
                name.map(|name| ("username", name.into())).into_iter().collect()
            }
            "_stock" => {
                let stock = self.shop.stock(text("item"));
                stock.map(|count| ("count", count.into())).into_iter().collect()
            }
            _ => self.shop.buyers(text("item")).map(|sale| ("sale", sale.into())).collect(),
        };
        let row = |(key, value): (&str, Value)| Object::from_iter([(key.to_owned(), value)]);
        rows.into_iter().map(row).collect()
    }
}
