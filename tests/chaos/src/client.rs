//! The clients. Each has its own accounts, sends one request at a time, and checks each response
//! against what it knows. A request without a clear response may have taken effect, or may do so
//! later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use crate::history::{History, Request};

/// Part of every password, so that a search finds leaks.
pub const PASSWORD_MARK: &str = "unspoken-password";

/// State that the clients share.
pub struct Load {
    /// The base URL of the edge.
    pub address: SocketAddr,
    http: reqwest::Client,
    /// The history.
    pub history: Arc<History>,
    /// Permits to start a request.
    pub room: Semaphore,
    /// `true` if clients must stop.
    pub stop: AtomicBool,
    next: AtomicU64,
    /// Tokens with a logout that returned 200; they must never work again.
    pub ended: Mutex<Vec<String>>,
    /// Tokens that must work until the end, with their users.
    pub live: Mutex<Vec<(String, String)>>,
}

/// The result of a request with all its repetitions.
#[derive(Debug, Clone)]
pub enum Told {
    /// A definite response.
    Answer(u16, Value),
    /// The request may have taken effect, or may still do so.
    Unknown,
}

/// Response timeout; longer than the edge's own deadline.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of repetitions of a request with a key.
const REPEATS: u32 = 8;
/// Usernames that several clients try to register.
const WANTED_NAMES: u64 = 40;

impl Load {
    /// A load that has not started.
    ///
    /// # Errors
    /// The HTTP client cannot be created.
    pub fn new(address: SocketAddr, history: Arc<History>) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            http: reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?,
            history,
            room: Semaphore::new(0),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            ended: Mutex::default(),
            live: Mutex::default(),
        })
    }

    /// Returns whether no more requests may start.
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sends one request once.
    async fn once(&self, client: u64, path: &'static str, body: &Value, key: Option<&str>) -> Told {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let began_ms = self.history.now_ms();
        let mut request = self
            .http
            .post(format!("http://{}/api{path}", self.address))
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let (status, flow, answer) = match request.send().await {
            Ok(response) => {
                let (mut status, flow) = (response.status().as_u16(), flow_of(response.headers()));
                let answered_by = response.headers().get("concert-answered-by");
                // The edge no longer repeats a response with a secret; the first is lost.
                if status == 409 && answered_by.is_some_and(|by| by == "edge") {
                    status = 0;
                }
                match response.json::<Value>().await {
                    Ok(body) => (status, flow, body),
                    Err(error) => (0, flow, json!(error.to_string())),
                }
            }
            Err(error) => (0, None, json!(error.to_string())),
        };
        let shown = |value: &Value| {
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                for secret in ["session", "password", "oldPassword", "newPassword"] {
                    object.remove(secret);
                }
            }
            value
        };
        self.history.add(Request {
            client,
            path,
            about: shown(body).to_string(),
            key: key.map(str::to_owned),
            began_ms,
            ended_ms: self.history.now_ms(),
            status,
            flow,
            answer: shown(&answer),
        });
        if let Some(session) = answer.get("session").and_then(Value::as_str) {
            self.history.keep_secret(session);
        }
        match status {
            200..=499 => Told::Answer(status, answer),
            _ => Told::Unknown,
        }
    }

    /// Sends a request, and repeats one with a key until it has a definite response.
    async fn ask(
        &self,
        client: u64,
        rng: &mut fastrand::Rng,
        path: &'static str,
        body: &Value,
    ) -> Told {
        if rng.u8(..3) > 0 {
            return self.once(client, path, body, None).await;
        }
        let key = format!("{client}-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let began = day();
        for repeat in 0..REPEATS {
            if repeat > 1 && self.stopping() {
                break;
            }
            if let Told::Answer(status, answer) = self.once(client, path, body, Some(&key)).await {
                if repeat > 0 && began != day() {
                    return Told::Unknown;
                }
                // A repetition gets the same response.
                if rng.u8(..4) == 0
                    && let Told::Answer(again, repeated) =
                        self.once(client, path, body, Some(&key)).await
                    && (again, &repeated) != (status, &answer)
                    && began == day()
                {
                    self.history.violated(format!(
                        "{path} with key {key} returned {status} first and {again} {} later",
                        repeated.get("error").unwrap_or(&Value::Null)
                    ));
                }
                return Told::Answer(status, answer);
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(200..1500))).await;
        }
        Told::Unknown
    }

    /// Runs until it must stop.
    pub async fn client(self: Arc<Self>, number: u64, mut rng: fastrand::Rng) {
        while !self.stopping() {
            let user = User {
                load: self.clone(),
                client: number,
                name: format!("user-{}", self.next.fetch_add(1, Ordering::Relaxed)),
                password: format!("{PASSWORD_MARK}-{}", rng.u64(..)),
                id: String::new(),
            };
            user.live(&mut rng).await;
            if rng.u8(..4) == 0 {
                self.want_a_name(number, &mut rng).await;
            }
        }
    }

    /// Registers one of a few contested names; the checker verifies that each has one owner.
    async fn want_a_name(&self, client: u64, rng: &mut fastrand::Rng) {
        let username = format!("wanted-{}", rng.u64(..WANTED_NAMES));
        let body = json!({ "username": username, "password": format!("{PASSWORD_MARK}-wanted") });
        if let Told::Answer(status, answer) =
            self.ask(client, rng, "/auth/createAccount", &body).await
            && ![200, 409].contains(&status)
        {
            self.history.violated(format!("creating {username} returned {status} {answer}"));
        }
    }

    /// Queries the user of a token until it gets a response.
    pub async fn whose(&self, token: &str) -> Option<(u16, Value)> {
        for _ in 0..20 {
            if let Told::Answer(status, answer) =
                self.once(0, "/auth/whoami", &json!({ "session": token }), None).await
            {
                return Some((status, answer));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        None
    }
}

fn flow_of(headers: &HeaderMap) -> Option<String> {
    headers.get("concert-flow")?.to_str().ok().map(str::to_owned)
}

/// An account and its client.
struct User {
    load: Arc<Load>,
    client: u64,
    name: String,
    password: String,
    id: String,
}

impl User {
    fn wrong(&self, what: &str, status: u16, answer: &Value) {
        let mut answer = answer.clone();
        if let Some(object) = answer.as_object_mut() {
            object.remove("session");
        }
        self.load
            .history
            .violated(format!("client {} {}: {what}: {status} {answer}", self.client, self.name));
    }

    async fn ask(&self, rng: &mut fastrand::Rng, path: &'static str, body: &Value) -> Told {
        self.load.ask(self.client, rng, path, body).await
    }

    /// Runs the whole life of the account.
    async fn live(mut self, rng: &mut fastrand::Rng) {
        if !self.register(rng).await {
            return;
        }
        let mut others: Vec<String> = Vec::new();
        for _ in 0..rng.u8(2..6) {
            if self.load.stopping() {
                break;
            }
            if rng.u8(..5) == 0 && !self.log_in_wrongly(rng).await {
                return;
            }
            let Some(session) = self.log_in(rng).await else {
                continue;
            };
            if !self.is_taken_for_me(&session, rng, true).await {
                return;
            }
            match rng.u8(..10) {
                0 => others.push(session),
                1 => {
                    let Some(fresh) = self.change_password(&session, rng).await else {
                        return;
                    };
                    others.push(session);
                    self.load.ended.lock().await.append(&mut others);
                    others.push(fresh);
                }
                _ => self.log_out(session, rng).await,
            }
        }
        if rng.u8(..6) == 0
            && let Some(session) = others.pop()
        {
            let body = json!({ "session": session, "password": self.password });
            let gone = self.ask(rng, "/auth/deleteAccount", &body).await;
            if let Told::Answer(status, answer) = &gone {
                if *status == 200 {
                    let mut ended = self.load.ended.lock().await;
                    ended.append(&mut others);
                    ended.push(session);
                } else {
                    self.wrong("deleting the account of a live session", *status, answer);
                }
            }
            return;
        }
        let mut live = self.load.live.lock().await;
        live.extend(others.into_iter().map(|session| (session, self.id.clone())));
    }

    async fn register(&mut self, rng: &mut fastrand::Rng) -> bool {
        let body = json!({ "username": self.name, "password": self.password });
        let mut unclear = false;
        for _ in 0..3 {
            if unclear && self.load.stopping() {
                return false;
            }
            match self.ask(rng, "/auth/createAccount", &body).await {
                Told::Answer(200, answer) => {
                    let id = answer.get("user").and_then(Value::as_str).unwrap_or_default();
                    id.clone_into(&mut self.id);
                    return true;
                }
                // A request without a response created the account; the first login returns its id.
                Told::Answer(409, _) if unclear => return true,
                Told::Answer(status, answer) => {
                    self.wrong("creating an account under a new name", status, &answer);
                    return false;
                }
                Told::Unknown => unclear = true,
            }
        }
        false
    }

    async fn log_in(&mut self, rng: &mut fastrand::Rng) -> Option<String> {
        let body = json!({ "username": self.name, "password": self.password });
        let Told::Answer(status, answer) = self.ask(rng, "/auth/login", &body).await else {
            return None;
        };
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        match (status, text("session"), text("user")) {
            (200, Some(session), Some(user)) => {
                if self.id.is_empty() {
                    self.id.clone_from(&user);
                }
                if user != self.id {
                    self.wrong("logged in as another user", status, &answer);
                }
                Some(session)
            }
            _ => {
                self.wrong("logging in with the right password", status, &answer);
                None
            }
        }
    }

    async fn log_in_wrongly(&self, rng: &mut fastrand::Rng) -> bool {
        let body = json!({ "username": self.name, "password": format!("{PASSWORD_MARK}-wrong") });
        match self.ask(rng, "/auth/login", &body).await {
            Told::Answer(401, _) | Told::Unknown => true,
            Told::Answer(status, answer) => {
                self.wrong("logging in with a wrong password", status, &answer);
                false
            }
        }
    }

    async fn is_taken_for_me(&self, session: &str, rng: &mut fastrand::Rng, live: bool) -> bool {
        match self.ask(rng, "/auth/whoami", &json!({ "session": session })).await {
            Told::Unknown => true,
            Told::Answer(200, answer) if live => {
                let right = answer.get("user").and_then(Value::as_str) == Some(&self.id);
                if !right {
                    self.wrong("token of another user", 200, &answer);
                }
                right
            }
            Told::Answer(401, _) if !live => true,
            Told::Answer(status, answer) => {
                let what = if live { "a live session" } else { "an ended session" };
                self.wrong(what, status, &answer);
                false
            }
        }
    }

    /// Changes the password; the new session.
    async fn change_password(&mut self, session: &str, rng: &mut fastrand::Rng) -> Option<String> {
        let new = format!("{PASSWORD_MARK}-{}", rng.u64(..));
        let body = json!({ "session": session, "oldPassword": self.password, "newPassword": new });
        match self.ask(rng, "/auth/changePassword", &body).await {
            Told::Answer(200, answer) => {
                self.password = new;
                answer.get("session").and_then(Value::as_str).map(str::to_owned)
            }
            Told::Answer(status, answer) => {
                self.wrong("changing the password with a live session", status, &answer);
                None
            }
            // It is now unknown which password is right.
            Told::Unknown => None,
        }
    }

    async fn log_out(&self, session: String, rng: &mut fastrand::Rng) {
        let body = json!({ "session": session });
        let mut unclear = false;
        for _ in 0..4 {
            if unclear && self.load.stopping() {
                return;
            }
            match self.ask(rng, "/auth/logout", &body).await {
                Told::Unknown => unclear = true,
                Told::Answer(200, _) => return self.has_ended(session, rng).await,
                Told::Answer(404, _) if unclear => return self.has_ended(session, rng).await,
                Told::Answer(status, answer) => {
                    return self.wrong("logging out of a live session", status, &answer);
                }
            }
        }
    }

    async fn has_ended(&self, session: String, rng: &mut fastrand::Rng) {
        if !self.is_taken_for_me(&session, rng, false).await {
            return;
        }
        if rng.u8(..3) == 0
            && let Told::Answer(status, answer) =
                self.ask(rng, "/auth/logout", &json!({ "session": session })).await
            && status != 404
        {
            self.wrong("logging out of an ended session", status, &answer);
        }
        self.load.ended.lock().await.push(session);
    }
}

/// The day in UTC; a key identifies one request per day.
fn day() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() / (24 * 3600)
}
