//! The rule under check, and lookup of the concepts and actions that it names.

use super::uses::Use;
use super::variables::Variables;
use crate::diagnostics::{CASE, Diagnostic, NOT_AN_ACTION, UNKNOWN_ACTION, UNKNOWN_CONCEPT};
use crate::names::is_query;
use crate::spec::{ActionSpec, ConceptSpec, Params};
use crate::syntax::Ident;

/// State of the check of one rule.
pub(super) struct Rule<'a> {
    pub(super) concepts: &'a [ConceptSpec],
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
    pub(super) variables: Variables,
    pub(super) uses: Vec<Use>,
}

impl<'a> Rule<'a> {
    /// Looks up a concept; reports an unknown one.
    pub(super) fn concept(&mut self, name: &Ident) -> Option<&'a ConceptSpec> {
        let found = self.concepts.iter().find(|spec| *spec.name == *name.text);
        if found.is_none() {
            let message = format!("unknown concept `{}`", name.text);
            let diagnostic = Diagnostic::error(UNKNOWN_CONCEPT, name.span, message);
            self.diagnostics
                .push(diagnostic.suggest(&name.text, self.concepts.iter().map(|spec| &*spec.name)));
        }
        found
    }

    /// Reports a further key that differs from a declared parameter only in case.
    pub(super) fn check_case(&mut self, key: &Ident, declared: &Params) {
        let near = declared.params.iter().find(|param| param.name.eq_ignore_ascii_case(&key.text));
        if let Some(near) = near {
            let message =
                format!("the key `{}` differs from `{}` only in case", key.text, near.name);
            let diagnostic = Diagnostic::error(CASE, key.span, message);
            self.diagnostics.push(diagnostic.help(format!("did you mean `{}`?", near.name)));
        }
    }

    /// Looks up an action; reports an unknown one.
    pub(super) fn action(&mut self, concept: &Ident, action: &Ident) -> Option<ActionSpec> {
        let spec = self.concept(concept)?;
        if is_query(&action.text) {
            let message = format!(
                "expected an action, but `{}` is a query; call queries in `where`",
                action.text
            );
            self.diagnostics.push(Diagnostic::error(NOT_AN_ACTION, action.span, message));
            return None;
        }
        let found = spec.actions.iter().find(|spec| *spec.name == *action.text);
        if found.is_none() {
            let diagnostic = Diagnostic::error(
                UNKNOWN_ACTION,
                action.span,
                format!("the concept `{}` has no action `{}`", concept.text, action.text),
            );
            self.diagnostics.push(
                diagnostic.suggest(&action.text, spec.actions.iter().map(|spec| &*spec.name)),
            );
        }
        found.cloned()
    }
}
