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
    /// Input of the action.
    pub input: Object,
    /// Output of the action; the key `error` makes it a failure.
    pub output: Object,
}

/// Errors of decoding the body of a completion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCompletion {
    /// Not an object.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// `input` or `output` is missing or not an object, or there is another key.
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

    /// Returns whether the action failed.
    pub fn is_failure(&self) -> bool {
        self.output.contains_key(ERROR)
    }
}

/// Input key of `respond` for the HTTP status.
pub const STATUS: &str = "status";

/// Input key of `respondWith` for the response body.
pub const BODY: &str = "body";

/// The HTTP status of a response: the status in its input; by default 400 with an error and 200
/// without. An invalid status is an error in the rule and becomes 500.
pub fn response_status(respond: &Object) -> u16 {
    match respond.get(STATUS) {
        None | Some(Value::Null) if respond.contains_key(ERROR) => 400,
        None | Some(Value::Null) => 200,
        Some(said) => {
            let number = said
                .as_f64()
                .filter(|number| number.fract() == 0.0 && (200.0..=599.0).contains(number));
            // The number is whole and in range, so its text can be parsed.
            number.and_then(|number| format!("{number:.0}").parse().ok()).unwrap_or(500)
        }
    }
}

/// Output key that makes a completion a failure.
pub const ERROR: &str = "error";
/// Seconds until another attempt is possible. A key of the output of a throttled action, and of the
/// input of `respond` with the status 429.
pub const RETRY_AFTER: &str = "retryAfter";
/// Output key that distinguishes a fault from a refusal; its value is a [`Fault`].
pub const FAULT: &str = "fault";

/// Failures that no spec declares. If no rule responds to one, the router responds with the status
/// given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The deadline passed before the action started: 504.
    Deadline,
    /// The worker cannot execute the action now: 503.
    Unavailable,
    /// The action was not tried, because too many similar ones failed recently: 429.
    Throttled,
    /// A large value of the input is no longer stored: 410.
    Expired,
    /// Input or output does not match the spec, or the action does not exist: 500.
    Invalid,
}

impl Fault {
    /// The value in the completion.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
        }
    }

    /// The HTTP status of the router's response.
    pub const fn status(self) -> u16 {
        match self {
            Self::Deadline => 504,
            Self::Unavailable => 503,
            Self::Throttled => 429,
            Self::Expired => 410,
            Self::Invalid => 500,
        }
    }

    /// The fault in an output. Unknown values are [`Fault::Invalid`].
    pub fn of(output: &Object) -> Option<Self> {
        match output.get(FAULT)?.as_str() {
            Some("deadline") => Some(Self::Deadline),
            Some("unavailable") => Some(Self::Unavailable),
            Some("throttled") => Some(Self::Throttled),
            Some("expired") => Some(Self::Expired),
            _ => Some(Self::Invalid),
        }
    }

    /// The output of a throttled action. `wait_s` is the time until another attempt is possible, in
    /// seconds.
    pub fn throttled(error: impl Into<String>, wait_s: Option<u64>) -> Object {
        let mut output = Self::Throttled.output(error);
        output.extend(wait_s.map(|wait_s| (RETRY_AFTER.to_owned(), Value::from(wait_s))));
        output
    }

    /// The output of an action that ended with this fault.
    pub fn output(self, error: impl Into<String>) -> Object {
        Object::from_iter([
            (ERROR.to_owned(), Value::String(error.into())),
            (FAULT.to_owned(), Value::String(self.word().to_owned())),
        ])
    }
}

/// Serializes a JSON object.
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    // Maps with string keys and finite numbers always serialize, and bodies contain only those.
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_comes_from_the_rule_or_is_400_for_errors() {
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
            assert_eq!(response_status(&respond), expected, "{said:?}");
        }
    }

    #[test]
    fn completion_contains_only_input_and_output() {
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
    fn unknown_fault_is_invalid() {
        for fault in
            [Fault::Deadline, Fault::Unavailable, Fault::Throttled, Fault::Expired, Fault::Invalid]
        {
            assert_eq!(Fault::of(&fault.output("why")), Some(fault));
        }
        assert_eq!(
            Fault::of(&Object::from_iter([(FAULT.to_owned(), json!(3))])),
            Some(Fault::Invalid)
        );
        assert_eq!(Fault::of(&Object::new()), None);
    }
}
