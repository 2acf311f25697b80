//! The firing record: the results of all rules with queries for one completion, stored in the log
//! before their first call.
//!
//! Rows change, so such a firing cannot be computed again. One record holds all firings of a
//! completion, including those without frames. Every router thus uses the same results.
//!
//! ```json
//! {"input": {"cause": "<action id>", "rules": "<version>"},
//!  "output": {"firings": [{"sync": "Name", "causes": ["<action id>"],
//!                          "frames": [{"frame": {"user": "u1"}}, {"else": 0, "frame": {}}]}]}}
//! ```
//! Instead of `firings` there may be `halt` with a status and a reason. Then nothing more fires in
//! the flow, except for the response to its request.

use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::id::ActionId;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::frames::{Ended, Frame, Sequence};
use concert_lang::expr::LargeOperand;
use concert_lang::program::Sync;

/// The content of a record.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Firings(Vec<Recorded>),
    /// The reason why nothing more fires in a flow.
    Halt(Halt),
}

/// The reason why nothing more fires in a flow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Halt {
    /// The HTTP status of the response to the flow's request.
    pub(crate) status: u16,
    pub(crate) why: Arc<str>,
}

impl Halt {
    /// A limit was reached.
    pub(crate) fn limit(why: &str) -> Self {
        Self { status: 508, why: why.into() }
    }

    /// A query fails permanently, or a rule computes with a large value.
    pub(crate) fn fault(fault: Fault, why: &str) -> Self {
        Self { status: fault.status(), why: why.into() }
    }
}

impl From<LargeOperand> for Halt {
    fn from(why: LargeOperand) -> Self {
        Self::fault(Fault::Invalid, &why.to_string())
    }
}

/// One firing of a record.
#[derive(Debug, PartialEq)]
pub(crate) struct Recorded {
    /// The rule's index.
    pub(crate) sync: usize,
    pub(crate) causes: Vec<ActionId>,
    pub(crate) frames: Vec<Ended>,
}

pub(crate) fn encode<'a>(
    cause: ActionId,
    version: &str,
    content: &Content,
    sync: impl Fn(usize) -> Option<&'a Sync>,
) -> Completion {
    let mut output = Object::new();
    match content {
        Content::Firings(firings) => {
            let firings =
                firings.iter().filter_map(|firing| Some(encode_firing(firing, sync(firing.sync)?)));
            output.insert("firings".to_owned(), firings.collect());
        }
        Content::Halt(Halt { status, why }) => {
            output.insert("halt".to_owned(), json!({ "status": status, "why": &**why }));
        }
    }
    Completion {
        input: Object::from_iter([
            ("cause".to_owned(), Value::from(cause.to_string())),
            ("rules".to_owned(), Value::from(version)),
        ]),
        output,
    }
}

fn encode_firing(firing: &Recorded, sync: &Sync) -> Value {
    let frames = firing.frames.iter().map(|ended| {
        let bound = ended.frame.iter().zip(&sync.variables);
        let frame: Object = bound
            .filter_map(|(value, name)| Some((name.to_string(), value.as_deref()?.clone())))
            .collect();
        match ended.sequence {
            Sequence::Then => json!({ "frame": frame }),
            Sequence::Else(number) => json!({ "else": number, "frame": frame }),
        }
    });
    let frames: Vec<Value> = frames.collect();
    let causes: Vec<String> = firing.causes.iter().map(ToString::to_string).collect();
    json!({ "sync": &*sync.name, "causes": causes, "frames": frames })
}

/// The completion that a record belongs to.
pub(crate) fn cause(body: &Completion) -> Option<ActionId> {
    body.input.get("cause")?.as_str()?.parse().ok()
}

/// Decodes a record; `None` if it is invalid, or names something that these rules do not have.
pub(crate) fn decode<'a>(
    body: &Completion,
    find: impl Fn(&str) -> Option<(usize, &'a Sync)>,
) -> Option<Content> {
    if let Some(halt) = body.output.get("halt") {
        let status = u16::try_from(halt.get("status")?.as_u64()?).ok()?;
        let why = halt.get("why")?.as_str()?.into();
        return Some(Content::Halt(Halt { status, why }));
    }
    let firings = body.output.get("firings")?.as_array()?;
    let firings = firings.iter().map(|firing| decode_firing(firing, &find));
    firings.collect::<Option<_>>().map(Content::Firings)
}

fn decode_firing<'a>(
    firing: &Value,
    find: &impl Fn(&str) -> Option<(usize, &'a Sync)>,
) -> Option<Recorded> {
    let (number, sync) = find(firing.get("sync")?.as_str()?)?;
    let causes = firing.get("causes")?.as_array()?.iter();
    let causes = causes.map(|cause| cause.as_str()?.parse().ok()).collect::<Option<_>>()?;
    let frames = firing.get("frames")?.as_array()?.iter().map(|ended| {
        let bound = ended.get("frame")?.as_object()?;
        let value = |name: &Arc<str>| bound.get(&**name).cloned().map(Arc::new);
        let frame: Frame = sync.variables.iter().map(value).collect();
        let sequence = match ended.get("else") {
            None => Sequence::Then,
            Some(number) => Sequence::Else(usize::try_from(number.as_u64()?).ok()?),
        };
        Some(Ended { sequence, frame })
    });
    Some(Recorded { sync: number, causes, frames: frames.collect::<Option<_>>()? })
}
