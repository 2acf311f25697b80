//! The engine's cached flows, and their eviction.

use super::*;

/// The number of flows in memory.
fn kept(bench: &Bench) -> usize {
    bench.engine.flows.len()
}

#[test]
fn flow_is_cached_until_its_calls_and_response_are_done() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    assert_eq!(kept(&bench), 1);
    let sell = bench.complete(&price[0], json!({"cents": 250}));
    assert_eq!(kept(&bench), 1);
    let respond = bench.complete(&sell[0], json!({"sale": "s1"}));
    assert_eq!(kept(&bench), 1);
    bench.complete(&respond[0], json!({}));
    assert_eq!(kept(&bench), 0);
}

#[test]
fn flow_without_a_response_stays_cached() {
    let mut bench = Bench::new(
        r#"
sync Note
when
    Requesting.request (path: "/note", text) : (request)
then
    Shop.note (text)

sync Tell
when
    Requesting.request (path: "/note") : (request)
    Shop.pack () : (parcel)
then
    Requesting.respond (request, parcel)
"#,
    );
    let note = bench.request(json!({"path": "/note", "text": "a"}));
    assert_eq!(bench.complete(&note[0], json!({})), []);
    assert_eq!(kept(&bench), 1, "an action may be injected into this flow");
}

#[test]
fn flow_with_a_pending_decision_stays_cached() {
    let mut bench = Bench::new(
        r#"
sync Restock
when
    Shop.note (text)
where
    Shop._stock (item: text) : (count)
then
    Shop.price (item: text)
"#,
    );
    let (id, seq) = (bench.flow.root(), 1);
    let note = bench.logged("Shop.note", id, json!({"text": "tea"}), json!({}));
    let effects = bench.engine.step(Event::Delivered(note));
    let [Effect::Ask { batch, .. }] = &effects[..] else { panic!("{effects:?}") };
    let rows = vec![vec![Object::from_iter([("count".to_owned(), json!(1))])]];
    let batch = batch.clone();
    let effects = bench.engine.step(Event::Answered { seq, batch, rows });
    let [Effect::Record { record, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(bench.engine.step(Event::Stored { seq }), [Effect::Ack { seq }]);
    assert_eq!(kept(&bench), 1);
    let body: Value = serde_json::from_slice(&record.body).unwrap();
    let record =
        bench.logged("Concert.fired", record.id, body["input"].clone(), body["output"].clone());
    let price = bench.deliver(record);
    check(&bench, &price, &[r#"Shop.price {"item":"tea"}"#]);
    assert_eq!(kept(&bench), 1);
    bench.complete(&price[0], json!({"cents": 1}));
    assert_eq!(kept(&bench), 0);
}

#[test]
fn late_message_of_a_finished_flow_causes_a_read() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    let end = bench.complete(&price[0], json!({"error": "no tea"}));
    let respond = bench.complete(&end[0], json!({}));
    bench.complete(&respond[0], json!({}));
    assert_eq!(kept(&bench), 0);
    let late = ActionId::injected("S", 9, 9);
    let late = bench.logged("Shop.note", late, json!({"text": "late"}), json!({}));
    let (flow, at_least) = (bench.flow, late.seq);
    assert_eq!(bench.engine.step(Event::Delivered(late)), [Effect::ReadFlow { flow, at_least }]);
}

#[test]
fn reused_flow_memory_is_empty() {
    let mut bench = Bench::new(BUY);
    for (number, item) in ["tea", "milk", "jam"].into_iter().enumerate() {
        bench.flow = ActionId::injected("S", number as u64, 1).as_root();
        let price = bench.request(json!({"path": "/buy", "item": item}));
        check(&bench, &price, &[&format!(r#"Shop.price {{"item":"{item}"}}"#)]);
        let sell = bench.complete(&price[0], json!({"cents": number}));
        let respond = bench.complete(&sell[0], json!({"sale": item}));
        let expected =
            format!(r#"Requesting.respond {{"request":"FLOW","sale":"{item}","cents":{number}}}"#);
        check(&bench, &respond, &[&expected]);
        assert_eq!(bench.complete(&respond[0], json!({})), []);
        assert_eq!(kept(&bench), 0);
        assert!(bench.engine.spare.is_some());
    }
}

/// A read returns the last message of a subject, so the first copy is missing in every read. It
/// must still be acknowledged.
#[test]
fn completion_stored_twice_before_a_read_counts_once() {
    let mut bench = Bench::new(BUY);
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    let sold = bench.logged("Shop.price", price[0].id, json!({"item": "tea"}), json!({"cents": 1}));
    let first = Logged { seq: 3, ..sold.clone() };
    let second = Logged { seq: 4, ..sold };
    let root = bench.logged(
        "Requesting.request",
        bench.flow.root(),
        json!({"path": "/buy", "item": "tea"}),
        json!({"request": "r"}),
    );
    let root = Logged { seq: 1, ..root };
    let asked = bench.engine.step(Event::Delivered(first));
    assert!(matches!(asked.as_slice(), [Effect::ReadFlow { .. }]), "{asked:?}");
    let effects = bench.engine.step(Event::FlowRead {
        flow: bench.flow,
        through: 4,
        log: vec![root.clone(), second.clone()],
    });
    assert!(
        matches!(effects.as_slice(), [Effect::Invoke { seq: 3, invocation }] if &*invocation.action == "sell"),
        "{effects:?}"
    );
    assert_eq!(bench.engine.step(Event::Stored { seq: 3 }), [Effect::Ack { seq: 3 }]);
    // The second copy is acknowledged as well; its calls have the same ids.
    let mut effects = bench.engine.step(Event::Delivered(second.clone()));
    if matches!(effects.as_slice(), [Effect::ReadFlow { .. }]) {
        effects = bench.engine.step(Event::FlowRead {
            flow: bench.flow,
            through: 4,
            log: vec![root, second],
        });
    }
    assert!(
        matches!(effects.as_slice(), [Effect::Ack { seq: 4 }] | [Effect::Invoke { seq: 4, .. }]),
        "{effects:?}"
    );
}

/// A regression: the flow was read forever, and all its messages were redelivered.
#[test]
fn messages_of_a_too_long_flow_are_dead_lettered() {
    let mut bench = Bench::new(BUY);
    let done = |bench: &mut Bench, seq, number| {
        let id = ActionId::injected("too long", number, number);
        let logged = bench.logged("Shop.price", id, json!({}), json!({}));
        Event::Delivered(Logged { seq, ..logged })
    };
    let (first, second) = (done(&mut bench, 5, 1), done(&mut bench, 6, 2));
    assert!(matches!(bench.engine.step(first.clone()).as_slice(), [Effect::ReadFlow { .. }]));
    assert_eq!(bench.engine.step(second), []);
    let flow = bench.flow;
    let effects = bench.engine.step(Event::FlowTooLong { flow });
    assert!(
        matches!(
            effects.as_slice(),
            [Effect::DeadLetter { seq: 5, .. }, Effect::DeadLetter { seq: 6, .. }]
        ),
        "{effects:?}"
    );
    // A redelivery of an old message causes another check.
    assert!(matches!(bench.engine.step(first).as_slice(), [Effect::ReadFlow { .. }]));
}

#[test]
fn cache_is_limited_and_evicted_flow_is_read_again() {
    let in_flows = Limits { cached_flows: NonZeroUsize::MIN, ..Limits::default() };
    let in_actions = Limits { cached_actions: 1, ..Limits::default() };
    // Each message of this test counts as 100 bytes.
    let in_bytes = Limits { cached_bytes: 199, ..Limits::default() };
    // A growing flow evicts others, as a new one does.
    let mut bench = Bench::with(BUY, Limits { cached_bytes: 299, ..Limits::default() });
    let price = bench.request(json!({"path": "/buy", "item": "tea"}));
    let growing = std::mem::replace(&mut bench.flow, ActionId::injected("S", 2, 2).as_root());
    bench.request(json!({"path": "/buy", "item": "milk"}));
    assert_eq!(bench.engine.flows.len(), 2);
    bench.flow = growing;
    bench.complete(&price[0], json!({"cents": 1}));
    assert_eq!(bench.engine.flows.len(), 1);
    assert!(bench.engine.flows.contains(&growing));

    for limits in [in_flows, in_actions, in_bytes] {
        let mut bench = Bench::with(BUY, limits);
        let first = bench.flow;
        let price = bench.request(json!({"path": "/buy", "item": "tea"}));
        bench.flow = ActionId::injected("S", 2, 2).as_root();
        bench.request(json!({"path": "/buy", "item": "milk"}));
        assert_eq!(bench.engine.flows.len(), 1);
        bench.flow = first;
        let sold =
            bench.logged("Shop.price", price[0].id, json!({"item": "tea"}), json!({"cents": 1}));
        assert_eq!(
            bench.engine.step(Event::Delivered(sold)),
            [Effect::ReadFlow { flow: first, at_least: 3 }]
        );
    }
}
