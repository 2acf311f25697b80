//! Failures that decided nothing.

use super::*;

#[test]
fn a_fault_is_not_taken_for_a_refusal() {
    const ASK: &str = r#"
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
    let mut bench = Bench::new(ASK);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let late = bench.complete(&price[0], json!({"error": "late", "fault": "deadline"}));
    check(
        &bench,
        &late,
        &[r#"Requesting.respond {"request":"FLOW","status":504,"error":"The request was not finished in time."}"#],
    );
    let mut bench = Bench::new(ASK);
    let price = bench.request(json!({"path": "/price", "item": "tea"}));
    let refused = bench.complete(&price[0], json!({"error": "no tea"}));
    check(
        &bench,
        &refused,
        &[r#"Requesting.respond {"request":"FLOW","error":"no tea","status":401}"#],
    );
}
