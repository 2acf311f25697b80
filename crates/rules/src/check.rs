//! Names, types, bindings and secrets: from the syntax tree of a rule to the rule that runs.

mod calls;
mod expressions;
mod patterns;
mod steps;
pub(crate) mod uses;
mod variables;
pub(crate) mod whole;

use std::collections::HashMap;
use std::sync::Arc;

use concert_wire::routes::ValueType;
use serde_json::Value;

use self::steps::Steps;
use self::uses::Use;
use self::variables::Variables;
use crate::diagnostics::{Diagnostic, NOT_AN_ACTION, REPEATED_RULE, UNKNOWN_ACTION, UNKNOWN_CONCEPT};
use crate::names::is_query;
use crate::program::{Slot, Sync, used};
use crate::source::Span;
use crate::spec::{ActionSpec, ConceptSpec};
use crate::syntax::{Ident, SyncDef};

/// A rule with what the whole program must know of it.
pub(crate) struct Checked {
    pub(crate) sync: Sync,
    pub(crate) variables: Variables,
    pub(crate) uses: Vec<Use>,
    /// The requests that the rule waits for, by literal path.
    pub(crate) requests: Vec<RequestPattern>,
}

/// A pattern of a request with a literal path.
pub(crate) struct RequestPattern {
    pub(crate) path: String,
    /// Whether the rule waits for nothing else.
    pub(crate) is_root: bool,
    pub(crate) keys: Vec<RequestKey>,
}

/// A key of a request that a rule names.
pub(crate) struct RequestKey {
    pub(crate) name: Arc<str>,
    pub(crate) optional: bool,
    pub(crate) bound: KeyBound,
    pub(crate) span: Span,
}

/// What a rule demands of a key of a request.
pub(crate) enum KeyBound {
    /// It goes where this variable goes.
    Variable(Slot),
    /// It must be equal to a literal of this type.
    Literal(ValueType),
}

/// Checks all rules of all files.
pub(crate) fn check(concepts: &[ConceptSpec], syncs: &[SyncDef], diagnostics: &mut Vec<Diagnostic>) -> Vec<Checked> {
    let mut names: HashMap<&str, Span> = HashMap::new();
    for sync in syncs {
        if let Some(first) = names.get(sync.name.text.as_str()) {
            let message = format!("there is another rule of the name `{}`", sync.name.text);
            diagnostics.push(Diagnostic::error(REPEATED_RULE, sync.name.span, message).related(*first, "the first"));
        } else {
            names.insert(&sync.name.text, sync.name.span);
        }
    }
    syncs
        .iter()
        .map(|sync| {
            let rule = Rule {
                concepts,
                diagnostics,
                variables: Variables::default(),
                uses: Vec::new(),
            };
            rule.check(sync)
        })
        .collect()
}

struct Rule<'a> {
    concepts: &'a [ConceptSpec],
    diagnostics: &'a mut Vec<Diagnostic>,
    variables: Variables,
    uses: Vec<Use>,
}

impl<'a> Rule<'a> {
    fn check(mut self, def: &SyncDef) -> Checked {
        let mut requests = Vec::new();
        let mut when = Vec::new();
        for pattern in &def.when {
            if let Some((compiled, request)) = self.pattern(pattern, def.when.len() == 1) {
                when.push(compiled);
                requests.extend(request);
            }
        }
        let Steps { steps, elses } = self.steps(&def.steps);
        let bound_before_then = self.variables.count();
        let then: Vec<_> = def.then.iter().filter_map(|call| self.call(call)).collect();
        let otherwise = def
            .otherwise
            .as_ref()
            .map(|otherwise| self.otherwise(otherwise, bound_before_then));
        self.warn_of_unused(def);
        let follows = otherwise.iter().flat_map(|otherwise| &otherwise.calls);
        let mut kept = used(then.iter().chain(follows));
        kept.retain(|slot| *slot < bound_before_then);
        let sync = Sync {
            name: def.name.text.as_str().into(),
            variables: self.variables.names(),
            when,
            steps,
            elses,
            kept,
            then,
            otherwise,
        };
        Checked {
            sync,
            variables: self.variables,
            uses: self.uses,
            requests,
        }
    }

    /// The concept that is meant; what is not known is reported.
    fn concept(&mut self, name: &Ident) -> Option<&'a ConceptSpec> {
        let found = self.concepts.iter().find(|spec| *spec.name == *name.text);
        if found.is_none() {
            let message = format!("no spec declares the concept `{}`", name.text);
            let diagnostic = Diagnostic::error(UNKNOWN_CONCEPT, name.span, message);
            self.diagnostics
                .push(diagnostic.suggest(&name.text, self.concepts.iter().map(|spec| &*spec.name)));
        }
        found
    }

    /// The action that is meant; what is not known is reported.
    fn action(&mut self, concept: &Ident, action: &Ident) -> Option<ActionSpec> {
        let spec = self.concept(concept)?;
        if is_query(&action.text) {
            let message = format!("`{}` is a query; queries are asked in `where`", action.text);
            self.diagnostics
                .push(Diagnostic::error(NOT_AN_ACTION, action.span, message));
            return None;
        }
        let found = spec.actions.iter().find(|spec| *spec.name == *action.text);
        if found.is_none() {
            let diagnostic = Diagnostic::error(
                UNKNOWN_ACTION,
                action.span,
                format!("the concept `{}` has no action `{}`", concept.text, action.text),
            );
            self.diagnostics
                .push(diagnostic.suggest(&action.text, spec.actions.iter().map(|spec| &*spec.name)));
        }
        found.cloned()
    }
}

/// The type that a literal shows.
pub(crate) fn type_of(value: &Value) -> ValueType {
    match value {
        Value::Null | Value::Object(_) => ValueType::Any,
        Value::Bool(_) => ValueType::Boolean,
        Value::Number(_) => ValueType::Number,
        Value::String(_) => ValueType::String,
        Value::Array(_) => ValueType::Seq(Box::new(ValueType::Any)),
    }
}
