use concert_wire::keyring::{Key, Keyring};
use concert_wire::large::{Place, Reference};
use serde_json::json;

use super::*;

const SPEC: &str = "concept Door
purpose let people in
actions
    open (name: String) : (key: Secret)
    open (name: String) : (error: String)
    shut () : ()
    look (name: String) : (seen: String)
";

fn sealer(ids: &[&str]) -> Sealer {
    let lines: String =
        ids.iter().map(|id| format!("{}\n", *Key::new(id, [7; 64]).to_line())).collect();
    Sealer::new(Keyring::parse(&lines).unwrap())
}

fn invocation(action: &str) -> Invocation {
    let subject = format!("action.Door.{action}.01890a5d-ac96-774b-bcce-b302099a8057");
    Invocation::read(&subject, |_| None, || Err("not injected".to_owned())).unwrap()
}

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap()
}

/// The output of the completion of an action.
fn output(action: &str, outcome: Outcome) -> Object {
    let spec = concert_lang::concept::parse_one("Door.concept", SPEC).unwrap();
    let spec = spec.actions.iter().find(|spec| &*spec.name == action).unwrap();
    completion(spec, &sealer(&["k1"]), &invocation(action), Object::new(), outcome).output
}

#[test]
fn valid_outcome_is_sealed() {
    let done = output("open", Outcome::Done(object(json!({"key": "under the mat"}))));
    let key = done.get("key").and_then(Value::as_str).unwrap();
    let opened = sealer(&["k1"]).open(invocation("open").flow, key).unwrap();
    assert_eq!(opened.expose(), "under the mat");
}

#[test]
fn spec_separates_refusals_from_faults() {
    let refused = || Outcome::Refused("locked".to_owned());
    assert_eq!(Value::Object(output("open", refused())), json!({"error": "locked"}));
    for (action, outcome, expected) in [
        ("shut", refused(), Fault::Invalid),
        ("open", Outcome::Refused(String::new()), Fault::Invalid),
        (
            "open",
            Outcome::Throttled { error: "later".to_owned(), wait_s: Some(7) },
            Fault::Throttled,
        ),
        ("open", Outcome::Mismatch("no name".to_owned()), Fault::Invalid),
        ("open", Outcome::Done(Object::new()), Fault::Invalid),
    ] {
        let text = format!("{action} {outcome:?}");
        assert_eq!(Fault::of(&output(action, outcome)), Some(expected), "{text}");
    }
}

#[test]
fn outputs_are_compared_in_clear_for_any_sealing_key() {
    let spec = concert_lang::concept::parse_one("Door.concept", SPEC).unwrap();
    let (spec, invocation) = (spec.actions.first(), invocation("open"));
    let key =
        |by: &str, key: &str| object(json!({"key": sealer(&[by]).seal(invocation.flow, key)}));
    let both = sealer(&["k1", "k2"]);
    let compared = |sealer, one, other| compare(spec, sealer, &invocation, &one, &other);
    assert_eq!(compared(&both, key("k1", "a"), key("k2", "a")), Comparison::Same);
    assert_eq!(compared(&both, key("k1", "a"), key("k2", "b")), Comparison::Different);
    let refused = object(json!({"error": "locked"}));
    assert_eq!(compared(&both, key("k1", "a"), refused), Comparison::Different);
    let old = sealer(&["k1"]);
    let locked = compared(&old, key("k1", "a"), key("k2", "a"));
    assert!(matches!(locked, Comparison::Locked(_)));
}

#[test]
fn large_values_are_compared_by_content_and_only_the_host_writes_references() {
    let text = "x".repeat(40_000);
    let at = |place: u8| {
        let reference = Reference::to_text(Place::new([place; 16]), &text);
        object(json!({ "seen": reference.to_string() }))
    };
    let (sealer, invocation) = (sealer(&["k1"]), invocation("look"));
    let compared = |one, other| compare(None, &sealer, &invocation, &one, &other);
    assert_eq!(compared(at(1), at(2)), Comparison::Same);
    assert_eq!(compared(at(1), object(json!({ "seen": text }))), Comparison::Same);
    assert_eq!(compared(at(1), object(json!({ "seen": "x" }))), Comparison::Different);
    let forged = output("look", Outcome::Done(at(1)));
    assert_eq!(forged.get("error"), Some(&json!(FORGED_REFERENCE)));
}
