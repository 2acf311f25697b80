//! Checks a response against what the client knows.

use concert_wire::envelope::{ERROR, Object};
use serde_json::Value;

use super::{Account, Client, Request, Sent, Token, TokenState};
use crate::coverage::Mark;
use crate::state::State;

impl Client {
    /// A request got no response; it may have taken effect, or may still do so.
    pub(super) fn knows_nothing_of(&mut self, request: &Request) {
        if let Request::Logout(Some(at)) = request
            && let Some(token) = self.tokens.get_mut(*at)
        {
            token.become_unsure();
        }
    }

    /// Handles a response; returns an error if it cannot be right.
    pub(super) fn learns(
        &mut self,
        sent: &Sent,
        answer: &Object,
        state: &State,
    ) -> Result<Mark, String> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
        let error = answer.contains_key(ERROR);
        let status = answer.get("status").and_then(Value::as_f64).map_or(0, |status| status as u64);
        let late = error && (text(ERROR).contains("deadline") || status == 504);
        let is_stopped = error && status == 508;
        let fail = |what: &str| Err(what.to_owned());
        if late {
            self.knows_nothing_of(&sent.request);
            return Ok(Mark::DeadlinePassed);
        }
        if is_stopped {
            self.knows_nothing_of(&sent.request);
            return Ok(Mark::Stopped);
        }
        // Deleting an account ends its sessions, whose tokens then belong to no user.
        let is_gone =
            |user: &str| state.users.by_id(user).is_some_and(|user| user.deleted_by.is_some());
        match &sent.request {
            Request::Register { name } => {
                if error {
                    return if text(ERROR).contains("already exists") {
                        Ok(Mark::RegisterRefused)
                    } else {
                        fail("the registration should have failed")
                    };
                }
                let user = text("user").to_owned();
                if state.users.by_id(&user).is_none_or(|user| user.username != **name) {
                    return fail("an unknown account");
                }
                let password =
                    sent.body.get("password").and_then(Value::as_str).unwrap_or_default();
                self.accounts.push(Account {
                    name,
                    user,
                    password: password.to_owned(),
                    is_certain: true,
                });
                Ok(Mark::RegisterDone)
            }
            Request::Login { account, is_right, .. } => {
                let known = account
                    .and_then(|at| self.accounts.get(at))
                    .filter(|account| account.is_certain);
                if error {
                    return match known {
                        Some(_) if *is_right => fail("the right password is rejected"),
                        _ => Ok(Mark::LoginRefused),
                    };
                }
                if !is_right || known.is_some_and(|account| account.user != text("user")) {
                    return fail("the wrong password is accepted");
                }
                let (token, user) = (text("session").to_owned(), text("user").to_owned());
                if state.sessions.all.get(&token).is_none_or(|session| session.user != user) {
                    return fail("an unknown session");
                }
                let state = TokenState::Live;
                self.tokens.push(Token { token, user, state });
                Ok(Mark::LoginDone)
            }
            Request::Logout(at) => {
                let Some(token) = at.and_then(|at| self.tokens.get_mut(at)) else {
                    return if error {
                        Ok(Mark::LogoutRefused)
                    } else {
                        fail("an invented session was ended")
                    };
                };
                let was = std::mem::replace(&mut token.state, TokenState::Ended);
                match (was, error) {
                    (TokenState::Live, true) if is_gone(&token.user) => Ok(Mark::LogoutRefused),
                    (TokenState::Live, true) => fail("a live session is unknown"),
                    (TokenState::Ended, false) => fail("an ended session was ended"),
                    (_, true) => Ok(Mark::LogoutRefused),
                    (_, false) => Ok(Mark::LogoutDone),
                }
            }
            Request::Whoami(at) => {
                let Some(token) = at.and_then(|at| self.tokens.get_mut(at)) else {
                    return if error {
                        Ok(Mark::WhoamiRefused)
                    } else {
                        fail("an invented session is accepted")
                    };
                };
                match (token.state, error) {
                    (_, true) if is_gone(&token.user) => {
                        token.become_unsure();
                        Ok(Mark::WhoamiRefused)
                    }
                    (TokenState::Live, true) => fail("a live session is rejected"),
                    (TokenState::Ended, false) => fail("an ended session is accepted"),
                    (_, true) => {
                        token.state = TokenState::Ended;
                        Ok(Mark::WhoamiRefused)
                    }
                    (_, false) if token.user != text("user") => fail("a session of another user"),
                    (_, false) => Ok(Mark::WhoamiDone),
                }
            }
            Request::Buy(_) if error => match text(ERROR) {
                "sold out" => Ok(Mark::BoughtNothing),
                _ => fail("rejected without a reason"),
            },
            Request::Buy("ghost") => fail("an item that does not exist was sold"),
            Request::Buy(_) => Ok(Mark::Bought),
            Request::Show("ghost") if error => Ok(Mark::ShownNothing),
            Request::Show(item) if error || *item == "ghost" => {
                fail("an existing item is not shown")
            }
            Request::Show(_) => Ok(Mark::Shown),
            Request::Compare => {
                let number = |key: &str| answer.get(key).and_then(Value::as_f64);
                match (number("one"), number("other")) {
                    (Some(1.0), Some(3.0)) => Ok(Mark::Compared),
                    _ => fail("a wrong comparison"),
                }
            }
            Request::Count(_) if error => fail("not counted to the end"),
            Request::Count(_) => Ok(Mark::Counted),
            Request::Spin => fail("an endless flow was not stopped"),
            Request::BuyAll if error => fail("rejected without a reason"),
            Request::BuyAll => Ok(Mark::BoughtAll),
        }
    }
}
