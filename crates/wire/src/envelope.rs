//! The bodies of messages. An invocation's body is the input object; a completion's is
//! `{"input":{…},"output":{…}}`.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::value::{self, BadValue};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The body of a completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// What the action was asked to do.
    pub input: Object,
    /// What came of it; the key `error` makes it a failure.
    pub output: Object,
}

/// Why bytes are not a completion's body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCompletion {
    /// Not an object.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// `input` or `output` is missing or no object, or there is another key.
    #[error("the body of a completion is {{\"input\": {{…}}, \"output\": {{…}}}}")]
    Shape,
}

impl Completion {
    /// Reads a body.
    ///
    /// # Errors
    /// See [`BadCompletion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadCompletion> {
        let mut body = value::object(bytes)?;
        let mut take = |key| match body.swap_remove(key) {
            Some(Value::Object(map)) => Ok(map),
            _ => Err(BadCompletion::Shape),
        };
        let (input, output) = (take("input")?, take("output")?);
        if body.is_empty() { Ok(Self { input, output }) } else { Err(BadCompletion::Shape) }
    }

    /// Whether the action failed.
    pub fn is_failure(&self) -> bool {
        self.output.contains_key(ERROR)
    }
}

/// The input key of a respond that is its HTTP status.
pub const STATUS: &str = "status";

/// The HTTP status that a respond asks for: what its rule said; without a word an error is 400.
/// What is no status of a final response is a mistake of the rule, and 500.
pub fn answer_status(respond: &Object) -> u16 {
    match respond.get(STATUS) {
        None | Some(Value::Null) if respond.contains_key(ERROR) => 400,
        None | Some(Value::Null) => 200,
        Some(said) => {
            let number = said
                .as_f64()
                .filter(|number| number.fract() == 0.0 && (200.0..=599.0).contains(number));
            // In range and whole, so the text is the number's.
            number.and_then(|number| format!("{number:.0}").parse().ok()).unwrap_or(500)
        }
    }
}

/// The output key that makes a completion a failure.
pub const ERROR: &str = "error";
/// The output key beside `error` that tells a fault from a refusal; its value is a [`Fault`].
pub const FAULT: &str = "fault";

/// Failures that no spec declares. Where no rule answers one, the router does, with the status that
/// stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The deadline passed before the action was begun: 504.
    Deadline,
    /// The worker cannot do it now: 503.
    Unavailable,
    /// The action was not tried, since too many like it have failed lately: 429.
    Throttled,
    /// The input does not fit the spec, there is no such action, or the output does not fit the
    /// spec: 500.
    Invalid,
}

impl Fault {
    /// The word in the completion.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
        }
    }

    /// The HTTP status that the router answers with.
    pub const fn status(self) -> u16 {
        match self {
            Self::Deadline => 504,
            Self::Unavailable => 503,
            Self::Throttled => 429,
            Self::Invalid => 500,
        }
    }

    /// The fault that an output names; any word that is not known here is [`Fault::Invalid`].
    pub fn of(output: &Object) -> Option<Self> {
        match output.get(FAULT)?.as_str() {
            Some("deadline") => Some(Self::Deadline),
            Some("unavailable") => Some(Self::Unavailable),
            Some("throttled") => Some(Self::Throttled),
            _ => Some(Self::Invalid),
        }
    }

    /// The output of an action that ended with this fault.
    pub fn output(self, error: impl Into<String>) -> Object {
        Object::from_iter([
            (ERROR.to_owned(), Value::String(error.into())),
            (FAULT.to_owned(), Value::String(self.word().to_owned())),
        ])
    }
}

/// The bytes of a JSON object.
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    // Maps with string keys and finite numbers, which is all that a body can hold, always
    // serialize.
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_is_the_rule_s_and_an_error_without_one_is_400() {
        for (said, is_error, expected) in [
            (None, false, 200),
            (None, true, 400),
            (Some(json!(null)), true, 400),
            (Some(json!(401)), true, 401),
            (Some(json!(201.0)), false, 201),
            (Some(json!(99)), false, 500),
            (Some(json!(200.5)), false, 500),
            (Some(json!("200")), false, 500),
        ] {
            let error = is_error.then(|| (ERROR.to_owned(), json!("no")));
            let status = said.clone().map(|said| ("status".to_owned(), said));
            let respond = Object::from_iter(error.into_iter().chain(status));
            assert_eq!(answer_status(&respond), expected, "{said:?}");
        }
    }

    #[test]
    fn a_completion_is_an_input_and_an_output_and_nothing_else() {
        let body = Completion::decode(br#"{"output":{"error":"no"},"input":{"a":1}}"#).unwrap();
        assert!(body.is_failure());
        assert_eq!(body.input.get("a"), Some(&json!(1)));
        assert_eq!(Completion::decode(&encode(&body)), Ok(body));
        for wrong in
            [r#"{"input":{}}"#, r#"{"input":{},"output":[]}"#, r#"{"input":{},"output":{},"x":1}"#]
        {
            assert_eq!(Completion::decode(wrong.as_bytes()), Err(BadCompletion::Shape), "{wrong}");
        }
    }

    #[test]
    fn a_fault_is_told_by_its_word_and_an_unknown_one_is_an_internal_one() {
        for fault in [Fault::Deadline, Fault::Unavailable, Fault::Throttled, Fault::Invalid] {
            assert_eq!(Fault::of(&fault.output("why")), Some(fault));
        }
        assert_eq!(
            Fault::of(&Object::from_iter([(FAULT.to_owned(), json!(3))])),
            Some(Fault::Invalid)
        );
        assert_eq!(Fault::of(&Object::new()), None);
    }
}
