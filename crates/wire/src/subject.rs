//! Subjects and streams.

use crate::id::{ActionId, FlowId};
use crate::name::{ActionName, ConceptName};

/// The stream of all completions: the log.
pub const LOG: &str = "COMPLETIONS";
/// What the log holds.
pub const LOG_SUBJECTS: &str = "done.>";
/// The stream of dead letters.
pub const DEAD: &str = "DEAD";
/// What the stream of dead letters holds.
pub const DEAD_SUBJECTS: &str = "dead.>";
/// Where the headers of each dead letter are told of when it is stored: to edges, whose callers
/// wait.
pub const DEAD_NOTICES: &str = "notice.dead.>";
/// Where a new route table is told of: to edges.
pub const ROUTES_NOTICE: &str = "notice.routes";
/// What the archive tells pages that are open: flows that have changed, for whoever listens and for
/// nobody's correctness.
pub const FLOWS_NOTICE: &str = "notice.flows";
/// The KV bucket with the route table.
pub const BUCKET: &str = "concert";
/// The consumer of a concept's workers.
pub const WORKERS: &str = "workers";
/// The consumers of the archives, of the log and of the dead letters, and their priority group.
pub const ARCHIVES: &str = "archives";
/// The consumer of the routers, and their priority group.
pub const ROUTERS: &str = "routers";

/// The stream of a concept's invocations.
pub fn actions_stream(concept: &ConceptName) -> String {
    format!("ACTIONS_{concept}")
}

/// What a concept's stream of invocations holds.
pub fn actions_subjects(concept: &ConceptName) -> String {
    format!("action.{concept}.>")
}

/// The KV bucket of the notes that a concept's workers leave each other. It is not [`BUCKET`]:
/// whoever may write one key of a bucket can empty it.
pub fn notes_bucket(concept: &str) -> String {
    format!("{BUCKET}_{concept}")
}

/// The subject of an invocation.
pub fn invocation(concept: &str, action: &str, id: ActionId) -> String {
    format!("action.{concept}.{action}.{id}")
}

/// The subject of a completion.
pub fn completion(flow: FlowId, concept: &str, action: &str, id: ActionId) -> String {
    format!("done.{flow}.{concept}.{action}.{id}")
}

/// All completions of a flow.
pub fn flow(flow: FlowId) -> String {
    format!("done.{flow}.>")
}

/// All completions of one of a flow's actions, by name.
pub fn completions_of(flow: FlowId, concept: &str, action: &str) -> String {
    format!("done.{flow}.{concept}.{action}.*")
}

/// What completes the action that a flow began with, whatever action that was.
pub fn root(flow: FlowId) -> String {
    format!("done.{flow}.*.*.{}", flow.root())
}

/// The subject of a dead letter; what is no name stands as `_`.
pub fn dead(concept: &ConceptName, action: Option<&ActionName>) -> String {
    format!("dead.{concept}.{}", action.map_or("_", ActionName::as_str))
}

/// The subject of a query, or of the synchronous injection of an action.
pub fn service(concept: &str, name: &str) -> String {
    format!("concept.{concept}.{name}")
}

/// Why a subject is not one of an invocation or completion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSubject {
    /// The number of tokens, or a token that is no name, is wrong.
    #[error("the subject is not of the form {0}")]
    Form(&'static str),
    /// A token that must be a UUID is not.
    #[error("the {0} in the subject is not a UUID")]
    Id(&'static str),
}

/// The parts of an invocation's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationSubject {
    /// Who is asked.
    pub concept: ConceptName,
    /// What is asked for.
    pub action: ActionName,
    /// The id; an action injected by hand may have none.
    pub id: Option<ActionId>,
}

/// The parts of a completion's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionSubject {
    /// The flow.
    pub flow: FlowId,
    /// Whose action it was.
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
    fn an_invocation_may_come_without_an_id() {
        let parsed = InvocationSubject::parse("action.Sessioning.delete").unwrap();
        assert_eq!((parsed.action.as_str(), parsed.id), ("delete", None));
        let parsed = InvocationSubject::parse(&format!("action.Sessioning.delete.{ID}")).unwrap();
        assert_eq!(parsed.id, Some(ID.parse().unwrap()));
    }

    #[test]
    fn wild_tokens_are_refused() {
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
    fn a_subject_that_is_built_can_be_read() {
        let subject =
            completion(ID.parse().unwrap(), "Profile", "authenticate", ID.parse().unwrap());
        let parsed = CompletionSubject::parse(&subject).unwrap();
        assert_eq!((parsed.concept.as_str(), parsed.action.as_str()), ("Profile", "authenticate"));
    }
}
