//! Messages for workers and routers as only a broken or hostile client would send them, in the NATS
//! protocol itself.

use concert_tests::RawNats;
use fastrand::Rng;
use uuid::Uuid;

use crate::http::CANARY;
use crate::input::{mutate, object, one_of, value};

/// A message on any subject.
pub(crate) struct Message {
    subject: String,
    headers: Option<Vec<u8>>,
    body: Vec<u8>,
    /// The ID of an invocation that will be stored and must complete or be dead-lettered.
    pub(crate) id: Option<Uuid>,
}

/// A concept, its action or query, and its keys.
type Known = (&'static str, &'static str, Vec<(&'static str, String)>);

fn known() -> Vec<Known> {
    let text = |key: &'static str| (key, "fuzz".to_owned());
    let secret = |key: &'static str| (key, CANARY.to_owned());
    vec![
        ("Profile", "createAccount", vec![text("username"), secret("password")]),
        ("Profile", "authenticate", vec![text("username"), secret("password")]),
        (
            "Profile",
            "changePassword",
            vec![text("user"), secret("oldPassword"), secret("newPassword")],
        ),
        ("Profile", "deleteAccount", vec![text("user")]),
        ("Profile", "_getUserDetails", vec![text("user")]),
        ("Profile", "_getUserByName", vec![text("username")]),
        ("Sessioning", "create", vec![text("user")]),
        ("Sessioning", "delete", vec![secret("session")]),
        ("Sessioning", "deleteAll", vec![text("user")]),
        ("Sessioning", "deleteOthers", vec![text("user"), secret("session")]),
        ("Sessioning", "_getUser", vec![secret("session")]),
        ("Requesting", "respond", vec![text("request"), text("error")]),
        ("Requesting", "request", vec![text("path")]),
        ("Nobody", "nothing", vec![]),
    ]
}

impl Message {
    /// Publishes the message.
    pub(crate) async fn publish(&self, client: &mut RawNats) -> anyhow::Result<()> {
        client.publish(&self.subject, self.headers.as_deref(), &self.body).await
    }

    /// A random message on a random subject, possibly with headers that the client cannot parse.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let known = known();
        let (concept, action, keys) = one_of(rng, &known);
        let body = match rng.u8(..10) {
            0 => value(rng, 4).into_bytes(),
            1 => (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
            2 => vec![b'x'; rng.usize(..900_000)],
            _ => object(rng, keys),
        };
        let action = match rng.u8(..10) {
            0 => token(rng),
            _ => (*action).to_owned(),
        };
        let id = Uuid::now_v7();
        let (subject, id) = match rng.u8(..10) {
            0 | 1 => (format!("action.{concept}.{action}"), None),
            2 => (format!("action.{concept}.{action}.{}", token(rng)), None),
            3 => (format!("concept.{concept}.{action}"), None),
            4 => (format!("done.{id}.{concept}.{action}.{id}"), None),
            5 => (format!("done.{}.{concept}.{action}.{}", token(rng), Uuid::now_v7()), None),
            6 => (format!("done.{id}.Concert.fired.{}", Uuid::now_v7()), None),
            _ => {
                let is_kept = !["Nobody", "Requesting"].contains(concept);
                (format!("action.{concept}.{action}.{id}"), is_kept.then_some(id))
            }
        };
        let headers = (rng.u8(..3) != 0).then(|| headers(rng));
        // The server parses its own headers, and may reject a message with a malformed block.
        let id = id.filter(|_| headers.is_none());
        Self { subject, headers, body, id }
    }
}

/// A token of a subject.
fn token(rng: &mut Rng) -> String {
    match rng.u8(..5) {
        0 => Uuid::now_v7().to_string().to_uppercase(),
        1 => "x".repeat(rng.usize(1..300)),
        2 => "00000000-0000-0000-0000-000000000000".to_owned(),
        3 => "é$%&{}\"".to_owned(),
        _ => (0..rng.usize(1..12)).map(|_| rng.alphanumeric()).collect(),
    }
}

/// One in this many blocks crashes the client that reads it, and its process.
const CRASH_ONE_IN: u16 = 500;

fn headers(rng: &mut Rng) -> Vec<u8> {
    let mut block = String::from("NATS/1.0\r\n");
    for _ in 0..rng.usize(..4) {
        let name = one_of(
            rng,
            &[
                "Concert-Flow",
                "Concert-Reply",
                "Concert-Deadline",
                "Concert-Cause",
                "Concert-Sync",
                "traceparent",
                "Nats-Expected-Last-Subject-Sequence",
                "X-Anything",
            ],
        );
        let value = match rng.u8(..8) {
            0 => Uuid::now_v7().to_string(),
            1 => "action.Sessioning.deleteAll".to_owned(),
            2 => "_INBOX.fuzz.1".to_owned(),
            3 => "0".to_owned(),
            4 => "99999999999999999999999".to_owned(),
            5 => "-1".to_owned(),
            6 => "y".repeat(rng.usize(..5_000)),
            _ => token(rng),
        };
        block.push_str(&format!("{name}: {value}\r\n"));
    }
    block.push_str("\r\n");
    let mut bytes = block.into_bytes();
    if rng.u8(..5) == 0 {
        mutate(rng, &mut bytes);
        for at in 0..bytes.len() {
            let is_bare = bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) != Some(&b'\n');
            if let Some(byte) = bytes.get_mut(at).filter(|_| is_bare) {
                *byte = b' ';
            }
        }
    }
    if rng.u16(..CRASH_ONE_IN) == 0 {
        bytes = b"NATS/1.0\r\nConcert-Sync: a\rb\r\n\r\n".to_vec();
    }
    bytes
}
