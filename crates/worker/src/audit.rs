//! Audit log: one event per completed action, with the target `audit`.
//!
//! Inputs and outputs are not logged, because any of them may be a secret or private text. The only
//! exception is a plain user identifier, if the input fits the spec. The event log stores the rest,
//! sealed where necessary.

use concert_lang::spec::{self, ActionSpec, Params};
use concert_wire::client::ClientTag;
use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::routes::ValueType;
use serde_json::Value;

use crate::concept::Concept;
use crate::intake::Invocation;

/// Key of the user whom an action concerns.
const USER: &str = "user";
/// Placeholder for a missing value.
const NONE: &str = "-";
/// Maximum length of a logged identifier, in bytes.
const ID_MAX_BYTES: usize = 64;

/// Logs a stored completion.
pub(crate) fn completed(concept: &Concept, invocation: &Invocation, completion: &Completion) {
    let spec = concept.action(invocation.action.as_str()).map(|(spec, _)| spec);
    tracing::info!(
        target: "audit",
        concept = %concept.name,
        name = %invocation.action,
        outcome = outcome(spec, completion),
        user = spec.and_then(|spec| user(spec, completion)).unwrap_or(NONE),
        client = invocation.client.as_ref().map_or(NONE, ClientTag::as_str),
        flow = %invocation.flow,
        action = %invocation.id,
        "completed"
    );
}

/// `success`, `refused`, or the name of a fault.
fn outcome(spec: Option<&ActionSpec>, completion: &Completion) -> &'static str {
    if !completion.is_failure() {
        return "success";
    }
    match Fault::of(&completion.output) {
        Some(fault) => fault.word(),
        None if spec.is_some_and(|spec| spec.can_fail) => "refused",
        None => Fault::Invalid.word(),
    }
}

fn user<'a>(spec: &ActionSpec, completion: &'a Completion) -> Option<&'a str> {
    let user = spec.success.as_ref().and_then(|output| identifier(output, &completion.output));
    let user = user.or_else(|| identifier(&spec.input, &completion.input))?;
    // An input that does not fit the spec may have anything under any key.
    spec::check_input(&spec.input, &completion.input).ok()?;
    Some(user)
}

/// The user in an object, if the spec has an identifier there and the value looks like one.
fn identifier<'a>(params: &Params, object: &'a Object) -> Option<&'a str> {
    let is_id = |param: &&concert_lang::spec::Param| {
        &*param.name == USER && matches!(param.kind, ValueType::Id(_))
    };
    params.params.iter().find(is_id)?;
    let id = object.get(USER).and_then(Value::as_str)?;
    let is_plain = (1..=ID_MAX_BYTES).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_plain.then_some(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn logged(input: Value, output: Value) -> (&'static str, Option<String>) {
        let spec = "concept C [User]\npurpose x\nactions\n    \
            act (user: User, word: Secret) : (user: User)\n    \
            act (user: User, word: Secret) : (error: String)\n";
        let spec = concert_lang::concept::parse_one("C.concept", spec).unwrap();
        let object = |value: Value| value.as_object().unwrap().clone();
        let completion = Completion { input: object(input), output: object(output) };
        let action = spec.actions.first().unwrap();
        (outcome(Some(action), &completion), user(action, &completion).map(str::to_owned))
    }

    #[test]
    fn outcome_and_plain_identifier_are_logged_and_nothing_else() {
        let input = || json!({ "user": "u-1", "word": "hunter22" });
        assert_eq!(logged(input(), json!({ "user": "u-2" })), ("success", Some("u-2".to_owned())));
        assert_eq!(logged(input(), json!({ "error": "no" })), ("refused", Some("u-1".to_owned())));
        assert_eq!(
            logged(input(), Value::Object(Fault::Throttled.output("later"))),
            ("throttled", Some("u-1".to_owned()))
        );
        assert_eq!(
            logged(json!({ "user": "hunter22" }), Value::Object(Fault::Invalid.output("no word"))),
            ("invalid", None)
        );
        assert_eq!(
            logged(
                input(),
                Value::Object(Fault::Invalid.output("an output that the spec has not"))
            ),
            ("invalid", Some("u-1".to_owned()))
        );
        for no_id in [json!("my password is hunter22"), json!(5), json!("x".repeat(65)), json!("")]
        {
            let (_, user) = logged(json!({ "user": no_id, "word": "x" }), json!({ "error": "no" }));
            assert_eq!(user, None);
        }
    }
}
