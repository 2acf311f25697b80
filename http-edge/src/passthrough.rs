//! Actions that are exposed at `<base>/<Concept>/<action>` without a rule. The configuration lists
//! each with a reason.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Response;
use concert_runtime::bus::Bus;
use concert_runtime::service::{self, NoAnswer};
use concert_wire::envelope::{ERROR, Fault, Object};
use concert_wire::id::FlowId;
use concert_wire::name::{ActionName, ConceptName};
use concert_wire::seal::Sealer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{EdgeError, Misfit};
use crate::splice::Pieces;
use crate::{answer, body};

/// Actions that are exposed without a rule: a part of the section `[http]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PassthroughArgs {
    /// Actions to expose over HTTP without a rule, each with a reason:
    /// `"Profile.authenticate" = "legacy client"`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub passthrough: BTreeMap<Target, Reason>,
    /// Actions that are not exposed even if `http.passthrough` lists them.
    #[schemars(with = "Vec<String>")]
    pub passthrough_except: Vec<Target>,
}

/// An action or query of a concept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    concept: ConceptName,
    action: ActionName,
}

/// Reason for exposing an action; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(String);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (concept, action) =
            text.split_once('.').ok_or("an action must have the form `Concept.action`")?;
        let concept =
            concept.parse().map_err(|error: concert_wire::name::BadName| error.to_string())?;
        let action =
            action.parse().map_err(|error: concert_wire::name::BadName| error.to_string())?;
        Ok(Self { concept, action })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        format!("{}.{}", target.concept, target.action)
    }
}

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim() {
            "" => {
                Err("an exposed action needs a reason: `\"Concept.action\" = \"reason\"`"
                    .to_owned())
            }
            reason => Ok(Self(reason.to_owned())),
        }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl PassthroughArgs {
    /// Exposed actions, without the excluded ones.
    pub fn open(&self) -> Vec<(ConceptName, ActionName)> {
        let open = self.included().map(|(target, _)| target.clone());
        open.map(|Target { concept, action }| (concept, action)).collect()
    }

    fn included(&self) -> impl Iterator<Item = (&Target, &Reason)> {
        let listed = self.passthrough.iter();
        listed.filter(|(target, _)| !self.passthrough_except.contains(target))
    }
}

/// Exposed actions, by path.
pub(crate) struct Passthrough(BTreeMap<String, Target>);

impl Passthrough {
    /// Exposed actions, without the excluded ones. Logs each with its reason.
    pub(crate) fn new(args: &PassthroughArgs) -> Self {
        let named = args.included().map(|(target, Reason(reason))| {
            let (concept, action) = (&target.concept, &target.action);
            tracing::warn!(%concept, %action, reason, "action exposed without a rule");
            (format!("/{}/{}", target.concept, target.action), target.clone())
        });
        Self(named.collect())
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Target> {
        self.0.get(path)
    }
}

/// Executes an action or runs a query, and returns its result as the response. An action starts the
/// flow.
///
/// # Errors
/// The input contains a seal, the concept rejects it, or there is no result in time.
pub(crate) async fn call(
    bus: &Bus,
    sealer: &Sealer,
    (target, flow): (&Target, FlowId),
    body: &Object,
    within: Duration,
) -> Result<Response<Pieces>, EdgeError> {
    if let Some((name, _)) = body.iter().find(|(_, value)| body::holds_seal(value)) {
        return Err(Misfit::new(name, body::NO_SEAL).into());
    }
    let called = (target.concept.as_str(), target.action.as_str());
    let answer = service::ask(bus, called, Some(flow), body, within).await.map_err(refusal)?;
    let status = match Fault::of(&answer.body) {
        Some(fault @ (Fault::Throttled | Fault::Expired)) => fault.status(),
        _ if answer.body.contains_key(ERROR) => 400,
        _ => 200,
    };
    answer::of_output(sealer, answer.flow, answer.body, status)
}

fn refusal(no_answer: NoAnswer) -> EdgeError {
    match no_answer {
        // After an unreadable reply, the action may have happened.
        NoAnswer::TimedOut(_) | NoAnswer::Unreadable(_) => EdgeError::NoAnswer,
        NoAnswer::Refused { code, why } => match code.as_str() {
            "400" => EdgeError::BadRequest(why),
            "504" => EdgeError::NoAnswer,
            _ => EdgeError::Unavailable,
        },
        NoAnswer::Unreachable(_) => EdgeError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(
        passthrough: serde_json::Value,
        except: &[&str],
    ) -> serde_json::Result<PassthroughArgs> {
        serde_json::from_value(
            serde_json::json!({ "passthrough": passthrough, "passthrough_except": except }),
        )
    }

    fn open(passthrough: serde_json::Value, except: &[&str]) -> Vec<String> {
        let args = args(passthrough, except).unwrap();
        Passthrough::new(&args).0.into_keys().collect()
    }

    #[test]
    fn action_that_may_have_happened_does_not_ask_for_a_retry() {
        let unreadable = refusal(NoAnswer::Unreadable("no JSON".to_owned()));
        assert!(matches!(unreadable, EdgeError::NoAnswer), "{unreadable:?}");
    }

    #[test]
    fn only_listed_actions_without_exclusions_are_exposed() {
        assert_eq!(open(serde_json::json!({}), &[]), Vec::<String>::new());
        let listed = serde_json::json!({ "A.b": "why", "A._c": "because" });
        assert_eq!(open(listed, &["A.b"]), ["/A/_c"]);
        for (target, reason) in [
            ("A.b", ""),
            ("A.b", " "),
            ("a.b", "why"),
            ("A.", "why"),
            ("A", "why"),
            ("A.b.c", "why"),
        ] {
            assert!(args(serde_json::json!({ target: reason }), &[]).is_err(), "{target}");
        }
    }
}
