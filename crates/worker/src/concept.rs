//! A concept as the host sees it: the spec, and a handler for each action and query of it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use concert_lang::spec::{ActionSpec, ConceptSpec, QuerySpec};
use concert_wire::client::ClientTag;
use concert_wire::envelope::Object;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::{BadName, ConceptName};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::lease::{Lease, MayNotWrite};

/// An action that is to be carried out, with its secrets in clear.
#[derive(Debug)]
pub struct Call<I> {
    /// The id: every delivery of the same action has the same, so it is what writes are stamped with.
    pub id: ActionId,
    /// The flow.
    pub flow: FlowId,
    /// Where the request that the flow began with came from. An action that was injected has none.
    pub client: Option<ClientTag>,
    /// The input, checked against the spec.
    pub input: I,
    /// To be asked before every write.
    pub lease: Lease,
}

/// A query that is to be answered, with its secrets in clear.
#[derive(Debug)]
pub struct Query<I> {
    /// The input, checked against the spec.
    pub input: I,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It happened. Secrets stand in clear; the host seals them.
    Done(Object),
    /// It did not happen, and this is why. The same question would get the same answer.
    Refused(String),
    /// It was not tried, and this is why: too many like it have failed lately. A fault, which the router answers with 429 where no rule does.
    Throttled(String),
}

impl Outcome {
    /// It happened, with these outputs.
    pub fn done<const N: usize>(outputs: [(&str, Value); N]) -> Self {
        Self::Done(row(outputs))
    }

    /// It did not happen.
    pub fn refused(error: impl Into<String>) -> Self {
        Self::Refused(error.into())
    }

    /// It was not tried.
    pub fn throttled(error: impl Into<String>) -> Self {
        Self::Throttled(error.into())
    }
}

/// The rows of a query's answer.
pub type Rows = Vec<Object>;

/// A row with these keys.
pub fn row<const N: usize>(members: [(&str, Value); N]) -> Object {
    members
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Why a handler could not tell the outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may work later: the database is away, a pool is full.
    #[error("{0}")]
    Retry(String),
    /// This delivery must not write; what comes of the action is the host's business.
    #[error(transparent)]
    MayNotWrite(#[from] MayNotWrite),
}

impl Failure {
    /// It may work later.
    pub fn retry(why: impl std::fmt::Display) -> Self {
        Self::Retry(why.to_string())
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send>>;
type ActionHandler = Box<dyn Fn(Call<Object>) -> Answer<Outcome> + Send + Sync>;
type QueryHandler = Box<dyn Fn(Query<Object>) -> Answer<Rows> + Send + Sync>;

/// What the host sees of a handler's failure.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The handler's type does not take an input that fits the spec.
    Mismatch(String),
    /// The handler's own word.
    Handler(Failure),
}

/// Why spec and handlers do not make a concept.
#[derive(Debug, thiserror::Error)]
pub enum BadConcept {
    /// The spec cannot be read.
    #[error("the spec cannot be read:\n{0}")]
    Spec(String),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The spec and the handlers differ.
    #[error("the spec of {concept} and its handlers differ: {difference}")]
    Handlers {
        /// The concept.
        concept: ConceptName,
        /// What is missing on which side.
        difference: String,
    },
}

/// A concept that can be run.
pub struct Concept {
    pub(crate) name: ConceptName,
    pub(crate) spec: ConceptSpec,
    actions: HashMap<String, ActionHandler>,
    queries: HashMap<String, QueryHandler>,
    /// Actions that the audit leaves out.
    unaudited: Vec<String>,
}

/// A concept whose handlers are being named.
pub struct ConceptBuilder {
    concept: Concept,
    unknown: Vec<String>,
    /// Actions that nobody may ask for.
    closed: Vec<String>,
}

impl Concept {
    /// Begins with a spec, as it stands in `concepts/<Name>.concept`.
    ///
    /// # Errors
    /// The spec cannot be read.
    pub fn of_spec(file_name: &str, spec: &str) -> Result<ConceptBuilder, BadConcept> {
        let spec = concert_lang::concept::parse_one(file_name, spec).map_err(BadConcept::Spec)?;
        let concept = Self {
            name: spec.name.parse()?,
            spec,
            actions: HashMap::new(),
            queries: HashMap::new(),
            unaudited: Vec::new(),
        };
        Ok(ConceptBuilder {
            concept,
            unknown: Vec::new(),
            closed: Vec::new(),
        })
    }

    /// The concept's name.
    pub fn name(&self) -> &ConceptName {
        &self.name
    }

    pub(crate) fn action(&self, name: &str) -> Option<(&ActionSpec, &ActionHandler)> {
        let spec = self.spec.actions.iter().find(|spec| &*spec.name == name)?;
        Some((spec, self.actions.get(name)?))
    }

    /// Whether the audit tells of an action.
    pub(crate) fn is_audited(&self, name: &str) -> bool {
        !self.unaudited.iter().any(|left_out| left_out == name)
    }

    pub(crate) fn query(&self, name: &str) -> Option<(&QuerySpec, &QueryHandler)> {
        let spec = self.spec.queries.iter().find(|spec| &*spec.name == name)?;
        Some((spec, self.queries.get(name)?))
    }
}

impl ConceptBuilder {
    /// Names the handler of an action. `I` is read from the input, so its fields are the spec's parameters.
    #[must_use]
    pub fn action<I, F, A>(mut self, name: &str, handler: F) -> Self
    where
        I: DeserializeOwned,
        F: Fn(Call<I>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        if !self.concept.spec.actions.iter().any(|spec| &*spec.name == name) {
            self.unknown.push(name.to_owned());
        }
        let handle = move |call: Call<Object>| -> Answer<Outcome> {
            match serde_json::from_value(Value::Object(call.input)) {
                Ok(input) => {
                    let answer = handler(Call {
                        id: call.id,
                        flow: call.flow,
                        client: call.client,
                        input,
                        lease: call.lease,
                    });
                    Box::pin(async { answer.await.map_err(Failed::Handler) })
                }
                Err(error) => Box::pin(async move { Err(Failed::Mismatch(error.to_string())) }),
            }
        };
        self.concept.actions.insert(name.to_owned(), Box::new(handle));
        self
    }

    /// Names the handler of a query.
    #[must_use]
    pub fn query<I, F, A>(mut self, name: &str, handler: F) -> Self
    where
        I: DeserializeOwned,
        F: Fn(Query<I>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Rows, Failure>> + Send + 'static,
    {
        if !self.concept.spec.queries.iter().any(|spec| &*spec.name == name) {
            self.unknown.push(name.to_owned());
        }
        let handle = move |query: Query<Object>| -> Answer<Rows> {
            match serde_json::from_value(Value::Object(query.input)) {
                Ok(input) => {
                    let answer = handler(Query { input });
                    Box::pin(async { answer.await.map_err(Failed::Handler) })
                }
                Err(error) => Box::pin(async move { Err(Failed::Mismatch(error.to_string())) }),
            }
        };
        self.concept.queries.insert(name.to_owned(), Box::new(handle));
        self
    }

    /// Leaves an action out of the audit: it changes nothing, and says nothing that the action that led to it did not.
    #[must_use]
    pub fn unaudited(mut self, name: &str) -> Self {
        self.concept.unaudited.push(name.to_owned());
        self
    }

    /// Says that an action of the spec comes about in another way and cannot be asked for.
    #[must_use]
    pub fn closed(mut self, name: &str) -> Self {
        self.closed.push(name.to_owned());
        self
    }

    /// The concept, if spec and handlers agree.
    ///
    /// # Errors
    /// An action or query of the spec has no handler, or a handler has no action or query.
    pub fn build(self) -> Result<Arc<Concept>, BadConcept> {
        let concept = self.concept;
        let mut missing: Vec<&str> = Vec::new();
        missing.extend(
            concept
                .spec
                .actions
                .iter()
                .map(|spec| &*spec.name)
                .filter(|name| !concept.actions.contains_key(*name) && !self.closed.iter().any(|c| c == name)),
        );
        missing.extend(
            concept
                .spec
                .queries
                .iter()
                .map(|spec| &*spec.name)
                .filter(|name| !concept.queries.contains_key(*name)),
        );
        let mut differences = Vec::new();
        if !missing.is_empty() {
            differences.push(format!("no handler for {}", missing.join(", ")));
        }
        if !self.unknown.is_empty() {
            differences.push(format!("the spec has no {}", self.unknown.join(", ")));
        }
        if differences.is_empty() {
            return Ok(Arc::new(concept));
        }
        Err(BadConcept::Handlers {
            concept: concept.name,
            difference: differences.join("; "),
        })
    }
}
