//! The limits of a flow.

use super::*;

const FAN_OUT: &str = r#"
sync FanOut
when
    Requesting.request (path: "/fan", items) : (request)
where
    each item in items
then
    Shop.price (item)
"#;

fn joins(patterns: &[&str], condition: &str) -> String {
    let patterns: String =
        patterns.iter().map(|item| format!("    Shop.price (item: {item}) : (cents)\n")).collect();
    format!("{FAN_OUT}\nsync Join\nwhen\n{patterns}{condition}then\n    Shop.note (text: a)\n")
}

/// Runs a fan-out of 400 actions to its end. Returns the number of actions that were called, the
/// responses, and the log.
fn fan_out(bench: &mut Bench) -> (usize, Vec<String>, Vec<Logged>) {
    let items: Vec<String> = (0..400).map(|item| format!("i{item}")).collect();
    let output = json!({ "request": bench.flow.to_string() });
    let input = json!({ "path": "/fan", "items": items });
    let root = bench.logged("Requesting.request", bench.flow.root(), input, output);
    let mut log = vec![root.clone()];
    let mut waiting = bench.deliver(root);
    let (mut called, mut responses) = (waiting.len(), Vec::new());
    while let Some(invocation) = waiting.pop() {
        let name = format!("{}.{}", invocation.concept, invocation.action);
        if name == "Requesting.respond" {
            responses.push(shown(std::slice::from_ref(&invocation), bench.flow).remove(0));
        }
        let output = if name == "Shop.price" { json!({ "cents": 1 }) } else { json!({}) };
        let logged = bench.logged(&name, invocation.id, body(&invocation), output);
        log.push(logged.clone());
        let next = bench.deliver(logged);
        called += next.len();
        waiting.extend(next);
    }
    (called, responses, log)
}

#[track_caller]
fn check_stopped(responses: &[String], limit: &str) {
    assert_eq!(
        responses,
        [format!(
            r#"Requesting.respond {{"request":"FLOW","status":508,"error":"The request was stopped: the flow reached the limit of {limit}."}}"#
        )]
    );
}

#[test]
fn join_over_siblings_stops_at_the_limit_of_join_steps() {
    let syncs = joins(&["a", "b", "c"], "where\n    a == b + c\n");
    let mut bench = Bench::new(&format!("{syncs}\n{BUY}"));
    let (called, responses, log) = fan_out(&mut bench);
    assert_eq!(called, 401, "the fan-out, and the response");
    check_stopped(&responses, "join steps");

    // Another flow continues.
    bench.flow = ActionId::injected("S", 2, 2).as_root();
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    check(&bench, &price, &[r#"Shop.price {"item":"tea"}"#]);

    // A restarted router reads the stopped flow, and calls nothing.
    let (last, flow) = (log.last().unwrap().clone(), log[0].flow);
    let mut restarted = Engine::new(&program(&syncs), Limits::default());
    let (seq, through) = (last.seq, last.seq);
    let read = restarted.step(Event::Delivered(last));
    assert_eq!(read, [Effect::ReadFlow { flow, at_least: seq }]);
    let effects = restarted.step(Event::FlowRead { flow, through, log });
    assert_eq!(effects, [Effect::Ack { seq }]);
}

#[test]
fn called_actions_count_towards_the_limit_of_actions() {
    let mut bench = Bench::new(&joins(&["a", "b"], ""));
    let (called, responses, _) = fan_out(&mut bench);
    assert!((400..=1000).contains(&called), "{called}");
    check_stopped(&responses, "actions");
}

#[test]
fn fan_out_over_the_limit_of_actions_calls_nothing() {
    let limits = Limits { actions_per_flow: 400, ..Limits::default() };
    let mut bench = Bench::with(FAN_OUT, limits);
    let (called, responses, _) = fan_out(&mut bench);
    assert_eq!(called, 1);
    check_stopped(&responses, "actions");
    let limits = Limits { actions_per_flow: 401, ..Limits::default() };
    let mut bench = Bench::with(FAN_OUT, limits);
    let prices = fan_out(&mut bench).0;
    assert_eq!(prices, 401, "the fan-out, and the response at the last of its completions");
}

#[test]
fn queries_of_one_completion_are_limited() {
    let query = |rule: &str, prefix: &str| {
        format!(
            "{}where\n    each item in items\n    some Shop._owner (item: \"{prefix}\" + item)\nthen\n    Shop.price (item)\n",
            FAN_OUT.split("where").next().unwrap().replace("FanOut", rule)
        )
    };
    let syncs: String = ["a", "b", "c"].map(|rule| query(&rule.to_uppercase(), rule)).concat();
    let mut bench = Bench::new(&syncs);
    let items: Vec<String> = (0..400).map(|item| format!("i{item}")).collect();
    let respond = bench.request(json!({ "path": "/fan", "items": items }));
    check_stopped(&shown(&respond, bench.flow), "queries for one action");
    assert!(bench.asked.is_empty());
}
