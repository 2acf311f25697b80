//! References to large values: compared by content, and never computed with.

use concert_wire::envelope::Fault;
use concert_wire::large::{Place, Reference};

use super::*;

/// A reference to a value of 40,000 such letters.
fn large(place: u8, letter: &str) -> Value {
    let text = letter.repeat(40_000);
    Reference::to_text(Place::new([place; 16]), &text).to_string().into()
}

const SAME: &str = r#"
sync Same
when
    Requesting.request (path: "/same", one, other, list) : (request)
where
    let same = one == other
    let listed = one in list
then
    Requesting.respond (request, same, listed)

sync Joined
when
    Requesting.request (path: "/same", one) : (request)
    Shop.price (item: one) : (cents)
then
    Requesting.respond (request, cents)
"#;

#[test]
fn large_values_are_compared_by_content() {
    for (other, expected) in [(large(2, "a"), true), (large(1, "b"), false)] {
        let mut bench = Bench::new(SAME);
        let input =
            json!({ "path": "/same", "one": large(1, "a"), "other": other, "list": [other] });
        let found = bench.request(input);
        let expected = format!(
            r#"Requesting.respond {{"request":"FLOW","same":{expected},"listed":{expected}}}"#
        );
        check(&bench, &found, &[&expected]);
    }
}

#[test]
fn completions_join_over_a_large_value() {
    for (item, fires) in [(large(2, "a"), true), (large(1, "b"), false)] {
        let mut bench = Bench::new(SAME);
        let input = json!({ "path": "/same", "one": large(1, "a"), "other": 1, "list": [] });
        bench.request(input);
        let id = ActionId::injected("shop", 7, 7);
        let logged = bench.logged("Shop.price", id, json!({ "item": item }), json!({ "cents": 3 }));
        let found = bench.deliver(logged);
        let respond = r#"Requesting.respond {"request":"FLOW","cents":3}"#;
        let expected = [respond];
        check(&bench, &found, expected.get(..usize::from(fires)).unwrap());
    }
}

#[test]
fn rule_that_computes_with_a_large_value_stops_the_flow() {
    let stock = "Shop._stock (item: \"tea\") : (count)";
    for (wheres, argument) in [
        ("", "\"Book: \" + text"),
        ("", "[{title: text + \"!\"}]"),
        ("where\n    let said = text + \"!\"\n", "said"),
        ("where\n    text < \"b\"\n", "text"),
        ("where\n    some Shop._owner (item: text + \"!\")\n", "text"),
        (&format!("where\n    {stock}\n    text >= \"b\"\n"), "count"),
        (&format!("where\n    {stock}\n"), "text + \"!\""),
    ] {
        let mut bench = Bench::new(&format!(
            "sync Say\nwhen\n    Requesting.request (path: \"/say\", text) : (request)\n{wheres}then\n    \
             Requesting.respond (request, said: {argument})\n"
        ));
        bench.answer("_stock", json!({ "item": "tea" }), json!([{ "count": 3 }]));
        let found = bench.request(json!({ "path": "/say", "text": large(1, "a") }));
        let why = "The request was stopped: a rule computes with a value of more than 32 KiB; such \
                   values can only be passed on and compared with == and !=.";
        let expected =
            format!(r#"Requesting.respond {{"request":"FLOW","status":500,"error":"{why}"}}"#);
        check(&bench, &found, &[&expected]);
    }
}

#[test]
fn query_with_an_expired_value_is_answered_with_its_status() {
    let mut bench = Bench::new(
        "sync Say\nwhen\n    Requesting.request (path: \"/say\", text) : (request)\nwhere\n    \
         Shop._stock (item: text) : (count)\nthen\n    Requesting.respond (request, count)\n",
    );
    let (root, output) = (bench.flow.root(), json!({ "request": bench.flow.to_string() }));
    let input = json!({ "path": "/say", "text": large(1, "a") });
    let logged = bench.logged("Requesting.request", root, input, output);
    let seq = logged.seq;
    bench.engine.step(Event::Delivered(logged));
    let why = "a value has expired".to_owned();
    let effects = bench.engine.step(Event::Refused { seq, fault: Fault::Expired, why });
    let [Effect::Record { record, .. }] = &effects[..] else { panic!("{effects:?}") };
    let body = Completion::decode(&record.body).unwrap();
    let halt = json!({ "halt": { "status": 410, "why": "a value has expired" } });
    assert_eq!(json!(body.output), halt);
}
