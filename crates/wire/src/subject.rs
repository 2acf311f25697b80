//! Subjects and streams.

use crate::id::{ActionId, FlowId};
use crate::name::{ActionName, ConceptName};

/// Stream of all completions: the log.
pub const LOG: &str = "COMPLETIONS";
/// Subjects of the log.
pub const LOG_SUBJECTS: &str = "done.>";
/// Stream of dead letters.
pub const DEAD: &str = "DEAD";
/// Subjects of the stream of dead letters.
pub const DEAD_SUBJECTS: &str = "dead.>";
/// Subjects on which the headers of each stored dead letter are published, for edges with waiting
/// requests.
pub const DEAD_NOTICES: &str = "notice.dead.>";
/// Subject on which a new route table is announced to edges.
pub const ROUTES_NOTICE: &str = "notice.routes";
/// Subject on which the archive publishes changed flows for open consoles. Informational only.
pub const FLOWS_NOTICE: &str = "notice.flows";
/// The KV bucket with the route table.
pub const BUCKET: &str = "concert";
/// Consumer of a concept's workers.
pub const WORKERS: &str = "workers";
/// Consumers of the archives for the log and for dead letters, and their priority group.
pub const ARCHIVES: &str = "archives";
/// Consumer of the routers, and its priority group.
pub const ROUTERS: &str = "routers";
/// Subject on which routers receive requests to fire the rules on a completion again. The body is
/// the subject of the completion.
pub const ROUTER_RETRY: &str = "router.retry";

/// Subject that the active router serves while it runs, with the id of its pin.
pub fn router_pin(id: &str) -> String {
    format!("router.pin.{id}")
}

/// Stream of a concept's invocations.
pub fn actions_stream(concept: &ConceptName) -> String {
    format!("ACTIONS_{concept}")
}

/// Subjects of a concept's stream of invocations.
pub fn actions_subjects(concept: &ConceptName) -> String {
    format!("action.{concept}.>")
}

/// KV bucket for notes among the workers of a concept. It is separate from [`BUCKET`]: a client
/// that may write one key of a bucket can delete all of them.
pub fn notes_bucket(concept: &str) -> String {
    format!("{BUCKET}_{concept}")
}

/// Subject of an invocation.
pub fn invocation(concept: &str, action: &str, id: ActionId) -> String {
    format!("action.{concept}.{action}.{id}")
}

/// Subject of a completion.
pub fn completion(flow: FlowId, concept: &str, action: &str, id: ActionId) -> String {
    format!("done.{flow}.{concept}.{action}.{id}")
}

/// All completions of a flow.
pub fn flow(flow: FlowId) -> String {
    format!("done.{flow}.>")
}

/// Completions of an action in a flow, by action name.
pub fn completions_of(flow: FlowId, concept: &str, action: &str) -> String {
    format!("done.{flow}.{concept}.{action}.*")
}

/// Completion of a flow's root, for any action.
pub fn root(flow: FlowId) -> String {
    format!("done.{flow}.*.*.{}", flow.root())
}

/// Subject of a dead letter; an invalid name is replaced by `_`.
pub fn dead(concept: &ConceptName, action: Option<&ActionName>) -> String {
    format!("dead.{concept}.{}", action.map_or("_", ActionName::as_str))
}

/// Subject of a query, or of a synchronous call of an action.
pub fn service(concept: &str, name: &str) -> String {
    format!("concept.{concept}.{name}")
}

/// Name of a concept's endpoint for a query with several inputs. No action or query has it, because
/// of the hyphen.
pub const QUERY_BATCH: &str = "query-batch";

/// Errors of parsing a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSubject {
    /// The number of tokens is wrong, or a token is not a valid name.
    #[error("the subject is not of the form {0}")]
    Form(&'static str),
    /// A token that must be a UUID is not.
    #[error("the {0} in the subject is not a UUID")]
    Id(&'static str),
}

/// Parts of an invocation's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationSubject {
    /// The concept.
    pub concept: ConceptName,
    /// The action.
    pub action: ActionName,
    /// The action id; may be missing for an injected action.
    pub id: Option<ActionId>,
}

/// Parts of a completion's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionSubject {
    /// The flow.
    pub flow: FlowId,
    /// The concept.
    pub concept: ConceptName,
    /// The action.
    pub action: ActionName,
    /// The action's id.
    pub id: ActionId,
}

impl InvocationSubject {
    /// Reads `action.<Concept>.<action>[.<action id>]`.
    ///
    /// # Errors
    /// See [`BadSubject`].
    pub fn parse(subject: &str) -> Result<Self, BadSubject> {
        const FORM: BadSubject = BadSubject::Form("action.<Concept>.<action>[.<action id>]");
        let mut tokens = subject.split('.');
        let (Some("action"), Some(concept), Some(action), id, None) =
            (tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next())
        else {
            return Err(FORM);
        };
        let id = id.map(str::parse).transpose().map_err(|_| BadSubject::Id("action id"))?;
        Ok(Self {
            concept: concept.parse().map_err(|_| FORM)?,
            action: action.parse().map_err(|_| FORM)?,
            id,
        })
    }
}

impl CompletionSubject {
    /// Reads `done.<flow>.<Concept>.<action>.<action id>`.
    ///
    /// # Errors
    /// See [`BadSubject`].
    pub fn parse(subject: &str) -> Result<Self, BadSubject> {
        const FORM: BadSubject = BadSubject::Form("done.<flow>.<Concept>.<action>.<action id>");
        let mut tokens = subject.split('.');
        let (Some("done"), Some(flow), Some(concept), Some(action), Some(id), None) = (
            tokens.next(),
            tokens.next(),
            tokens.next(),
            tokens.next(),
            tokens.next(),
            tokens.next(),
        ) else {
            return Err(FORM);
        };
        Ok(Self {
            flow: flow.parse().map_err(|_| BadSubject::Id("flow"))?,
            concept: concept.parse().map_err(|_| FORM)?,
            action: action.parse().map_err(|_| FORM)?,
            id: id.parse().map_err(|_| BadSubject::Id("action id"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199f0a0-0000-7000-8000-000000000001";

    #[test]
    fn invocation_may_lack_an_id() {
        let parsed = InvocationSubject::parse("action.Sessioning.delete").unwrap();
        assert_eq!((parsed.action.as_str(), parsed.id), ("delete", None));
        let parsed = InvocationSubject::parse(&format!("action.Sessioning.delete.{ID}")).unwrap();
        assert_eq!(parsed.id, Some(ID.parse().unwrap()));
    }

    #[test]
    fn wildcards_and_malformed_subjects_are_rejected() {
        for wrong in [
            "action.Sessioning",
            "action.sessioning.delete",
            "action.Sessioning.delete.*",
            "action.Sessioning.delete.x.y",
            "done.a.b.c.d",
        ] {
            assert!(InvocationSubject::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            format!("done.*.A.b.{ID}"),
            format!("done.{ID}.A.b.*"),
            format!("done.{ID}.A.b"),
            format!("done.{ID}.A.b.{ID}.x"),
            format!("done.{ID}.a.b.{ID}"),
        ] {
            assert!(CompletionSubject::parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn built_subject_can_be_parsed() {
        let subject =
            completion(ID.parse().unwrap(), "Profile", "authenticate", ID.parse().unwrap());
        let parsed = CompletionSubject::parse(&subject).unwrap();
        assert_eq!((parsed.concept.as_str(), parsed.action.as_str()), ("Profile", "authenticate"));
    }
}
