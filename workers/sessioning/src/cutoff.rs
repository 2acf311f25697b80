//! Cutoffs: log positions before which no login of a user may leave a live session.
//!
//! A login reads the password after its request is in the log. If a change of the password makes
//! the old one invalid, then the request of every login with the old one has a position before the
//! completion of the change. [`Sessioning::delete_all`](crate::Sessioning) stores this position,
//! and a session that is created for an earlier request is ended immediately.

use concert_worker::store::{Documents, doc};
use concert_worker::{Call, FlowId, Start, StartError, Stop};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// The cutoff of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cutoff {
    /// Flows whose root has an earlier position in the log are cut off.
    position: i64,
    /// The flow that stored the cutoff; its own new session stays.
    flow: String,
}

impl Cutoff {
    /// Returns whether a session of this flow, whose root has this position, must end.
    pub(crate) fn ends(&self, flow: FlowId, root: u64) -> bool {
        position(root) < self.position && self.flow != flow.to_string()
    }

    /// Returns whether the cutoff belongs to the log with this end. A later position belongs to a
    /// log that was replaced.
    pub(crate) fn is_of_log(&self, end: u64) -> bool {
        self.position <= position(end) + 1
    }
}

/// The cutoffs of all users.
pub(crate) struct Cutoffs(Documents<Cutoff>);

impl Cutoffs {
    pub(crate) async fn open(start: &Start<Settings>) -> Result<Self, StartError> {
        Ok(Self(start.documents("cutoffs").open().await?))
    }

    /// Stores the position of the action's cause as the cutoff of the user, if it is later than the
    /// stored one.
    pub(crate) async fn store<I>(&self, call: &Call<I>, user: &str) -> Result<(), Stop> {
        let end = call.log_end().await?;
        let cutoff = match call.position {
            Some(position) => position.cause,
            // An injected action has no cause in the log: every flow so far is cut off.
            None if call.is_root() => end + 1,
            // A router of an earlier release invoked the action.
            None => return Ok(()),
        };
        let cutoff = position(cutoff);
        let known = doc! { "$ifNull": ["$position", -1_i64] };
        let is_later = doc! { "$or": [
            { "$gt": [cutoff, known.clone()] },
            { "$gt": [known, position(end) + 1] },
        ] };
        let flow = doc! { "$literal": call.flow.to_string() };
        let set = doc! {
            "position": { "$cond": [is_later.clone(), cutoff, "$position"] },
            "flow": { "$cond": [is_later, flow, "$flow"] },
            "purge_at": { "$max": ["$purge_at", self.0.kept_until()] },
        };
        self.0.upsert(call.permit().await?, user, vec![doc! { "$set": set }]).await
    }

    /// Returns whether the cutoff of the user ends a session that this action creates.
    pub(crate) async fn apply_to<I>(&self, call: &Call<I>, user: &str) -> Result<bool, Stop> {
        // An injected action follows from no login.
        let Some(position) = call.position else { return Ok(false) };
        let Some(cutoff) = self.0.get(user).await? else { return Ok(false) };
        let cutoff = cutoff.value;
        Ok(cutoff.ends(call.flow, position.root) && cutoff.is_of_log(call.log_end().await?))
    }
}

fn position(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use concert_worker::ActionId;

    use super::*;

    fn flow(number: u64) -> FlowId {
        ActionId::injected("S", number, 1).as_root()
    }

    #[test]
    fn cutoff_ends_earlier_flows_of_the_same_log_except_its_own() {
        let cutoff = Cutoff { position: 10, flow: flow(1).to_string() };
        for (number, root, end, expected) in [
            (2, 9, 20, true),
            (2, 10, 20, false),
            (2, 11, 20, false),
            (1, 9, 20, false),
            // An injected action stores the position after the end of the log.
            (2, 9, 9, true),
            // The log was replaced, and is shorter.
            (2, 3, 8, false),
        ] {
            let ends = cutoff.ends(flow(number), root) && cutoff.is_of_log(end);
            assert_eq!(ends, expected, "{number} {root} {end}");
        }
    }

    /// A login with the old password and a change of the password, as their atomic steps.
    #[derive(Debug, Clone, Default)]
    struct Model {
        log_end: u64,
        is_changed: bool,
        cutoff: Option<Cutoff>,
        login_root: u64,
        is_recognized: bool,
        login_is_live: bool,
        change_done: u64,
        listed_login: bool,
        fresh_is_live: bool,
    }

    const LOGIN: u64 = 1;
    const CHANGE: u64 = 2;

    impl Model {
        fn append(&mut self) -> u64 {
            self.log_end += 1;
            self.log_end
        }

        fn is_cut_off(&self, number: u64, root: u64) -> bool {
            let cutoff = self.cutoff.as_ref();
            cutoff.is_some_and(|cutoff| {
                cutoff.ends(flow(number), root) && cutoff.is_of_log(self.log_end)
            })
        }

        /// Runs a step of the login; returns whether there are more.
        fn login(&mut self, step: usize) -> bool {
            match step {
                0 => self.login_root = self.append(),
                1 => self.is_recognized = !self.is_changed,
                2 => drop(self.append()),
                3 => self.login_is_live = self.is_recognized,
                _ => self.login_is_live &= !self.is_cut_off(LOGIN, self.login_root),
            }
            step < 4
        }

        /// Runs a step of the change, whose root is at position 1; returns whether there are more.
        fn change(&mut self, step: usize) -> bool {
            match step {
                0 => self.is_changed = true,
                1 => self.change_done = self.append(),
                2 => {
                    let position = position(self.change_done);
                    self.cutoff = Some(Cutoff { position, flow: flow(CHANGE).to_string() });
                }
                3 => self.listed_login = self.login_is_live,
                4 => self.login_is_live &= !self.listed_login,
                5 => self.fresh_is_live = true,
                _ => self.fresh_is_live &= !self.is_cut_off(CHANGE, 1),
            }
            step < 6
        }

        /// Runs all orders of the remaining steps, and returns their number.
        fn run(self, login: Option<usize>, change: Option<usize>) -> usize {
            let mut orders = 0;
            if let Some(step) = login {
                let mut next = self.clone();
                let has_more = next.login(step);
                orders += next.run(has_more.then_some(step + 1), change);
            }
            if let Some(step) = change {
                let mut next = self.clone();
                let has_more = next.change(step);
                orders += next.run(login, has_more.then_some(step + 1));
            }
            if login.is_none() && change.is_none() {
                assert!(!self.login_is_live, "the old password left a session: {self:?}");
                assert!(self.fresh_is_live, "the new session ended: {self:?}");
                return 1;
            }
            orders
        }
    }

    #[test]
    fn no_order_of_login_and_password_change_leaves_a_session_of_the_old_password() {
        let model = Model { log_end: 1, ..Model::default() };
        assert_eq!(model.run(Some(0), Some(0)), 792);
    }
}
