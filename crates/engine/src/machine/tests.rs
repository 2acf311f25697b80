//! The engine with small programs, step by step, and in a model that delivers messages in every
//! order a queue allows.

mod faults;
mod large;
mod limits;
mod memory;
mod mismatch;
mod nested;
mod steps;
mod world;

use std::num::NonZeroUsize;
use std::sync::Arc;

use concert_lang::source::SourceFile;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::ActionId;
use serde_json::{Value, json};

use super::*;
use crate::{Context, Question};

const SHOP: &str = "
concept Shop
purpose sell things
actions
    price (item: String) : (cents: Number)
    price (item: String) : (error: String)
    sell (item: String, cents: Number) : (sale: Sale)
        effects adds a Sale
    sell (item: String, cents: Number) : (error: String)
    pack (sale: Sale) : (parcel: Parcel)
        effects adds a Parcel
    note (text: String) : ()
        effects adds a Note
    describe (item: String, text?: String | null, note?: String) : ()
queries
    _stock (item: String) : (count: Number)
    _owner (item: String) : (user: User)?
    _tags (item: String) : (tag: String)*
    _all (tags: seq of String) : (tag: String)*
    _friends (user: User) : (friend: User)*
    _events (user: User) : (event: String)*
";

fn program(syncs: &str) -> Program {
    let concepts = [concert_lang::requesting::source(), SourceFile::new("Shop.concept", SHOP)];
    match concert_lang::compile(&concepts, &[SourceFile::new("test.sync", syncs)]) {
        Ok((program, _)) => program,
        Err(report) => panic!("{report}"),
    }
}

/// Rules of a request with one call and a response; an `else` may follow.
const ASK: &str = r#"
sync Ask
when
    Requesting.request (path: "/price", item) : (request)
then
    Shop.price (item) : (cents)
    Requesting.respond (request, cents)
"#;

const BUY: &str = r#"
sync Buy
when
    Requesting.request (path: "/buy", item) : (request)
then
    Shop.price (item) : (cents)
    Shop.sell (item, cents) : (sale)
    Requesting.respond (request, sale, cents)
else (error)
    Shop.note (text: error)
    Requesting.respond (request, error, status: 409)
"#;

/// An engine whose publishes are stored immediately, with its log.
struct Bench {
    engine: Engine,
    flow: FlowId,
    seq: u64,
    /// The rows that queries return, by `_query {input}`.
    rows: HashMap<String, Value>,
    asked: Vec<String>,
}

impl Bench {
    fn new(syncs: &str) -> Self {
        Self::with(syncs, Limits::default())
    }

    fn with(syncs: &str, limits: Limits) -> Self {
        Self {
            engine: Engine::new(&program(syncs), limits),
            flow: ActionId::injected("S", 1, 1).as_root(),
            seq: 0,
            rows: HashMap::new(),
            asked: Vec::new(),
        }
    }

    /// Sets the rows that a query returns from now on.
    fn answer(&mut self, query: &str, input: Value, rows: Value) {
        self.rows.insert(format!("{query} {input}"), rows);
    }

    fn rows_of(&mut self, question: &Question) -> Vec<Object> {
        let key = format!("{} {}", question.query, Value::Object(question.input.clone()));
        let rows = self.rows.get(&key).unwrap_or_else(|| panic!("no rows for {key}"));
        let rows = serde_json::from_value(rows.clone()).unwrap();
        self.asked.push(key);
        rows
    }

    fn logged(&mut self, name: &str, id: ActionId, input: Value, output: Value) -> Logged {
        self.seq += 1;
        let (concept, action) = name.split_once('.').unwrap();
        let object = |value: Value| value.as_object().unwrap().clone();
        let body = Completion { input: object(input), output: object(output) };
        Logged {
            seq: self.seq,
            flow: self.flow,
            concept: concept.into(),
            action: action.into(),
            id,
            body,
            bytes: 100,
            context: Context::default(),
        }
    }

    fn request(&mut self, input: Value) -> Vec<Invocation> {
        let (id, output) = (self.flow.root(), json!({ "request": self.flow.to_string() }));
        let logged = self.logged("Requesting.request", id, input, output);
        self.deliver(logged)
    }

    fn complete(&mut self, invocation: &Invocation, output: Value) -> Vec<Invocation> {
        let name = format!("{}.{}", invocation.concept, invocation.action);
        let logged = self.logged(&name, invocation.id, body(invocation), output);
        self.deliver(logged)
    }

    /// Returns the calls of a delivery, and asserts that the acknowledgement follows all of its
    /// effects. Runs queries, and delivers firing records.
    fn deliver(&mut self, logged: Logged) -> Vec<Invocation> {
        let seq = logged.seq;
        let mut found = Vec::new();
        let mut records = Vec::new();
        let mut effects = self.engine.step(Event::Delivered(logged));
        let mut to_store = 0;
        let mut acknowledged = false;
        while !effects.is_empty() || to_store > 0 {
            if effects.is_empty() {
                to_store -= 1;
                effects = self.engine.step(Event::Stored { seq });
                continue;
            }
            assert!(!acknowledged, "acknowledged too early");
            match effects.remove(0) {
                Effect::Invoke { invocation, .. } | Effect::Complete { invocation, .. } => {
                    to_store += 1;
                    found.push(invocation);
                }
                Effect::Record { record, .. } => {
                    to_store += 1;
                    records.push(record);
                }
                Effect::Ask { batch, .. } => {
                    let rows = batch.questions().map(|question| self.rows_of(&question)).collect();
                    effects.extend(self.engine.step(Event::Answered { seq, batch, rows }));
                }
                Effect::Ack { .. } => {
                    assert_eq!(to_store, 0, "acknowledged too early");
                    acknowledged = true;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(acknowledged);
        for record in records {
            let body: Value = serde_json::from_slice(&record.body).unwrap();
            let logged = self.logged(
                "Concert.fired",
                record.id,
                body["input"].clone(),
                body["output"].clone(),
            );
            found.extend(self.deliver(logged));
        }
        found
    }
}

fn body(invocation: &Invocation) -> Value {
    serde_json::from_slice(&invocation.body).unwrap()
}

/// The calls as `Concept.action {input}`, sorted.
fn shown(invocations: &[Invocation], flow: FlowId) -> Vec<String> {
    let show = |invocation: &Invocation| {
        format!("{}.{} {}", invocation.concept, invocation.action, body(invocation))
    };
    let mut shown: Vec<String> = invocations
        .iter()
        .map(|invocation| show(invocation).replace(&flow.to_string(), "FLOW"))
        .collect();
    shown.sort_unstable();
    shown
}

#[track_caller]
fn check(bench: &Bench, invocations: &[Invocation], expected: &[&str]) {
    assert_eq!(shown(invocations, bench.flow), expected);
}

#[test]
fn calls_of_then_run_in_order_and_bind_outputs() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    check(&bench, &price, &[r#"Shop.price {"item":"tea"}"#]);
    let sell = bench.complete(&price[0], json!({"cents": 250}));
    check(&bench, &sell, &[r#"Shop.sell {"item":"tea","cents":250}"#]);
    let respond = bench.complete(&sell[0], json!({"sale": "s1"}));
    check(&bench, &respond, &[r#"Requesting.respond {"request":"FLOW","sale":"s1","cents":250}"#]);
    let end = bench.complete(&respond[0], json!({}));
    check(&bench, &end, &[]);
}

#[test]
fn log_without_active_rules_retries_its_messages() {
    let mut bench = Bench::new(BUY);
    bench.engine = Engine::without_rules(Limits::default());
    let root = bench.flow.root();
    let output = json!({ "request": bench.flow.to_string() });
    let logged =
        bench.logged("Requesting.request", root, json!({"path": "/buy", "item": "tea"}), output);
    let seq = logged.seq;
    let effects = bench.engine.step(Event::Delivered(logged));
    assert_eq!(effects, [Effect::ReadRules { at_least: seq }]);
    let nothing = Event::RulesRead { through: seq, history: vec![] };
    assert_eq!(bench.engine.step(nothing), [Effect::Retry { seq }]);
}

#[test]
fn failed_call_ends_then_and_runs_else_once() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    let sell = bench.complete(&price[0], json!({"cents": 250}));
    let note = bench.complete(&sell[0], json!({"error": "sold out"}));
    check(&bench, &note, &[r#"Shop.note {"text":"sold out"}"#]);
    let respond = bench.complete(&note[0], json!({}));
    check(
        &bench,
        &respond,
        &[r#"Requesting.respond {"request":"FLOW","error":"sold out","status":409}"#],
    );
    let end = bench.complete(&respond[0], json!({"error": "no"}));
    check(&bench, &end, &[]);
}

#[test]
fn pattern_matches_failures_only_if_it_names_error() {
    let mut bench = Bench::new(
        r#"
sync Ask
when
    Requesting.request (path: "/price", item) : (request)
then
    Shop.price (item)

sync Tell
when
    Requesting.request (path: "/price") : (request)
    Shop.price (item: "tea") : (cents)
then
    Requesting.respond (request, cents)

sync Excuse
when
    Requesting.request (path: "/price") : (request)
    Shop.price () : (error)
then
    Requesting.respond (request, error, status: 404)
"#,
    );
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let response = bench.complete(&price[0], json!({"cents": 1}));
    check(&bench, &response, &[r#"Requesting.respond {"request":"FLOW","cents":1}"#]);
    bench.flow = ActionId::injected("S", 2, 2).as_root();
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let excused = bench.complete(&price[0], json!({"error": "no tea"}));
    check(
        &bench,
        &excused,
        &[r#"Requesting.respond {"request":"FLOW","error":"no tea","status":404}"#],
    );
    bench.flow = ActionId::injected("S", 3, 3).as_root();
    let price = bench.request(json!({"path": "/price", "item": "milk"}));
    let nothing = bench.complete(&price[0], json!({"cents": 1}));
    check(&bench, &nothing, &[]);
}

#[test]
fn rule_fires_once_per_assignment_of_distinct_completions() {
    let mut bench = Bench::new(
        r#"
sync Two
when
    Requesting.request (path: "/two") : (request)
then
    Shop.price (item: "a")

sync Other
when
    Requesting.request (path: "/two") : (request)
then
    Shop.price (item: "b")

sync Pair
when
    Shop.price (item: one) : (cents)
    Shop.price (item: two) : (cents)
then
    Shop.note (text: one + two)
"#,
    );
    let prices = bench.request(json!({"path": "/two"}));
    check(&bench, &prices, &[r#"Shop.price {"item":"a"}"#, r#"Shop.price {"item":"b"}"#]);
    let first = bench.complete(&prices[0], json!({"cents": 1}));
    check(&bench, &first, &[]);
    let pairs = bench.complete(&prices[1], json!({"cents": 1.0}));
    check(&bench, &pairs, &[r#"Shop.note {"text":"ab"}"#, r#"Shop.note {"text":"ba"}"#]);
}

#[test]
fn missing_optional_key_binds_null_and_can_be_omitted() {
    let mut bench = Bench::new(
        r#"
sync Maybe
when
    Requesting.request (path: "/maybe", title?) : (request)
then
    Requesting.respond (request, title, kept?: title)
"#,
    );
    let found = bench.request(json!({"path": "/maybe"}));
    check(&bench, &found, &[r#"Requesting.respond {"request":"FLOW","title":null}"#]);
    bench.flow = ActionId::injected("S", 2, 2).as_root();
    let found = bench.request(json!({"path": "/maybe", "title": "x"}));
    check(&bench, &found, &[r#"Requesting.respond {"request":"FLOW","title":"x","kept":"x"}"#]);
}

#[test]
fn router_responds_to_an_unhandled_fault_but_not_a_refusal() {
    const ASK: &str = r#"
sync Ask
when
    Requesting.request (path: "/price", item) : (request)
then
    Shop.price (item)
"#;
    let mut bench = Bench::new(ASK);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let answer = bench.complete(&price[0], json!({"error": "late", "fault": "deadline"}));
    check(
        &bench,
        &answer,
        &[
            r#"Requesting.respond {"request":"FLOW","status":504,"error":"The request was not finished in time."}"#,
        ],
    );
    let mut bench = Bench::new(ASK);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let nothing = bench.complete(&price[0], json!({"error": "no tea"}));
    check(&bench, &nothing, &[]);
}

#[test]
fn undeclared_error_gets_500_unless_the_request_has_a_response() {
    const NOTE: &str = r#"
sync Note
when
    Requesting.request (path: "/note") : (request)
then
    Shop.note (text: "x")

sync Answer
when
    Requesting.request (path: "/note", answer: true) : (request)
then
    Requesting.respond (request)
"#;
    let mut bench = Bench::new(NOTE);
    let note = bench.request(json!({"path": "/note"}));
    let answer = bench.complete(&note[0], json!({"error": "burnt"}));
    check(
        &bench,
        &answer,
        &[
            r#"Requesting.respond {"request":"FLOW","status":500,"error":"The action Shop.note failed."}"#,
        ],
    );
    let mut bench = Bench::new(NOTE);
    let both = bench.request(json!({"path": "/note", "answer": true}));
    let (respond, note) =
        if &*both[0].action == "respond" { (&both[0], &both[1]) } else { (&both[1], &both[0]) };
    bench.complete(respond, json!({}));
    let nothing = bench.complete(note, json!({"error": "burnt"}));
    check(&bench, &nothing, &[]);
}

const LOOP: &str = r#"
sync Begin
when
    Requesting.request (path: "/loop") : (request)
then
    Shop.note (text: "x")

sync Again
when
    Shop.note (text)
then
    Shop.note (text: text + "x")
"#;

/// Runs a loop until the engine stops it. Returns the number of actions and the last response.
fn run_loop(limits: Limits) -> (u64, String) {
    let mut bench = Bench::with(LOOP, limits);
    let mut next = bench.request(json!({"path": "/loop"}));
    let mut answers = Vec::new();
    while let Some(invocation) = next.pop() {
        if &*invocation.action == "respond" {
            answers.push(invocation.clone());
        }
        assert!(bench.seq < 2000, "the loop does not stop");
        next.extend(bench.complete(&invocation, json!({})));
    }
    assert_eq!(answers.len(), 1);
    (bench.seq, shown(&answers, bench.flow).remove(0))
}

#[test]
fn loop_stops_at_each_limit_with_one_response() {
    let limits = Limits { actions_per_flow: 10, ..Limits::default() };
    let (actions, answer) = run_loop(limits);
    assert_eq!(actions, 11);
    assert_eq!(
        answer,
        r#"Requesting.respond {"request":"FLOW","status":508,"error":"The request was stopped: the flow reached the limit of actions."}"#
    );
    let (actions, answer) = run_loop(Limits { depth: 5, ..Limits::default() });
    assert_eq!(actions, 7);
    assert!(answer.contains("limit of depth"), "{answer}");
    let (_, answer) = run_loop(Limits {
        body_bytes: 200,
        actions_per_flow: 1000,
        depth: 1000,
        ..Limits::default()
    });
    assert!(answer.contains("limit of size"), "{answer}");
}

#[test]
fn failed_publish_retries_the_completion() {
    let mut bench = Bench::new(BUY);
    let root = {
        let (id, output) = (bench.flow.root(), json!({ "request": bench.flow.to_string() }));
        bench.logged("Requesting.request", id, json!({"path": "/buy", "item": "tea"}), output)
    };
    let first = bench.engine.step(Event::Delivered(root.clone()));
    assert!(matches!(first.as_slice(), [Effect::Invoke { .. }]));
    // A redelivery during the publish changes nothing.
    assert_eq!(bench.engine.step(Event::Delivered(root.clone())), []);
    assert_eq!(bench.engine.step(Event::NotStored { seq: 1 }), [Effect::Retry { seq: 1 }]);
    assert_eq!(bench.engine.step(Event::Delivered(root)), first);
}

#[test]
fn flow_with_a_missed_message_is_read_again() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    let sold = bench.logged("Shop.price", price[0].id, json!({"item": "tea"}), json!({"cents": 1}));
    // Another router received sequence 2, which may belong to this flow.
    let sold = Logged { seq: 3, ..sold };
    let read = Effect::ReadFlow { flow: bench.flow, at_least: 3 };
    assert_eq!(bench.engine.step(Event::Delivered(sold.clone())), std::slice::from_ref(&read));
    let root = bench.logged(
        "Requesting.request",
        bench.flow.root(),
        json!({"path": "/buy", "item": "tea"}),
        json!({"request": "r"}),
    );
    let root = Logged { seq: 1, ..root };
    // A read that does not include the delivered message is repeated.
    assert_eq!(
        bench.engine.step(Event::FlowRead {
            flow: bench.flow,
            through: 2,
            log: vec![root.clone()]
        }),
        [read]
    );
    let effects =
        bench.engine.step(Event::FlowRead { flow: bench.flow, through: 3, log: vec![sold, root] });
    assert!(
        matches!(effects.as_slice(), [Effect::Invoke { seq: 3, invocation }] if &*invocation.action == "sell"),
        "{effects:?}"
    );
}

#[test]
fn completion_without_its_root_is_dead_lettered() {
    let mut bench = Bench::new(BUY);
    bench.seq = 9;
    let orphan = bench.logged(
        "Requesting.request",
        ActionId::injected("S", 5, 5),
        json!({"path": "/buy", "item": "tea"}),
        json!({"request": "r"}),
    );
    assert_eq!(
        bench.engine.step(Event::Delivered(orphan.clone())),
        [Effect::ReadFlow { flow: bench.flow, at_least: 10 }]
    );
    let effects =
        bench.engine.step(Event::FlowRead { flow: bench.flow, through: 10, log: vec![orphan] });
    assert!(matches!(effects.as_slice(), [Effect::DeadLetter { seq: 10, .. }]), "{effects:?}");
}
