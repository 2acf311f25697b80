//! The actions of Requesting. The concept has no state, and their outcomes are derived from the
//! flow, so the router completes them itself.

use std::borrow::Cow;

use concert_wire::envelope::{ERROR, Fault, Object, encode};
use concert_wire::id::FlowId;
use concert_wire::{REQUESTING, is_response};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Respond<'a> {
    #[serde(borrow)]
    request: Cow<'a, str>,
}

/// The completion of an action of Requesting that a rule called in a flow; `input` and the result
/// are encoded. A rule can only respond to the request of its own flow. An invalid status does not
/// matter here: the edge responds to it with 500.
pub fn completion(flow: FlowId, action: &str, input: &[u8]) -> Vec<u8> {
    let output = if !is_response(REQUESTING, action) {
        // As for any other action that a concept does not have.
        Fault::Invalid.output(format!("a rule cannot call Requesting.{action}"))
    } else if responds_to(flow, input) {
        Object::new()
    } else {
        let error = "the request is not the root of this flow";
        Object::from_iter([(ERROR.to_owned(), Value::from(error))])
    };
    [br#"{"input":"#, input, br#","output":"#, &encode(&output), b"}"].concat()
}

fn responds_to(flow: FlowId, input: &[u8]) -> bool {
    serde_json::from_slice::<Respond<'_>>(input)
        .is_ok_and(|respond| respond.request == flow.to_string())
}

#[cfg(test)]
mod tests {
    use concert_wire::envelope::Completion;
    use concert_wire::id::ActionId;
    use concert_wire::{RESPOND, RESPOND_WITH};
    use serde_json::json;

    use super::*;

    #[test]
    fn respond_succeeds_only_for_the_request_of_its_flow() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let refused = json!({ "error": "the request is not the root of this flow" });
        let own = json!({ "request": flow.to_string(), "status": 999, "x": { "y": [1, null] } });
        let other = json!({ "request": ActionId::injected("S", 2, 2).to_string() });
        for (input, output) in [
            (own, json!({})),
            (other, refused.clone()),
            (json!({ "request": 1 }), refused.clone()),
            (json!({ "status": 200 }), refused),
        ] {
            for action in [RESPOND, RESPOND_WITH] {
                let body = completion(flow, action, &encode(&input));
                let body = Completion::decode(&body).unwrap();
                assert_eq!(
                    (json!(body.input), json!(body.output)),
                    (input.clone(), output.clone())
                );
            }
        }
    }

    #[test]
    fn other_actions_fail_with_a_fault() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let body = Completion::decode(&completion(flow, "request", b"{}")).unwrap();
        assert_eq!(Fault::of(&body.output), Some(Fault::Invalid));
    }
}
