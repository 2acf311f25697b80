use concert_wire::keyring::{Key, Keyring};
use concert_wire::large::{Place, Reference};
use serde_json::{Value, json};

use super::*;

const SPEC: &str = "concept Door
purpose let people in
actions
    open (name: String, word: Secret) : ()
        effects opens
    look (name: String, word: Secret) : ()
";

fn keyring(id: &str) -> Keyring {
    let byte = if id == "k1" { 7 } else { 8 };
    Keyring::parse(&Key::new(id, [byte; 64]).to_line()).unwrap()
}

fn sealer(id: &str) -> Sealer {
    Sealer::new(keyring(id))
}

fn invocation(action: &str, flow: Option<&str>, deadline_ms: Option<&str>) -> Invocation {
    let subject = format!("action.Door.{action}.01890a5d-ac96-774b-bcce-b302099a8057");
    let header = |name: &str| match name {
        header::FLOW => flow,
        header::DEADLINE => deadline_ms,
        header::REPLY => Some("_INBOX.a.b"),
        _ => None,
    };
    Invocation::read(&subject, header, || Err("not injected".to_owned())).unwrap()
}

/// The decision about an action of the concept Door, at time 1000.
fn taken(invocation: &Invocation, payload: &str) -> Intake {
    let spec = concert_lang::concept::parse_one("Door.concept", SPEC).unwrap();
    let spec = spec.actions.iter().find(|spec| *spec.name == *invocation.action.as_str());
    let concept = "Door".parse().unwrap();
    intake(&concept, spec, &sealer("k1"), invocation, payload.as_bytes(), 1000)
}

fn fault(intake: Intake) -> (Option<Fault>, Value) {
    match intake {
        Intake::Fault(completion) => {
            (Fault::of(&completion.output), Value::Object(completion.input))
        }
        other => unreachable!("{other:?} is not a fault"),
    }
}

#[test]
fn unreadable_subject_or_header_becomes_a_dead_letter_reason() {
    let invocation = invocation("open", None, Some("17"));
    assert!(invocation.is_root());
    assert_eq!(invocation.reply.as_deref(), Some("_INBOX.a.b"));
    assert_eq!(invocation.deadline_ms, Some(17));
    let none = |_: &str| None;
    let injected = || Ok(ActionId::injected("S", 1, 1));
    let of_position = Invocation::read("action.Door.open", none, injected).unwrap();
    assert_eq!(of_position.id, ActionId::injected("S", 1, 1));
    assert!(Invocation::read("other.Door", none, injected).is_err());
    let no_flow = Invocation::read("action.Door.open", |_: &str| Some("no flow"), injected);
    assert!(no_flow.unwrap_err().contains("is not a UUID"));
}

#[test]
fn reply_goes_only_to_an_inbox() {
    for (subject, allowed) in [
        ("_INBOX.abc.1", true),
        ("done.x.y.z.1", false),
        ("_INBOX.a.*", false),
        ("_INBOX..a", false),
    ] {
        assert_eq!(is_inbox(subject), allowed, "{subject}");
    }
}

#[test]
fn valid_input_is_opened_and_recorded_sealed() {
    let Intake::Run(input) =
        taken(&invocation("open", None, None), r#"{"name":"ada","word":"friend"}"#)
    else {
        unreachable!("the handler does not run");
    };
    assert_eq!(Value::Object(input.opened), json!({"name": "ada", "word": "friend"}));
    assert!(!json!(input.recorded).to_string().contains("friend"));
}

#[test]
fn invalid_invocation_is_a_fault_without_secrets() {
    for (action, payload) in [
        ("shut", r#"{"word":"friend"}"#),
        ("open", "[]"),
        ("open", r#"{"word":"friend"}"#),
        ("open", r#"{"name":5,"word":"friend","wrod":"friend"}"#),
    ] {
        let (fault, input) = fault(taken(&invocation(action, None, None), payload));
        assert_eq!(fault, Some(Fault::Invalid), "{action} {payload}");
        assert!(!input.to_string().contains("friend"), "{input}");
    }
}

#[test]
fn unknown_key_is_retried_except_at_a_flow_root() {
    let other = "01890a5d-ac96-774b-bcce-b30209900000";
    let later = invocation("open", Some(other), None);
    let payload =
        |flow| json!({"name": "ada", "word": sealer("k2").seal(flow, "friend")}).to_string();
    let locked = taken(&later, &payload(later.flow));
    assert!(matches!(&locked, Intake::Locked(why) if why.contains("this process does not have")));
    let root = invocation("open", None, None);
    assert_eq!(fault(taken(&root, &payload(root.flow))).0, Some(Fault::Invalid));
}

#[test]
fn deadline_applies_only_to_actions_without_effects() {
    let payload = r#"{"name":"ada","word":"friend"}"#;
    for (action, deadline_ms, is_run) in [
        ("look", None, true),
        ("look", Some("1000"), true),
        ("look", Some("999"), false),
        ("open", Some("999"), true),
    ] {
        let taken = taken(&invocation(action, None, deadline_ms), payload);
        assert_eq!(matches!(taken, Intake::Run(_)), is_run, "{action} {deadline_ms:?}");
        if !is_run {
            assert_eq!(fault(taken).0, Some(Fault::Deadline));
        }
    }
}

#[test]
fn reference_to_a_large_value_is_refused_at_a_flow_root() {
    let reference = Reference::to_text(Place::new([1; 16]), &"x".repeat(40_000)).to_string();
    let payload = |word: &str| json!({ "name": reference, "word": word }).to_string();
    let root = taken(&invocation("open", None, None), &payload("friend"));
    assert_eq!(fault(root).0, Some(Fault::Invalid));
    let later = invocation("open", Some("01890a5d-ac96-774b-bcce-b30209900000"), None);
    assert!(matches!(taken(&later, &payload("friend")), Intake::Run(_)));
    // A secret is never stored beside the log.
    assert_eq!(fault(taken(&later, &payload(&reference))).0, Some(Fault::Invalid));
}

#[test]
fn root_accepts_a_large_value_that_was_stored_for_its_flow() {
    let root = invocation("open", None, None);
    let other = invocation("open", Some("01890a5d-ac96-774b-bcce-b30209900000"), None);
    for (key, flow, is_run) in
        [("k1", root.flow, true), ("k1", other.flow, false), ("k2", root.flow, false)]
    {
        let place = Sealer::new(keyring(key)).root_place(flow);
        let name = Reference::to_text(place, &"x".repeat(40_000)).to_string();
        let taken = taken(&root, &json!({ "name": name, "word": "friend" }).to_string());
        assert_eq!(matches!(taken, Intake::Run(_)), is_run, "{key} {flow}");
    }
}
