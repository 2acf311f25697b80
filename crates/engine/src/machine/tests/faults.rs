//! Failures that decide nothing.

use super::*;

#[test]
fn fault_does_not_match_a_refusal_pattern() {
    const RULES: &str = r#"
sync Ask
when
    Requesting.request (path: "/price", item) : (request)
then
    Shop.price (item)

sync Refuse
when
    Requesting.request (path: "/price") : (request)
    Shop.price () : (error)
then
    Requesting.respond (request, error, status: 401)
"#;
    let mut bench = Bench::new(RULES);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let late = bench.complete(&price[0], json!({"error": "late", "fault": "deadline"}));
    check(
        &bench,
        &late,
        &[
            r#"Requesting.respond {"request":"FLOW","status":504,"error":"The request was not finished in time."}"#,
        ],
    );
    let mut bench = Bench::new(RULES);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let throttled = bench
        .complete(&price[0], json!({"error": "no more", "fault": "throttled", "retryAfter": 534}));
    check(
        &bench,
        &throttled,
        &[
            r#"Requesting.respond {"request":"FLOW","status":429,"error":"Too many attempts have failed. Try again later.","retryAfter":534}"#,
        ],
    );
    let mut bench = Bench::new(RULES);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let refused = bench.complete(&price[0], json!({"error": "no tea"}));
    check(
        &bench,
        &refused,
        &[r#"Requesting.respond {"request":"FLOW","error":"no tea","status":401}"#],
    );
}

#[test]
fn else_response_to_a_fault_has_the_status_of_the_fault() {
    let answered = |otherwise: &str, output: serde_json::Value| {
        let mut bench = Bench::new(&format!("{ASK}else {otherwise}\n"));
        let price = bench.request(json!({"path": "/price", "item": "tea"}));
        let invocations = bench.complete(&price[0], output);
        assert_eq!(invocations.len(), 1, "{otherwise}");
        body(&invocations[0])
    };
    let late = json!({"error": "late", "fault": "deadline"});
    let throttled = json!({"error": "no more", "fault": "throttled", "retryAfter": 534});
    let refused = json!({"error": "no tea"});
    let check = |otherwise: &str, output: &serde_json::Value, status: Option<u16>| {
        let body = answered(otherwise, output.clone());
        let found = body.get("status").and_then(serde_json::Value::as_u64);
        assert_eq!(found, status.map(u64::from), "{otherwise} {output} {body}");
    };
    for (otherwise, of_refusal) in [
        ("(error)\n    Requesting.respond (request, error)", None),
        ("(error)\n    Requesting.respond (request, error, status: 404)", Some(404)),
        ("(error)\n    Requesting.respondWith (request, body: [{error}], status: 404)", Some(404)),
    ] {
        check(otherwise, &late, Some(504));
        check(otherwise, &throttled, Some(429));
        assert_eq!(answered(otherwise, throttled.clone())["retryAfter"], 534, "{otherwise}");
        check(otherwise, &refused, of_refusal);
    }
    // A rule without the error in its response handles faults in another way.
    let done_later = "(error)\n    Requesting.respond (request, message: \"later\", status: 202)";
    check(done_later, &late, Some(202));
}

#[test]
fn client_origin_is_inherited_from_the_root_only() {
    let mut bench = Bench::new(ASK);
    let client = |digit: &str| Some(digit.repeat(22).parse().unwrap());
    let (id, output) = (bench.flow.root(), json!({ "request": bench.flow.to_string() }));
    let mut root =
        bench.logged("Requesting.request", id, json!({"path": "/price", "item": "tea"}), output);
    root.context.client = client("1");
    let price = bench.deliver(root);
    assert_eq!(price[0].context.client, client("1"));
    let mut priced = bench.logged("Shop.price", price[0].id, body(&price[0]), json!({"cents": 5}));
    priced.context.client = client("2");
    assert_eq!(bench.deliver(priced)[0].context.client, client("1"));
}

#[test]
fn invocation_has_the_positions_of_its_root_and_cause() {
    let mut bench = Bench::new(ASK);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let first = price[0].position.unwrap();
    assert_eq!(first.root, first.cause);
    let answer = bench.complete(&price[0], json!({"cents": 5}));
    let second = answer[0].position.unwrap();
    assert_eq!(second.root, first.root);
    assert!(second.cause > first.cause, "{second:?}");
}
