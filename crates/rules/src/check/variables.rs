//! The variables of a rule.

use std::sync::Arc;

use concert_wire::routes::ValueType;

use super::uses;
use crate::diagnostics::{Diagnostic, REBOUND, UNBOUND, WRONG_TYPE};
use crate::program::Slot;
use crate::source::Span;
use crate::syntax::Ident;

/// Where a value comes from; a secret may be answered only when an action returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The input of an action.
    Input,
    /// The output of an action.
    Output,
}

pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    /// `None` where it is not known yet.
    pub(crate) kind: Option<ValueType>,
    pub(crate) origin: Origin,
    pub(crate) span: Span,
    /// Whether calls may use it here.
    in_scope: bool,
}

#[derive(Default)]
pub(crate) struct Variables(Vec<Variable>);

impl Variables {
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.0.iter().map(|variable| variable.name.clone()).collect()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Variable> {
        self.0.get(slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Variable)> {
        self.0.iter().enumerate()
    }

    fn find(&self, name: &str) -> Option<Slot> {
        self.0.iter().position(|variable| &*variable.name == name)
    }

    fn add(&mut self, name: &Ident, kind: Option<ValueType>, origin: Origin) -> Slot {
        self.0.push(Variable {
            name: name.text.as_str().into(),
            kind,
            origin,
            span: name.span,
            in_scope: true,
        });
        self.0.len() - 1
    }

    /// In `when`, where the same variable twice means that the values must be equal.
    pub(super) fn bind_in_pattern(
        &mut self,
        name: &Ident,
        kind: Option<ValueType>,
        origin: Origin,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Slot {
        let Some(slot) = self.find(&name.text) else {
            return self.add(name, kind, origin);
        };
        let before = self.0.get(slot).and_then(|variable| variable.kind.clone());
        if before == Some(ValueType::Secret) || kind == Some(ValueType::Secret) {
            diagnostics.push(uses::secret(
                name.span,
                "a secret is bound once in a rule, since it is never compared",
            ));
        } else if let (Some(before), Some(kind)) = (&before, &kind)
            && uses::unify(before, kind).is_none()
        {
            let message = format!(
                "`{}` is {} elsewhere and {} here, so they can never be equal",
                name.text,
                before.describe(),
                kind.describe()
            );
            diagnostics.push(Diagnostic::error(WRONG_TYPE, name.span, message));
        }
        if before.is_none() {
            self.learn(slot, kind);
        }
        slot
    }

    /// In a call, where nothing is bound twice.
    pub(super) fn bind_in_call(
        &mut self,
        name: &Ident,
        kind: Option<ValueType>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Slot {
        if let Some(slot) = self.find(&name.text) {
            let message = format!("`{}` is bound already, and nothing rebinds a variable", name.text);
            diagnostics
                .push(Diagnostic::error(REBOUND, name.span, message).help("give it another name: `output: name`"));
            return slot;
        }
        self.add(name, kind, Origin::Output)
    }

    /// The slot of a variable that is used.
    pub(super) fn used(&self, name: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Slot> {
        if let Some(slot) = self
            .find(name)
            .filter(|slot| self.get(*slot).is_some_and(|variable| variable.in_scope))
        {
            return Some(slot);
        }
        let diagnostic = Diagnostic::error(UNBOUND, span, format!("`{name}` is not bound here"));
        let known = self
            .0
            .iter()
            .filter(|variable| variable.in_scope)
            .map(|variable| &*variable.name);
        diagnostics.push(if self.find(name).is_some() {
            diagnostic.help("the call that binds it may have failed, or not been made")
        } else {
            diagnostic.suggest(name, known)
        });
        None
    }

    pub(crate) fn learn(&mut self, slot: Slot, kind: Option<ValueType>) {
        if let Some(variable) = self.0.get_mut(slot) {
            variable.kind = kind.or(variable.kind.take());
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes what was bound since out of scope.
    pub(super) fn hide_from(&mut self, count: usize) {
        self.0
            .iter_mut()
            .skip(count)
            .for_each(|variable| variable.in_scope = false);
    }
}
