//! Keys of nested objects, and keys that are null or absent.

use super::*;

/// The input of the only call of a rule, without what is added to every call; null if it does not
/// fire.
fn called(rule: &str, request: Value) -> Value {
    let mut bench = Bench::new(rule);
    bench.answer("_owner", json!({"item": "book"}), json!([{"user": "u1"}]));
    let mut input = json!({"path": "/go", "item": "book"});
    for (key, value) in request.as_object().unwrap() {
        input[key] = value.clone();
    }
    bench.request(input).first().map_or(Value::Null, body)
}

#[test]
fn pattern_looks_into_objects() {
    let rule = r#"
sync R
when
    Requesting.request (path: "/go", user: {name, kind: "admin", home: {town?: place}}) : (request)
then
    Shop.note (text: name + (place ?? "-"))
"#;
    let note = |text: &str| json!({ "text": text });
    for (user, expected) in [
        (json!({"name": "a", "kind": "admin", "home": {"town": "Ulm"}}), note("aUlm")),
        (json!({"name": "a", "kind": "admin", "home": {}}), note("a-")),
        (json!({"name": "a", "kind": "admin", "home": 5}), note("a-")),
        (json!({"name": "a", "kind": "admin"}), note("a-")),
        (json!({"name": "a", "kind": "user"}), Value::Null),
        (json!({"kind": "admin"}), Value::Null),
        (json!("admin"), Value::Null),
        (json!(null), Value::Null),
    ] {
        let request = json!({ "user": user, "user.name": "no path" });
        assert_eq!(called(rule, request), expected, "{user}");
    }
}

#[test]
fn null_is_passed_on_and_an_absent_key_is_omitted() {
    for steps in ["", "where\n    Shop._owner (item) : (user)\n"] {
        let rule = format!(
            "sync R\nwhen\n    Requesting.request (path: \"/go\", item, new: {{text?}}) : \
             (request)\n{steps}then\n    Shop.describe (item, text?)\n"
        );
        for (new, expected) in [
            (json!({"text": "x"}), json!({"item": "book", "text": "x"})),
            (json!({"text": null}), json!({"item": "book", "text": null})),
            (json!({}), json!({"item": "book"})),
        ] {
            assert_eq!(called(&rule, json!({ "new": new })), expected, "{steps}");
        }
    }
}

#[test]
fn null_for_an_optional_parameter_without_null_is_omitted() {
    let rule = r#"
sync R
when
    Requesting.request (path: "/go", item, note?) : (request)
then
    Shop.describe (item, note)
"#;
    assert_eq!(called(rule, json!({"note": null})), json!({"item": "book"}));
    assert_eq!(called(rule, json!({})), json!({"item": "book"}));
    assert_eq!(called(rule, json!({"note": "x"})), json!({"item": "book", "note": "x"}));
}
