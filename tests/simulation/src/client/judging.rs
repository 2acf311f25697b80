//! What an answer must be, given what the client knows.

use concert_wire::envelope::{ERROR, Object};
use serde_json::Value;

use super::{Account, Client, Request, Sent, Token, TokenState};
use crate::coverage::Mark;
use crate::state::State;

impl Client {
    /// A request was not answered; it may have been carried out, or may still be.
    pub(super) fn knows_nothing_of(&mut self, request: &Request) {
        if let Request::Logout(Some(at)) = request
            && let Some(token) = self.tokens.get_mut(*at)
        {
            token.become_unsure();
        }
    }

    /// Takes an answer; the error is why it cannot be right.
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
        // Who deletes an account ends its sessions, and its sessions are nobody's from then on.
        let is_gone =
            |user: &str| state.users.by_id(user).is_some_and(|user| user.deleted_by.is_some());
        match &sent.request {
            Request::Register { name } => {
                if error {
                    return if text(ERROR).contains("already exists") {
                        Ok(Mark::RegisterRefused)
                    } else {
                        fail("registered for no reason")
                    };
                }
                let user = text("user").to_owned();
                if state.users.by_id(&user).is_none_or(|user| user.username != **name) {
                    return fail("an account that is not there");
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
                        Some(_) if *is_right => fail("the right password is refused"),
                        _ => Ok(Mark::LoginRefused),
                    };
                }
                if !is_right || known.is_some_and(|account| account.user != text("user")) {
                    return fail("the wrong password is taken");
                }
                let (token, user) = (text("session").to_owned(), text("user").to_owned());
                if state.sessions.all.get(&token).is_none_or(|session| session.user != user) {
                    return fail("a session that is not there");
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
                    (TokenState::Live, true) => fail("a live session is not there"),
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
                        fail("an invented session is taken")
                    };
                };
                match (token.state, error) {
                    (_, true) if is_gone(&token.user) => {
                        token.become_unsure();
                        Ok(Mark::WhoamiRefused)
                    }
                    (TokenState::Live, true) => fail("a live session is refused"),
                    (TokenState::Ended, false) => fail("an ended session is taken"),
                    (_, true) => {
                        token.state = TokenState::Ended;
                        Ok(Mark::WhoamiRefused)
                    }
                    (_, false) if token.user != text("user") => fail("somebody else's session"),
                    (_, false) => Ok(Mark::WhoamiDone),
                }
            }
            Request::Buy(_) if error => match text(ERROR) {
                "sold out" => Ok(Mark::BoughtNothing),
                _ => fail("refused for no reason"),
            },
            Request::Buy("ghost") => fail("a ghost was sold"),
            Request::Buy(_) => Ok(Mark::Bought),
            Request::Show("ghost") if error => Ok(Mark::ShownNothing),
            Request::Show(item) if error || *item == "ghost" => fail("what is there is not shown"),
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
            Request::BuyAll if error => fail("refused for no reason"),
            Request::BuyAll => Ok(Mark::BoughtAll),
        }
    }
}
