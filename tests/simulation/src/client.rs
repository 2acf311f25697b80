//! The clients: their requests, and the responses that they expect from what they know.

mod judging;

use std::rc::Rc;
use std::sync::Arc;

use concert_engine::{Context, Invocation};
use concert_wire::envelope::{Object, encode};
use concert_wire::id::{ActionId, FlowId};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::coverage::Mark;
use crate::packet::{Answer, Op, Process};
use crate::world::{OF_EACH, World, record};

const NAMES: [&str; 3] = ["ada", "bob", "cyd"];
const ITEMS: [&str; 3] = ["apple", "pear", "ghost"];
/// Maximum number of repetitions of a request with an `Idempotency-Key`.
const REPEATS: u32 = 3;

/// A request of a client.
#[derive(Debug, Clone)]
enum Request {
    Register {
        name: &'static str,
    },
    /// With the password of a known account, or with a wrong one.
    Login {
        name: &'static str,
        password: String,
        account: Option<usize>,
        is_right: bool,
    },
    /// With a known token, or with an invented one.
    Logout(Option<usize>),
    Whoami(Option<usize>),
    Buy(&'static str),
    Show(&'static str),
    Compare,
    Count(u64),
    Spin,
    BuyAll,
}

/// An account that this client created.
#[derive(Debug)]
struct Account {
    name: &'static str,
    user: String,
    password: String,
    /// No request that may change it is undecided.
    is_certain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenState {
    Live,
    /// A request may have ended it, or may still do so.
    Unsure,
    Ended,
}

/// A session of this client; no other client has its token.
#[derive(Debug)]
struct Token {
    token: String,
    user: String,
    state: TokenState,
}

#[derive(Debug)]
struct Sent {
    request: Request,
    body: Object,
    flow: FlowId,
    is_repeatable: bool,
    repeats: u32,
    /// The previous attempt got no response, and the request must be repeated.
    is_again: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    /// Requests that the client still sends.
    left: usize,
    number: u32,
    open: Option<Sent>,
    accounts: Vec<Account>,
    tokens: Vec<Token>,
}

impl Client {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        Self {
            left: 2 + chance.below(6),
            number: 0,
            open: None,
            accounts: Vec::new(),
            tokens: Vec::new(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.open.is_none()
    }

    fn choose(&self, chance: &mut Chance) -> Request {
        let name = chance.pick(&NAMES).unwrap_or("ada");
        let account = (!self.accounts.is_empty()).then(|| chance.below(self.accounts.len()));
        let token =
            (!self.tokens.is_empty() && !chance.one_in(8)).then(|| chance.below(self.tokens.len()));
        // A client without an account registers; then it logs in; then it uses its session.
        let has_live = self.tokens.iter().any(|token| token.state == TokenState::Live);
        let kind = match (account, has_live) {
            (None, _) => chance.pick(&[0, 0, 0, 1, 2, 3, 4]),
            (Some(_), false) => chance.pick(&[0, 1, 1, 1, 1, 2, 3, 4]),
            (Some(_), true) => chance.pick(&[0, 1, 2, 2, 3, 3, 4, 4]),
        };
        match kind {
            Some(0) => Request::Register { name },
            Some(1) => match account.and_then(|at| Some((at, self.accounts.get(at)?))) {
                Some((at, account)) => {
                    let is_right = !chance.one_in(4);
                    let password = if is_right { &account.password } else { "wrong" };
                    Request::Login {
                        name: account.name,
                        password: password.to_owned(),
                        account: Some(at),
                        is_right,
                    }
                }
                None => Request::Login {
                    name,
                    password: "guessed".to_owned(),
                    account: None,
                    is_right: false,
                },
            },
            Some(2) => Request::Logout(token),
            Some(3) => Request::Whoami(token),
            _ => Self::shopping(chance),
        }
    }

    fn shopping(chance: &mut Chance) -> Request {
        let item = chance.pick(&ITEMS).unwrap_or("apple");
        match chance.below(9) {
            0..3 => Request::Buy(item),
            3 => Request::Show(item),
            4 => Request::Compare,
            5 if chance.one_in(4) => Request::Spin,
            5 | 6 => Request::Count(1 + chance.ticks(3)),
            _ => Request::BuyAll,
        }
    }

    fn body(&self, request: &Request, chance: &mut Chance) -> Value {
        let token = |at: &Option<usize>| {
            let token = at.and_then(|at| self.tokens.get(at));
            token.map_or("invented", |token| token.token.as_str()).to_owned()
        };
        match request {
            Request::Register { name } => {
                json!({"path": "/auth/createAccount", "username": name, "password": format!("password {}", chance.below(1000))})
            }
            Request::Login { name, password, .. } => {
                json!({"path": "/auth/login", "username": name, "password": password})
            }
            Request::Logout(at) => json!({"path": "/auth/logout", "session": token(at)}),
            Request::Whoami(at) => json!({"path": "/auth/whoami", "session": token(at)}),
            Request::Buy(item) => json!({"path": "/shop/buy", "item": item}),
            Request::Show(item) => json!({"path": "/shop/show", "item": item}),
            Request::Compare => json!({"path": "/shop/compare", "left": "a", "right": "bcd"}),
            Request::Count(from) => json!({"path": "/shop/count", "from": from}),
            Request::Spin => json!({"path": "/shop/spin"}),
            Request::BuyAll => json!({"path": "/shop/buyAll", "items": ["apple", "pear", "pear"]}),
        }
    }

    /// Injected actions on the client's own account, without a rule.
    fn inject(&mut self, chance: &mut Chance) -> (&'static str, &'static str, Value) {
        match chance.below(4) {
            0 if !self.tokens.is_empty() => {
                let at = chance.below(self.tokens.len());
                if let Some(token) = self.tokens.get_mut(at) {
                    token.become_unsure();
                    return ("Sessioning", "delete", json!({ "session": token.token }));
                }
            }
            which @ (1 | 2) if !self.accounts.is_empty() => {
                let at = chance.below(self.accounts.len());
                if let Some(account) = self.accounts.get_mut(at) {
                    account.is_certain = false;
                    if which == 1 {
                        return ("Profile", "deleteAccount", json!({ "user": account.user }));
                    }
                    let input = json!({"user": account.user, "oldPassword": account.password, "newPassword": "new password"});
                    return ("Profile", "changePassword", input);
                }
            }
            _ => {}
        }
        let item = chance.pick(&["apple", "pear"]);
        ("Shop", "restock", json!({"item": item, "count": 1}))
    }
}

impl Token {
    fn become_unsure(&mut self) {
        if self.state == TokenState::Live {
            self.state = TokenState::Unsure;
        }
    }
}

impl World<'_> {
    /// A client sends a new request, or repeats one.
    pub(crate) fn let_a_client_act(&mut self) -> bool {
        // An edge accepts no requests before it has routes.
        if self.log.last() == 0 {
            return false;
        }
        let first = self.chance.below(self.clients.len());
        for next in 0..self.clients.len() {
            let number = (first + next) % self.clients.len();
            let Some(client) = self.clients.get_mut(number) else {
                continue;
            };
            let can_begin = client.open.is_none() && client.left > 0;
            let can_repeat = client.open.as_ref().is_some_and(|sent| sent.is_again);
            if can_begin && self.chance.one_in(6) {
                self.inject(number);
                return true;
            }
            if can_begin || can_repeat {
                let edge = self.chance.below(OF_EACH);
                if !self.runs(Process::Edge(edge)) {
                    return false;
                }
                self.ask(number, edge);
                return true;
            }
        }
        false
    }

    fn ask(&mut self, number: usize, edge: usize) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        client.number += 1;
        let sent = match client.open.take() {
            Some(mut sent) => {
                self.coverage.mark(Mark::RequestRepeated);
                sent.is_again = false;
                sent.repeats += 1;
                sent
            }
            None => {
                client.left -= 1;
                let request = client.choose(&mut self.chance);
                let body = client.body(&request, &mut self.chance);
                let is_repeatable = self.chance.one_in(2);
                let flow = if is_repeatable {
                    let mut digest = [0; 32];
                    let key = [client.number.to_be_bytes(), (number as u32).to_be_bytes()];
                    digest.iter_mut().zip(key.as_flattened()).for_each(|(to, from)| *to = *from);
                    FlowId::of_day(now, &digest)
                } else {
                    ActionId::injected(
                        "edge",
                        (number as u64) << 32 | u64::from(client.number),
                        now * 1_000_000,
                    )
                    .as_root()
                };
                let body = match body {
                    Value::Object(body) => body,
                    _ => Object::new(),
                };
                Sent { request, body, flow, is_repeatable, repeats: 0, is_again: false }
            }
        };
        let (flow, body, count) = (sent.flow, sent.body.clone(), client.number);
        record!(self, "client {number} sends {:?} to edge {edge}, flow {flow}", sent.request);
        if let Some(client) = self.clients.get_mut(number) {
            client.open = Some(sent);
        }
        self.edge_takes(edge, number, count, flow, body);
    }

    fn inject(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        client.left -= 1;
        let (concept, action, input) = client.inject(&mut self.chance);
        self.invoke_by_hand(concept, action, &input);
    }

    /// Injected purchases and sales, so that stock changes.
    pub(crate) fn trade(&mut self) {
        let (action, number) =
            if self.chance.one_in(2) { ("restock", "count") } else { ("sell", "cents") };
        self.invoke_by_hand("Shop", action, &json!({"item": "apple", number: 1}));
    }

    fn invoke_by_hand(&mut self, concept: &str, action: &str, input: &Value) {
        self.by_hand += 1;
        let id = ActionId::injected("hand", self.by_hand, self.now * 1_000_000);
        let asked = Rc::new(Invocation {
            flow: id.as_root(),
            concept: concept.into(),
            action: action.into(),
            id,
            body: encode(input),
            sync: Arc::from("injected"),
            rules: Arc::from(""),
            causes: std::iter::empty().collect(),
            position: None,
            context: Context::default(),
        });
        record!(self, "{action} {id} is injected");
        self.coverage.mark(Mark::Injected);
        let expected = self.reference.expect(asked.clone());
        self.must(expected);
        self.send(Op::Enqueue(asked));
    }

    pub(crate) fn client_hears(&mut self, number: usize, count: u32, answer: Answer) {
        let Some(client) = self.clients.get_mut(number).filter(|client| client.number == count)
        else {
            return;
        };
        let Some(mut sent) = client.open.take() else { return };
        let Answer::Responded(_, input) = answer else {
            if answer == Answer::Gone {
                self.coverage.mark(Mark::ConnectionLost);
            }
            if sent.is_repeatable && sent.repeats < REPEATS {
                sent.is_again = true;
                client.open = Some(sent);
            } else {
                client.knows_nothing_of(&sent.request);
            }
            return;
        };
        if sent.repeats > 0 {
            self.coverage.mark(Mark::RepeatedFoundAnswer);
        }
        match client.learns(&sent, &input, &self.state) {
            Ok(mark) => self.coverage.mark(mark),
            Err(what) => {
                self.breaks(format!("client {number}: {what}; {:?} got {input:?}", sent.request))
            }
        }
    }
}
