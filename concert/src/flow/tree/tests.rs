use serde_json::{Value, json};

use super::*;

fn action(id: &str, name: &str, seq: Option<u64>, by: Value, rest: Value) -> Value {
    let (concept, action) = name.split_once('.').unwrap();
    let mut one = json!({ "id": id, "concept": concept, "action": action, "asked_us": 1_000_000, "state": "completed" });
    let one = one.as_object_mut().unwrap();
    if let Some(seq) = seq {
        one.insert("seq".to_owned(), json!(seq));
        one.insert("completed_us".to_owned(), json!(1_000_000 + seq * 1500));
    }
    if !by.is_null() {
        one.insert("by".to_owned(), by);
    }
    one.extend(rest.as_object().unwrap().clone());
    Value::Object(one.clone())
}

fn failed_login() -> Flow {
    let by = |sync: &str, firing: &str, seq: u64| json!({ "sync": sync, "firing": firing, "cause_seq": seq });
    let firing = |id: &str, sync: &str, causes: Value, call: &str| {
        let frame = json!({ "bindings": {}, "ended": "then", "calls": [call] });
        json!({ "id": id, "sync": sync, "at_us": 1, "causes": causes, "frames": [frame] })
    };
    serde_json::from_value(json!({
        "flow": "f", "path": "/auth/login", "root": "r", "root_kind": "request", "began_us": 1_000_000, "ended_us": 1_021_400,
        "outcome": "failed", "status": 401, "answered_by": "RespondToFailedAuthentication", "rules": "v", "source": "log",
        "actions": [
            action("r", "Requesting.request", Some(1), Value::Null, json!({ "outcome": "success", "input": { "path": "/auth/login", "username": "a\u{1b}[31mda", "password": "sealed:k1:x" }, "output": {}, "completed_us": 1_000_000 })),
            action("a", "Profile.authenticate", Some(3), by("HandleLoginRequest", "x", 1), json!({
                "outcome": "refusal", "output": { "error": "Invalid username or password." },
                "work": { "took_us": 4100, "parts": [
                    { "name": "mongodb.find", "at_us": 1, "took_us": 300 }, { "name": "argon2id", "at_us": 320, "took_us": 3500 },
                    { "name": "mongodb.find", "at_us": 3900, "took_us": 150 },
                ] },
            })),
            action("s", "Requesting.respond", Some(5), by("RespondToFailedAuthentication", "y", 3), json!({ "outcome": "success", "input": { "request": "f", "status": 401, "error": "no" }, "output": {} })),
        ],
        "firings": [
            firing("x", "HandleLoginRequest", json!(["r"]), "a"),
            firing("y", "RespondToFailedAuthentication", json!(["r", "a"]), "s"),
        ],
        "near_misses": [{
            "sync": "CreateSessionOnSuccessfulAuthentication", "matched": [],
            "failed": { "pattern": 1, "text": "Profile.authenticate () : (user)", "why": "Profile.authenticate failed: `Invalid username or password.`" },
        }],
    }))
    .unwrap()
}

#[test]
fn failed_login_is_a_tree_followed_by_near_misses() {
    let expected = r#"flow f  request of /auth/login
1970-01-01T00:00:01.000Z  failed 401 in 7.5 ms, response by RespondToFailedAuthentication
from the log, rule version v

    +0.0 ms               Requesting.request  path "/auth/login", username "a\u001b[31mda", password sealed
                          └─ HandleLoginRequest
    +0.0 ms       4.5 ms     └─ Profile.authenticate  refused: Invalid username or password.  (waited 0.4 ms; mongodb.find 0.4 ms, argon2id 3.5 ms)
                                └─ RespondToFailedAuthentication
    +0.0 ms       7.5 ms           └─ Requesting.respond  status 401, error "no"

Near misses:
  CreateSessionOnSuccessfulAuthentication stopped at Profile.authenticate () : (user): Profile.authenticate failed: `Invalid username or password.`
"#;
    assert_eq!(of(&failed_login(), &Expiries::default(), Paint(false)), expected);
}

#[test]
fn firing_shows_its_queries_with_durations() {
    let mut flow = failed_login();
    for (work, expected) in [
        (
            "2900 Sessioning._getUser@0+1200 mongodb.find@300+600",
            "queried Sessioning._getUser 1.2 ms",
        ),
        (
            "2900 Sessioning._getUser@0+1200 Profile._getUserDetails@1200+900 Profile._getUserDetails@2100+800",
            "3 queries: Sessioning._getUser 1.2 ms, Profile._getUserDetails 1.7 ms",
        ),
        (
            "2900 Sessioning._getUser@0+1200 Profile._getUserDetails-20@1200+900",
            "2 queries: Sessioning._getUser 1.2 ms, Profile._getUserDetails with 20 inputs 0.9 ms",
        ),
    ] {
        flow.firings[1].work = work.parse().ok();
        let text = of(&flow, &Expiries::default(), Paint(false));
        let line = format!("RespondToFailedAuthentication  ({expected})\n");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn colours_appear_only_if_enabled() {
    let plain = of(&failed_login(), &Expiries::default(), Paint(false));
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let coloured = of(&failed_login(), &Expiries::default(), Paint(true));
    assert!(
        coloured.contains("\u{1b}[31mrefused: Invalid username or password.\u{1b}[0m"),
        "{coloured}"
    );
}

#[test]
fn in_flight_and_dead_actions_appear_under_their_caller() {
    let mut flow = failed_login();
    let respond = flow.actions.last_mut().unwrap();
    (respond.state, respond.seq, respond.completed_us, respond.outcome) =
        (State::InFlight, None, None, None);
    assert!(
        of(&flow, &Expiries::default(), Paint(false)).contains("└─ Requesting.respond  in flight")
    );
    let respond = flow.actions.last_mut().unwrap();
    respond.state = State::Dead;
    respond.dead = Some(concert_engine::provenance::Dead {
        reason: "given up after 3 attempts".to_owned(),
        attempts: Some(3),
        at_us: 0,
    });
    assert!(
        of(&flow, &Expiries::default(), Paint(false))
            .contains("Requesting.respond  dead-lettered: given up after 3 attempts")
    );
}
