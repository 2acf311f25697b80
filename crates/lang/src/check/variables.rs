//! The variables of a rule.

use std::sync::Arc;

use concert_wire::routes::ValueType;

use super::types::{secret, unify};
use crate::diagnostics::{Diagnostic, REBOUND, UNBOUND, WRONG_TYPE};
use crate::program::Slot;
use crate::source::Span;
use crate::syntax::Ident;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A key of a request. What its spec does not declare is sealed by the edge if a rule passes it
    /// on as a secret.
    Request,
    /// The input of another action.
    Input,
    /// The output of an action, which may be answered also when it is a secret.
    Output,
    /// A step of `where`.
    Step,
}

pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    /// From the spec of what binds it.
    pub(crate) declared: Option<ValueType>,
    /// From where it is passed to, when nothing declares it.
    learnt: Option<ValueType>,
    pub(crate) origin: Origin,
    /// Where it is bound; more than one place means that the values must be equal.
    pub(crate) places: Vec<Span>,
    /// Bound by a mistake or by what is not supported, so its type is not known.
    is_unknown: bool,
    /// Why it cannot be used here, for people; `None` where it can.
    hidden: Option<&'static str>,
}

impl Variable {
    /// The type; `None` where it is not known. What is a secret anywhere is one everywhere.
    pub(crate) fn kind(&self) -> Option<&ValueType> {
        match &self.learnt {
            Some(ValueType::Secret) => Some(&ValueType::Secret),
            learnt => self.declared.as_ref().or(learnt.as_ref()),
        }
    }

    /// Whether it is a secret because of where it is passed to.
    pub(super) fn has_learnt_a_secret(&self) -> bool {
        self.learnt == Some(ValueType::Secret) && self.declared != Some(ValueType::Secret)
    }

    /// Whether it may be passed on as a secret.
    pub(super) fn may_be_secret(&self) -> bool {
        self.is_unknown || self.kind() == Some(&ValueType::Secret)
    }

    /// Another rule of the same path passes the key on as a secret.
    pub(crate) fn is_secret_elsewhere(&mut self) {
        self.learnt = Some(ValueType::Secret);
    }

    pub(super) fn learn(&mut self, kind: &ValueType) {
        if *kind == ValueType::Secret {
            if self.declared.is_none() && self.origin == Origin::Request {
                self.learnt = Some(ValueType::Secret);
            }
            return;
        }
        self.learnt = match &self.learnt {
            None => Some(kind.clone()),
            // A type that does not fit is reported where it is expected.
            Some(known) => Some(unify(known, kind).unwrap_or_else(|| known.clone())),
        };
    }
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

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Variable> {
        self.0.get_mut(slot)
    }

    /// The variable that is bound first at this place.
    pub(super) fn bound_at(&self, place: Span) -> Option<Slot> {
        self.0.iter().position(|variable| variable.places.first() == Some(&place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter()
    }

    pub(super) fn find(&self, name: &str) -> Option<Slot> {
        self.0.iter().position(|variable| &*variable.name == name)
    }

    fn add(&mut self, name: &Ident, kind: Option<ValueType>, origin: Origin) -> Slot {
        self.0.push(Variable {
            name: name.text.as_str().into(),
            declared: kind,
            learnt: None,
            origin,
            places: vec![name.span],
            is_unknown: false,
            hidden: None,
        });
        self.0.len() - 1
    }

    /// Where nothing is known of it, so that one mistake is not reported at every use.
    pub(super) fn bind_quietly(&mut self, name: &Ident) {
        if self.find(&name.text).is_none() {
            let slot = self.add(name, None, Origin::Output);
            if let Some(variable) = self.0.get_mut(slot) {
                variable.is_unknown = true;
            }
        }
    }

    /// In a pattern, where the same variable twice means that the values must be equal.
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
        let Some(variable) = self.0.get_mut(slot).filter(|variable| variable.hidden.is_none())
        else {
            return self.bind_new(name, kind, origin, diagnostics);
        };
        variable.places.push(name.span);
        let Some(kind) = kind else {
            if variable.declared == Some(ValueType::Secret) {
                diagnostics.push(bound_twice(name.span));
            }
            return slot;
        };
        match &variable.declared {
            Some(before) if *before == ValueType::Secret || kind == ValueType::Secret => {
                diagnostics.push(bound_twice(name.span));
            }
            Some(before) if unify(before, &kind).is_none() => {
                let message = format!(
                    "`{}` is {} elsewhere and {} here, so they can never be equal",
                    name.text,
                    before.describe(),
                    kind.describe()
                );
                diagnostics.push(Diagnostic::error(WRONG_TYPE, name.span, message));
            }
            Some(_) => {}
            None => {
                if kind == ValueType::Secret {
                    diagnostics.push(bound_twice(name.span));
                }
                variable.declared = Some(kind);
            }
        }
        slot
    }

    /// Where nothing may be bound twice.
    pub(super) fn bind_new(
        &mut self,
        name: &Ident,
        kind: Option<ValueType>,
        origin: Origin,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Slot {
        if let Some(slot) = self.find(&name.text) {
            let message =
                format!("`{}` is bound already, and nothing rebinds a variable", name.text);
            let mut diagnostic = Diagnostic::error(REBOUND, name.span, message);
            if let Some(first) = self.get(slot).and_then(|variable| variable.places.first()) {
                diagnostic = diagnostic.related(*first, format!("`{}`", name.text));
            }
            diagnostics.push(diagnostic.help("give it another name, as `output: name`"));
            return slot;
        }
        self.add(name, kind, origin)
    }

    /// Whether the name was ever bound.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The slot of a variable that is used.
    pub(super) fn used(
        &self,
        name: &str,
        span: Span,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Slot> {
        let found = self.find(name);
        let hidden = found.and_then(|slot| self.get(slot)).and_then(|variable| variable.hidden);
        if let (Some(slot), None) = (found, hidden) {
            return Some(slot);
        }
        let diagnostic = Diagnostic::error(UNBOUND, span, format!("`{name}` is not bound here"));
        let known = self.0.iter().filter(|variable| variable.hidden.is_none());
        diagnostics.push(match hidden {
            Some(why) => diagnostic.help(why),
            None => {
                let known = known.map(|variable| &*variable.name);
                diagnostic.suggest(name, known.chain(["true", "false", "null"]))
            }
        });
        None
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes what was bound since out of scope.
    pub(super) fn hide_from(&mut self, count: usize, why: &'static str) {
        for variable in self.0.iter_mut().skip(count) {
            variable.hidden.get_or_insert(why);
        }
    }

    /// Takes a variable out of scope.
    pub(super) fn hide(&mut self, slot: Slot, why: &'static str) {
        if let Some(variable) = self.get_mut(slot) {
            variable.hidden.get_or_insert(why);
        }
    }

    /// Takes a variable back into scope.
    pub(super) fn show(&mut self, slot: Slot) {
        if let Some(variable) = self.get_mut(slot) {
            variable.hidden = None;
        }
    }
}

/// A secret that a rule binds a second time would be compared.
pub(super) fn bound_twice(span: Span) -> Diagnostic {
    secret(span, "a secret is bound once in a rule, since it is never compared")
}
