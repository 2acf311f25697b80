//! Provenance of flows of the project's rules, run by the real engine, with the outcomes that a
//! test chooses.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails if it cannot read its files"
)]

#[path = "../../lang/tests/files/project.rs"]
mod project;
#[path = "../../lang/tests/files/specs.rs"]
mod specs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use concert_engine::provenance::{self, DeadLetter, Flow, Outcome, Rules, Source, State, Stored};
use concert_engine::{Context, Effect, Engine, Event, Invocation, Limits, Logged};
use concert_lang::compile;
use concert_lang::program::Program;
use concert_lang::source::SourceFile;
use concert_wire::envelope::{Completion, Object, encode};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::subject;
use serde_json::{Value, json};

use crate::project::files;
use crate::specs::specs;

fn program() -> Program {
    compiled(&files("syncs", "sync"))
}

fn compiled(syncs: &[SourceFile]) -> Program {
    let compiled = compile(&specs(), syncs);
    compiled.unwrap_or_else(|report| panic!("{report}")).0
}

/// The outcome of each action; `None` leaves it in flight.
type Ends<'a> = &'a dyn Fn(&str, &Value) -> Option<Value>;

/// The messages of a flow.
#[derive(Default)]
struct Played {
    messages: Vec<Stored>,
    /// The calls of the engine, with the sequence of their cause.
    asked: Vec<(u64, Invocation)>,
}

struct Player<'a> {
    engine: Engine,
    flow: FlowId,
    ends: Ends<'a>,
    rows: &'a dyn Fn(&str) -> Vec<Value>,
    played: Played,
    waiting: VecDeque<(String, ActionId, Value)>,
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Times with one second between two messages.
fn time_us(seq: u64) -> u64 {
    1_700_000_000_000_000 + seq * 1_000_000
}

impl Player<'_> {
    fn store(&mut self, concept: &str, action: &str, id: ActionId, body: Completion) {
        // The log contains other flows, too.
        let seq = self.played.messages.last().map_or(10, |last| last.seq + 3);
        self.played.messages.push(Stored {
            work: None,
            seq,
            time_us: time_us(seq),
            subject: subject::completion(self.flow, concept, action, id),
            body: encode(&body),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        });
        let logged = Logged {
            seq,
            flow: self.flow,
            concept: concept.into(),
            action: action.into(),
            id,
            body,
            bytes: 100,
            context: Context::default(),
        };
        // The skipped sequences belong to other flows.
        for skipped in (seq.saturating_sub(2)..seq).filter(|_| seq > 10) {
            let reason = String::new();
            self.engine.step(Event::Undecodable { seq: skipped, reason });
        }
        let mut effects = VecDeque::from(self.engine.step(Event::Delivered(logged)));
        let mut records = Vec::new();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Invoke { seq, invocation } | Effect::Complete { seq, invocation, .. } => {
                    let input = serde_json::from_slice(&invocation.body).unwrap();
                    let name = format!("{}.{}", invocation.concept, invocation.action);
                    self.waiting.push_back((name, invocation.id, input));
                    self.played.asked.push((seq, invocation));
                    effects.extend(self.engine.step(Event::Stored { seq }));
                }
                Effect::Ask { seq, batch, .. } => {
                    let rows = (self.rows)(&format!("{}.{}", batch.concept, batch.query));
                    let rows: Vec<Object> = rows.into_iter().map(object).collect();
                    let rows = vec![rows; batch.inputs.len()];
                    effects.extend(self.engine.step(Event::Answered { seq, batch, rows }));
                }
                Effect::Record { seq, record } => {
                    records.push(record);
                    effects.extend(self.engine.step(Event::Stored { seq }));
                }
                Effect::Ack { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for record in records {
            let body = Completion::decode(&record.body).unwrap();
            self.store("Concert", "fired", record.id, body);
        }
    }
}

fn flow_id() -> FlowId {
    ActionId::injected("provenance", 1, 1).as_root()
}

fn play(
    program: &Program,
    request: Value,
    ends: Ends<'_>,
    rows: &dyn Fn(&str) -> Vec<Value>,
) -> Played {
    let flow = flow_id();
    let mut player = Player {
        engine: Engine::new(program, Limits::default()),
        flow,
        ends,
        rows,
        played: Played::default(),
        waiting: VecDeque::new(),
    };
    let body = Completion {
        input: object(request),
        output: object(json!({ "request": flow.to_string() })),
    };
    player.store("Requesting", "request", flow.root(), body);
    while let Some((name, id, input)) = player.waiting.pop_front() {
        let Some(output) = (player.ends)(&name, &input) else {
            continue;
        };
        let (concept, action) = name.split_once('.').unwrap();
        let body = Completion { input: object(input), output: object(output) };
        player.store(concept, action, id, body);
    }
    player.played
}

fn rules(program: &Program) -> Rules {
    Rules::new(Arc::new(program.clone()), Limits::default())
}

fn described(program: &Program, messages: &[Stored], dead: &[DeadLetter]) -> Flow {
    provenance::flow(flow_id(), messages, &rules(program), dead, Source::Log)
        .expect("the root exists")
}

fn no_rows(_: &str) -> Vec<Value> {
    Vec::new()
}

fn login(ends: Ends<'_>) -> (Program, Played) {
    let program = program();
    let request = json!({ "path": "/auth/login", "username": "ada", "password": "sealed:k1:x" });
    let played = play(&program, request, ends, &no_rows);
    (program, played)
}

fn well(name: &str, _: &Value) -> Option<Value> {
    Some(match name {
        "Profile.authenticate" => json!({ "user": "u1" }),
        "Sessioning.create" => json!({ "session": "sealed:k1:s" }),
        _ => json!({}),
    })
}

/// Concept and action, rule, state and outcome of each action.
fn lines(flow: &Flow) -> Vec<String> {
    let lines = flow.actions.iter().map(|action| {
        let by = action.by.as_ref().map_or("-", |by| by.sync.as_str());
        let outcome = action.outcome.as_deref().unwrap_or("-");
        format!("{}.{} {by} {:?} {outcome}", action.concept, action.action, action.state)
    });
    lines.collect()
}

#[test]
fn login_flow_names_the_rule_of_each_action() {
    let (program, played) = login(&well);
    let flow = described(&program, &played.messages, &[]);
    assert_eq!(
        lines(&flow),
        [
            "Requesting.request - Completed success",
            "Profile.authenticate HandleLoginRequest Completed success",
            "Sessioning.create CreateSessionOnSuccessfulAuthentication Completed success",
            "Requesting.respond CreateSessionOnSuccessfulAuthentication Completed success",
        ]
    );
    assert_eq!((flow.outcome, flow.status), (Outcome::Succeeded, Some(200)));
    assert_eq!(flow.path.as_deref(), Some("/auth/login"));
    assert_eq!(flow.answered_by.as_deref(), Some("CreateSessionOnSuccessfulAuthentication"));
    assert_eq!(flow.trace.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    let create = &flow.firings.last().unwrap();
    let ids: Vec<&String> = flow.actions.iter().map(|action| &action.id).collect();
    assert_eq!(
        create.causes.iter().collect::<Vec<_>>(),
        [ids[0], ids[1]],
        "in the order of the patterns"
    );
    assert_eq!(create.frames[0].calls.iter().collect::<Vec<_>>(), [ids[2], ids[3]]);
    assert_eq!(create.frames[0].bindings["user"], "u1");
    // An action is called when its cause is stored, and completed when its completion is stored.
    let [_, authenticate, create, respond] = flow.actions.as_slice() else {
        panic!("{flow:?}");
    };
    assert_eq!(authenticate.asked_us, flow.began_us);
    assert_eq!(authenticate.completed_us, Some(time_us(13)));
    assert_eq!(create.asked_us, time_us(13));
    assert_eq!(respond.asked_us, create.completed_us.unwrap());
    assert_eq!(respond.by.as_ref().unwrap().call, 1);
    let missed: Vec<&str> = flow.near_misses.iter().map(|miss| miss.sync.as_str()).collect();
    assert_eq!(missed, ["RespondToFailedAuthentication"]);
    assert_eq!(flow.near_misses[0].failed.why, "Profile.authenticate succeeded");
    let summary = flow.summary();
    assert_eq!(summary.took_us, 9_000_000);
    assert_eq!((summary.actions, summary.error), (4, None));
}

#[test]
fn failed_login_shows_the_rule_that_stopped() {
    let error = "Invalid username or password.";
    let (program, played) = login(&|name, input| match name {
        "Profile.authenticate" => Some(json!({ "error": error })),
        _ => well(name, input),
    });
    let flow = described(&program, &played.messages, &[]);
    assert_eq!((flow.outcome, flow.status), (Outcome::Failed, Some(401)));
    assert_eq!(flow.answered_by.as_deref(), Some("RespondToFailedAuthentication"));
    let miss = &flow.near_misses[0];
    assert_eq!(miss.sync, "CreateSessionOnSuccessfulAuthentication");
    assert_eq!(miss.matched.len(), 1);
    assert_eq!(miss.failed.pattern, Some(1));
    assert_eq!(miss.failed.text, "Profile.authenticate () : (user)");
    assert_eq!(miss.failed.key.as_deref(), Some("user"));
    assert_eq!(miss.failed.action.as_ref(), Some(&flow.actions[1].id));
    assert_eq!(miss.failed.why, format!("Profile.authenticate failed: `{error}`"));
    assert_eq!(flow.near_misses.len(), 1, "{:?}", flow.near_misses);
    assert_eq!(flow.summary().error.as_deref(), Some(error));
}

#[test]
fn pending_action_is_in_flight_and_dead_lettered_one_is_dead() {
    for (station, expected) in [
        ("Profile.authenticate", "Profile.authenticate HandleLoginRequest InFlight -"),
        (
            "Sessioning.create",
            "Sessioning.create CreateSessionOnSuccessfulAuthentication InFlight -",
        ),
        (
            "Requesting.respond",
            "Requesting.respond CreateSessionOnSuccessfulAuthentication InFlight -",
        ),
    ] {
        let (program, played) =
            login(&|name, input| if name == station { None } else { well(name, input) });
        let flow = described(&program, &played.messages, &[]);
        assert_eq!(lines(&flow).last().map(String::as_str), Some(expected));
        assert_eq!((flow.outcome, flow.status), (Outcome::Open, None));
        let last = flow.actions.last().unwrap();
        assert!(last.input.is_some() && last.output.is_none() && last.seq.is_none());
        let letter = DeadLetter {
            action: last.id.parse().unwrap(),
            reason: "attempts used up".to_owned(),
            attempts: Some(3),
            at_us: 5,
        };
        let flow = described(&program, &played.messages, &[letter]);
        let last = flow.actions.last().unwrap();
        assert_eq!((flow.outcome, last.state), (Outcome::Dead, State::Dead));
        assert_eq!(last.dead.as_ref().unwrap().attempts, Some(3));
    }
}

#[test]
fn rule_with_queries_is_read_from_its_record() {
    let program = program();
    let request = json!({ "path": "/auth/whoami", "session": "sealed:k1:s" });
    let rows = |name: &str| match name {
        "Sessioning._getUser" => vec![json!({ "user": "u1" })],
        "Profile._getUserDetails" => vec![json!({ "username": "ada" })],
        _ => Vec::new(),
    };
    let mut played = play(&program, request.clone(), &well, &rows);
    // All rules with queries at a completion share the record. A firing shows only its own queries.
    let record = played.messages.iter_mut().find(|message| message.subject.contains(".fired."));
    record.unwrap().work = Some("9000 Other._query@0+100 mongodb.find@20+60 Sessioning._getUser@100+1200 mongodb.find@300+600 Other._query@1300+50".to_owned());
    let flow = described(&program, &played.messages, &[]);
    let [firing] = flow.firings.as_slice() else {
        panic!("{:?}", flow.firings);
    };
    assert!(firing.recorded);
    let work = firing.work.as_ref().unwrap();
    let parts: Vec<(&str, u64)> =
        work.parts.iter().map(|part| (part.name.as_str(), part.at_us)).collect();
    assert_eq!(
        (work.took_us, parts),
        (9000, vec![("Sessioning._getUser", 100), ("mongodb.find", 300)])
    );
    assert_eq!(firing.frames[0].bindings["username"], "ada");
    assert_eq!((firing.frames[0].ended.as_str(), flow.status), ("then", Some(200)));
    assert!(lines(&flow).iter().all(|line| !line.contains("fired")), "a record is not an action");
    assert_eq!(flow.firings[0].at_us, time_us(13), "the record's time");

    let played = play(&program, request, &well, &no_rows);
    let flow = described(&program, &played.messages, &[]);
    assert_eq!((flow.firings[0].frames[0].ended.as_str(), flow.status), ("else", Some(401)));
    assert_eq!(flow.firings[0].frames[0].otherwise, Some(0));
}

#[test]
fn router_response_is_named_as_such() {
    let (program, played) = login(&|name, input| match name {
        "Profile.authenticate" => Some(json!({ "error": "busy", "fault": "unavailable" })),
        _ => well(name, input),
    });
    let flow = described(&program, &played.messages, &[]);
    assert_eq!(flow.answered_by.as_deref(), Some("Concert.fault"));
    assert_eq!((flow.outcome, flow.status), (Outcome::Fault, Some(503)));
    let whys: BTreeSet<&str> =
        flow.near_misses.iter().map(|miss| miss.failed.why.as_str()).collect();
    assert!(whys.contains("Profile.authenticate ended in a fault: `busy`"), "{whys:?}");
}

#[test]
fn flow_at_a_limit_reports_it() {
    let (program, played) = login(&well);
    let limits = Limits { depth: 1, ..Limits::default() };
    let rules = Rules::new(Arc::new(program), limits);
    let flow =
        provenance::flow(flow_id(), &played.messages[..2], &rules, &[], Source::Log).unwrap();
    let halt = flow.halt.unwrap();
    assert_eq!((halt.status, halt.why.as_str()), (508, "the flow reached the limit of depth"));
    assert_eq!(flow.actions.last().unwrap().by.as_ref().unwrap().sync, "Concert.limit");
}

#[test]
fn why_not_names_the_first_part_that_did_not_match() {
    let (program, played) = login(&well);
    let check = |name: &str, expected: &str| {
        let described = provenance::why_not(flow_id(), &played.messages, &rules(&program), name);
        assert_eq!(
            described.map_or_else(|error| error.to_string(), |described| described.text),
            expected
        );
    };
    check("HandleLoginRequest", "HandleLoginRequest fired once");
    check(
        "RespondToFailedAuthentication",
        "RespondToFailedAuthentication matched one action, then stopped at `Profile.authenticate () : (error)`: Profile.authenticate succeeded",
    );
    check(
        "RespondToFailedLogout",
        "RespondToFailedLogout stopped at `Requesting.request (path: \"/auth/logout\") : (request)`: `path` of Requesting.request is \"/auth/login\", not \"/auth/logout\"",
    );
    check(
        "EndSessionsOfDeletedAccount",
        "EndSessionsOfDeletedAccount stopped at `Profile.deleteAccount (user)`: Profile.deleteAccount has not happened",
    );
    check("Nothing", "there is no rule `Nothing` in this version of the rules");
    check(
        "HandleLoginRequests",
        "there is no rule `HandleLoginRequests` in this version of the rules; did you mean `HandleLoginRequest`?",
    );
}

#[test]
fn failed_join_names_its_variable_and_empty_step_its_number() {
    let rules = r#"
// allow C0501: only a test asks
sync Other
when
    Requesting.request (path: "/other", name) : (request)
    Profile.authenticate (username: name)
then
    Requesting.respond (request)

// allow C0501: only a test asks
sync Ask
when
    Requesting.request (path: "/other", other, password)
then
    Profile.authenticate (username: other, password)

// allow C0501: only a test asks
sync Filtered
when
    Requesting.request (path: "/other", name) : (request)
where
    let same = name == "ada"
    same
then
    Requesting.respond (request)
"#;
    let program = compiled(&[SourceFile::new("other.sync".to_owned(), rules.to_owned())]);
    let request =
        json!({ "path": "/other", "name": "bob", "other": "eve", "password": "sealed:k1:x" });
    let played = play(&program, request, &well, &no_rows);
    let flow = described(&program, &played.messages, &[]);
    let whys: BTreeMap<&str, (&str, Option<usize>)> = flow
        .near_misses
        .iter()
        .map(|miss| (miss.sync.as_str(), (miss.failed.why.as_str(), miss.failed.step)))
        .collect();
    assert_eq!(
        whys["Other"].0,
        "`username` of Profile.authenticate differs from the earlier `name`"
    );
    assert_eq!(whys["Filtered"], ("step 2 of its `where` left no frame", Some(1)));
}

/// A few outcomes for each action, by a number.
fn drawn(name: &str, draw: u64) -> Option<Value> {
    match draw % 5 {
        0 | 1 => well(name, &Value::Null),
        2 => Some(json!({ "error": "no" })),
        3 => Some(json!({ "error": "no", "fault": "invalid" })),
        _ => None,
    }
}

#[test]
fn provenance_has_exactly_the_calls_of_the_engine() {
    let program = program();
    // The requests below have the keys of these paths.
    let paths = program.routes.routes.keys().filter(|path| path.starts_with("/auth/"));
    let paths: Vec<&String> = paths.collect();
    let mut in_flight = 0;
    for seed in 0..3000_u64 {
        let draw = |salt: usize| {
            let mixed = (seed ^ (salt as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^ mixed >> 29
        };
        let path = paths[seed as usize % paths.len()];
        let mut request = json!({ "path": path });
        for key in ["username", "password", "session", "oldPassword", "newPassword"] {
            request[key] = json!(format!("{key}-value"));
        }
        let ends = |name: &str, _: &Value| drawn(name, draw(name.len()));
        let rows = |name: &str| match draw(name.len() + 100) % 3 {
            0 => Vec::new(),
            _ => vec![
                json!({ "user": "u1", "username": "ada", "id": "s1", "createdAt": "2026-01-01", "expiresAt": "2026-01-02" }),
            ],
        };
        let played = play(&program, request, &ends, &rows);
        let flow = described(&program, &played.messages, &[]);
        let asked: BTreeSet<(String, String, String, bool)> = played
            .asked
            .iter()
            .map(|(_, call)| {
                let id = call.id.to_string();
                let done = played.messages.iter().any(|message| message.subject.ends_with(&id));
                (id, format!("{}.{}", call.concept, call.action), call.sync.to_string(), done)
            })
            .collect();
        let found: BTreeSet<_> = flow
            .actions
            .iter()
            .filter_map(|action| {
                let by = action.by.as_ref()?;
                let done = action.state == State::Completed;
                in_flight += usize::from(!done);
                Some((
                    action.id.clone(),
                    format!("{}.{}", action.concept, action.action),
                    by.sync.clone(),
                    done,
                ))
            })
            .collect();
        assert_eq!(found, asked, "seed {seed}, {path}");
        for (seq, call) in &played.asked {
            let action =
                flow.actions.iter().find(|action| action.id == call.id.to_string()).unwrap();
            let by = action.by.as_ref().unwrap();
            assert_eq!(by.cause_seq, *seq, "seed {seed}: {action:?}");
            if let Some(id) = &by.firing {
                let firing = flow.firings.iter().find(|firing| firing.id == *id).unwrap();
                let causes: Vec<String> = call.causes.iter().map(ToString::to_string).collect();
                assert_eq!(firing.causes, causes, "seed {seed}");
                assert!(firing.frames[by.frame].calls.contains(&action.id), "seed {seed}");
            }
        }
        // Neither the order nor duplicates make a difference.
        let mut shuffled: Vec<Stored> = played.messages.iter().rev().cloned().collect();
        shuffled.extend(played.messages.iter().cloned());
        assert_eq!(described(&program, &shuffled, &[]), flow, "seed {seed}");
    }
    assert!(in_flight > 300, "{in_flight}");
}
