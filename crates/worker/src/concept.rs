//! A concept for the host: its spec, and a handler for each action and query.

use std::collections::HashMap;
use std::pin::Pin;

use concert_lang::spec::{ActionSpec, ConceptSpec, QuerySpec};
use concert_wire::envelope::Object;
use concert_wire::name::ConceptName;

pub(crate) use crate::call::{Call, Query};
use crate::lease::MayNotWrite;
use crate::outcome::Outcome;

/// The rows of a query's response.
pub(crate) type Rows = Vec<Object>;

/// Reason why a handler has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The types of a query's handler do not fit the spec.
    #[error("{0}")]
    Mismatch(String),
    /// The types of a query's handler do not fit an input.
    #[error("{0}")]
    Unreadable(String),
    /// A retry may help.
    #[error("{0}")]
    Retry(String),
    /// This delivery must not write.
    #[error(transparent)]
    MayNotWrite(#[from] MayNotWrite),
}

/// A handler's future.
pub(crate) type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T, Failure>> + Send>>;
/// The handler of an action.
pub(crate) type ActionHandler = Box<dyn Fn(Call<Object>) -> Future<Outcome> + Send + Sync>;
/// The handler of a query.
pub(crate) type QueryHandler = Box<dyn Fn(Query<Object>) -> Future<Rows> + Send + Sync>;

/// A concept and its state, ready to run.
pub(crate) struct Concept {
    pub(crate) name: ConceptName,
    pub(crate) spec: ConceptSpec,
    pub(crate) actions: HashMap<String, ActionHandler>,
    pub(crate) queries: HashMap<String, QueryHandler>,
}

impl Concept {
    /// The concept's name.
    pub(crate) fn name(&self) -> &ConceptName {
        &self.name
    }

    pub(crate) fn action(&self, name: &str) -> Option<(&ActionSpec, &ActionHandler)> {
        let spec = self.spec.actions.iter().find(|spec| &*spec.name == name)?;
        Some((spec, self.actions.get(name)?))
    }

    pub(crate) fn query(&self, name: &str) -> Option<(&QuerySpec, &QueryHandler)> {
        let spec = self.spec.queries.iter().find(|spec| &*spec.name == name)?;
        Some((spec, self.queries.get(name)?))
    }
}
