//! Workers that contradict their specs, and queries whose callers have left.

use super::*;

const STOCK: &str = r#"
sync Stock
when
    Requesting.request (path: "/stock", item) : (request)
where
    Shop._stock (item) : (count)
then
    Requesting.respond (request, count)
"#;

#[test]
fn output_that_contradicts_its_spec_is_a_fault() {
    for output in [json!({ "cent": 3 }), json!({ "cents": "3" }), json!({})] {
        let mut bench = Bench::new(ASK);
        let price = bench.request(json!({ "path": "/price", "item": "tea" }));
        let found = bench.complete(&price[0], output.clone());
        let error = r#""status":500,"error":"The action Shop.price failed."}"#;
        check(&bench, &found, &[&format!(r#"Requesting.respond {{"request":"FLOW",{error}"#)]);
        let mismatches = bench.engine.take_mismatches();
        assert!(
            matches!(&mismatches[..], [(_, why)] if why.contains("Shop.price") && why.contains("cents")),
            "{output} {mismatches:?}"
        );
    }
}

#[test]
fn rows_that_contradict_their_spec_stop_the_flow() {
    for rows in [json!([]), json!([{ "count": "3" }]), json!([{ "number": 3 }])] {
        let mut bench = Bench::new(STOCK);
        bench.answer("_stock", json!({ "item": "tea" }), rows.clone());
        let found = bench.request(json!({ "path": "/stock", "item": "tea" }));
        let [response] = &found[..] else { panic!("{rows} {found:?}") };
        let body = String::from_utf8_lossy(&response.body);
        assert!(body.contains(r#""status":500"#) && body.contains("Shop: "), "{body}");
        assert_eq!(bench.engine.take_mismatches().len(), 1);
    }
}

#[test]
fn abandoned_query_dead_letters_its_completion_after_its_invocations() {
    let mut bench = Bench::new(&format!("{ASK}{}", STOCK.replace("/stock", "/price")));
    let output = json!({ "request": bench.flow.to_string() });
    let root = bench.flow.root();
    let input = json!({ "path": "/price", "item": "tea" });
    let logged = bench.logged("Requesting.request", root, input, output);
    let seq = logged.seq;
    let effects = bench.engine.step(Event::Delivered(logged));
    assert!(matches!(effects[..], [Effect::Invoke { .. }, Effect::Ask { .. }]), "{effects:?}");
    let why = "no result".to_owned();
    assert_eq!(bench.engine.step(Event::Abandoned { seq, why: why.clone() }), []);
    let dead = Effect::DeadLetter { seq, reason: why };
    assert_eq!(bench.engine.step(Event::Stored { seq }), [dead]);
}
