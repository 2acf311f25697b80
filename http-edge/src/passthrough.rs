//! Actions that are open as they are, at `<base>/<Concept>/<action>`, without a rule. None is, unless it is listed with a reason.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use clap::Args;
use concert_runtime::bus::Bus;
use concert_runtime::service::{self, NoAnswer};
use concert_wire::envelope::{ERROR, Fault, Object};
use concert_wire::name::{ActionName, ConceptName};
use concert_wire::seal::Sealer;

use crate::error::EdgeError;
use crate::{answer, body};

/// What is open.
#[derive(Debug, Clone, Default, Args)]
pub struct PassthroughArgs {
    /// An action that is open without a rule, and why, such as `Profile.authenticate=the old client asks so`. May be given several times.
    #[arg(
        long,
        env = "CONCERT_PASSTHROUGH",
        value_delimiter = ';',
        value_name = "CONCEPT.ACTION=REASON"
    )]
    pub passthrough: Vec<Inclusion>,
    /// An action that is closed whatever is listed elsewhere. May be given several times.
    #[arg(
        long,
        env = "CONCERT_PASSTHROUGH_EXCEPT",
        value_delimiter = ';',
        value_name = "CONCEPT.ACTION"
    )]
    pub passthrough_except: Vec<Target>,
}

/// An action or query of a concept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    concept: ConceptName,
    action: ActionName,
}

/// An action that is open, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    target: Target,
    reason: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (concept, action) = text.split_once('.').ok_or("an action is written `Concept.action`")?;
        let concept = concept
            .parse()
            .map_err(|error: concert_wire::name::BadName| error.to_string())?;
        let action = action
            .parse()
            .map_err(|error: concert_wire::name::BadName| error.to_string())?;
        Ok(Self { concept, action })
    }
}

impl FromStr for Inclusion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, reason) = text.split_once('=').unwrap_or((text, ""));
        let reason = reason.trim().to_owned();
        if reason.is_empty() {
            return Err("an open action has a reason: `Concept.action=reason`".to_owned());
        }
        Ok(Self {
            target: target.trim().parse()?,
            reason,
        })
    }
}

impl PassthroughArgs {
    /// The open actions; exclusions win.
    pub fn open(&self) -> Vec<(ConceptName, ActionName)> {
        let open = self.included().map(|Inclusion { target, .. }| target.clone());
        open.map(|Target { concept, action }| (concept, action)).collect()
    }

    fn included(&self) -> impl Iterator<Item = &Inclusion> {
        let excluded = |inclusion: &&Inclusion| !self.passthrough_except.contains(&inclusion.target);
        self.passthrough.iter().filter(excluded)
    }
}

/// The open actions, by path.
pub(crate) struct Passthrough(BTreeMap<String, Target>);

impl Passthrough {
    /// Exclusions win. What is open is said, with its reason.
    pub(crate) fn new(args: &PassthroughArgs) -> Self {
        let named = args.included().map(|Inclusion { target, reason }| {
            tracing::warn!(concept = %target.concept, action = %target.action, reason, "open without a rule");
            (format!("/{}/{}", target.concept, target.action), target.clone())
        });
        Self(named.collect())
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Target> {
        self.0.get(path)
    }
}

/// Carries an action out, or asks a query, and answers with what came of it.
///
/// # Errors
/// The input has what only Concert may write, the concept refuses it, or does not answer in time.
pub(crate) async fn call(
    bus: &Bus,
    sealer: &Sealer,
    target: &Target,
    body: &Object,
    within: Duration,
) -> Result<Response<Body>, EdgeError> {
    if let Some((name, _)) = body.iter().find(|(_, value)| body::holds_seal(value)) {
        return Err(EdgeError::BadRequest(body::no_seal(name)));
    }
    let asked = (target.concept.as_str(), target.action.as_str());
    let answer = service::ask(bus, asked, None, body, within).await.map_err(refusal)?;
    let status = match Fault::of(&answer.body) {
        Some(Fault::Throttled) => Fault::Throttled.status(),
        _ if answer.body.contains_key(ERROR) => 400,
        _ => 200,
    };
    answer::of_output(sealer, answer.flow, answer.body, status)
}

fn refusal(no_answer: NoAnswer) -> EdgeError {
    match no_answer {
        NoAnswer::TimedOut(_) => EdgeError::NoAnswer,
        NoAnswer::Refused { code, why } => match code.as_str() {
            "400" => EdgeError::BadRequest(why),
            "504" => EdgeError::NoAnswer,
            _ => EdgeError::Unavailable,
        },
        NoAnswer::Unreachable(_) | NoAnswer::Unreadable(_) => EdgeError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(inclusions: &[&str], exclusions: &[&str]) -> Vec<String> {
        let args = PassthroughArgs {
            passthrough: inclusions.iter().map(|text| text.parse().unwrap()).collect(),
            passthrough_except: exclusions.iter().map(|text| text.parse().unwrap()).collect(),
        };
        Passthrough::new(&args).0.into_keys().collect()
    }

    #[test]
    fn nothing_is_open_that_is_not_listed_with_a_reason_and_exclusions_win() {
        assert_eq!(open(&[], &[]), Vec::<String>::new());
        assert_eq!(open(&["A.b=why", "A._c=because"], &["A.b"]), ["/A/_c"]);
        for wrong in ["A.b", "A.b=", "A.b= ", "a.b=why", "A.=why", "A=why", "A.b.c=why"] {
            assert!(wrong.parse::<Inclusion>().is_err(), "{wrong}");
        }
    }
}
