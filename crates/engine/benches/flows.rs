//! Flows for the engine's benchmarks.

use std::collections::VecDeque;

use concert_engine::{Context, Effect, Engine, Event, Invocation, Limits, Logged};
use concert_lang::compile;
use concert_lang::program::Program;
use concert_lang::requesting;
use concert_lang::source::SourceFile;
use concert_wire::envelope::Completion;
use concert_wire::id::{ActionId, FlowId};
use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::{Value, json};

const SHOP: &str = "
concept Shop
purpose sell things
actions
    price (item: String) : (cents: Number)
    price (item: String) : (error: String)
    sell (item: String, cents: Number) : (sale: Sale)
        effects adds a Sale
    note (text: String) : ()
        effects adds a Note
";

/// A request with a response after three actions, and one that calls an action for each item of its
/// list.
const RULES: &str = r#"
sync Ask
when
    Requesting.request (path: "/buy", item) : (request)
then
    Shop.price (item)

sync Buy
when
    Requesting.request (path: "/buy", item) : (request)
    Shop.price () : (cents)
then
    Shop.sell (item, cents) : (sale)
    Shop.note (text: sale)
    Requesting.respond (request, sale, cents)

sync Refuse
when
    Requesting.request (path: "/buy") : (request)
    Shop.price () : (error)
then
    Requesting.respond (request, error)

sync AskForAll
when
    Requesting.request (path: "/all", items) : (request)
where
    each item in items
then
    Shop.price (item)

sync NoteAll
when
    Requesting.request (path: "/all") : (request)
    Shop.price (item) : (cents)
then
    Shop.note (text: item)
"#;

/// Rules as in a large application: for other paths, about the same actions.
fn program(rules: usize) -> Program {
    let others = (0..rules.saturating_sub(5)).map(|number| {
        let path = number / 2;
        if number % 2 == 0 {
            format!(
                "sync Start{path}\nwhen\n    Requesting.request (path: \"/other/{path}\", item) : (request)\nthen\n    Shop.price (item)\n\n"
            )
        } else {
            format!(
                "sync Answer{path}\nwhen\n    Requesting.request (path: \"/other/{path}\", item) : (request)\n    Shop.price () : (cents)\nthen\n    Requesting.respond (request, item, cents)\n\n"
            )
        }
    });
    let text = others.fold(RULES.to_owned(), |all, rule| all + "\n" + &rule);
    let concepts = [requesting::source(), SourceFile::new("Shop.concept", SHOP)];
    match compile(&concepts, &[SourceFile::new("rules.sync", text)]) {
        Ok((program, _)) => program,
        Err(report) => panic!("{report}"),
    }
}

fn limits() -> Limits {
    Limits { frames_per_firing: 2000, ..Limits::default() }
}

/// The log of a flow with `length` completions, created by running it.
fn flow(engine: &mut Engine, number: u64, first_seq: u64, length: usize) -> Vec<Logged> {
    let flow = ActionId::injected("bench", number, 1_700_000_000_000_000_000).as_root();
    let input = match length {
        5 => json!({"path": "/buy", "item": "tea"}),
        _ => {
            let items: Vec<String> =
                (0..(length - 1) / 2).map(|item| format!("item {item}")).collect();
            json!({"path": "/all", "items": items})
        }
    };
    let output = json!({ "request": flow.to_string() });
    let mut waiting =
        VecDeque::from([(flow.root(), "Requesting.request".to_owned(), input, output)]);
    let mut log = Vec::new();
    while let Some((id, name, input, output)) = waiting.pop_front() {
        let logged = logged(flow, first_seq + log.len() as u64, id, &name, input, output);
        log.push(logged.clone());
        deliver(engine, logged, |invocation| {
            let name = format!("{}.{}", invocation.concept, invocation.action);
            let output = match &*invocation.action {
                "price" => json!({"cents": 250}),
                "sell" => json!({"sale": "s1"}),
                _ => json!({}),
            };
            let input = serde_json::from_slice(&invocation.body).unwrap();
            waiting.push_back((invocation.id, name, input, output));
        });
    }
    log
}

fn logged(flow: FlowId, seq: u64, id: ActionId, name: &str, input: Value, output: Value) -> Logged {
    let (concept, action) = name.split_once('.').unwrap();
    let object = |value: Value| value.as_object().unwrap().clone();
    Logged {
        seq,
        flow,
        concept: concept.into(),
        action: action.into(),
        id,
        body: Completion { input: object(input), output: object(output) },
        bytes: 100,
        context: Context::default(),
    }
}

/// Delivers one completion and stores all its effects.
fn deliver(engine: &mut Engine, logged: Logged, mut emit: impl FnMut(Invocation)) {
    let seq = logged.seq;
    for effect in engine.step(Event::Delivered(logged)) {
        match effect {
            Effect::Invoke { invocation, .. } | Effect::Complete { invocation, .. } => {
                divan::black_box(engine.step(Event::Stored { seq }));
                emit(invocation);
            }
            Effect::Ack { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

const FLOWS: usize = 64;

/// Runs flows one after another, in the order of the log.
pub(crate) fn run(bencher: Bencher<'_, '_>, rules: usize, length: usize) {
    let program = program(rules);
    let [mut engine, mut generator] = [(); 2].map(|()| Engine::new(&program, limits()));
    let (mut number, mut seq) = (0, 1);
    let probe = flow(&mut Engine::new(&program, limits()), u64::MAX, 1, length).len();
    let flows = (FLOWS * 5 / length).max(1);
    bencher
        .counter(ItemsCount::new(flows * probe))
        .with_inputs(|| {
            let mut log = Vec::new();
            for _ in 0..flows {
                let next = flow(&mut generator, number, seq, length);
                number += 1;
                seq += next.len() as u64;
                log.extend(next);
            }
            log
        })
        .bench_local_values(|log| {
            for logged in log {
                deliver(&mut engine, logged, |invocation| drop(divan::black_box(invocation)));
            }
        });
}
