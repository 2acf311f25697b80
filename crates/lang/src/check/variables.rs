//! The variables of a rule.

use std::sync::Arc;

use concert_wire::routes::ValueType;

use super::types::{secret, unify};
use crate::diagnostics::{Diagnostic, REBOUND, UNBOUND, WRONG_TYPE};
use crate::program::Slot;
use crate::source::Span;
use crate::syntax::Ident;

/// Origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A key of a request. If its type is undeclared and a rule passes it on as a secret, the edge
    /// encrypts it. A response may contain it: the client knows it.
    Request,
    /// The input of another action.
    Input,
    /// The output of an action; a response may contain it even if it is secret.
    Output,
    /// A step of `where`.
    Step,
}

pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    /// Type from the spec of the pattern or call that binds it.
    pub(crate) declared: Option<ValueType>,
    /// Type inferred from the parameters that it is passed to, if no type is declared.
    learnt: Option<ValueType>,
    /// Type of the parameters that get its value through a `let` or as an operand of `??`.
    passed_on: Option<ValueType>,
    pub(crate) origin: Origin,
    /// Locations where it is bound; the values at all of them must be equal.
    pub(crate) places: Vec<Span>,
    /// The type is unknown because of an error in the pattern that binds it.
    is_unknown: bool,
    /// Reason why it cannot be used here, as text; `None` if it can be used.
    hidden: Option<&'static str>,
    /// `true` if conditions of `where` exclude null.
    is_not_null: bool,
}

impl Variable {
    /// The type; `None` if unknown. A variable that is secret in one use is secret in all.
    pub(crate) fn kind(&self) -> Option<&ValueType> {
        match &self.learnt {
            Some(secret) if secret.is_secret() => Some(secret),
            learnt => self.declared.as_ref().or(learnt.as_ref()),
        }
    }

    /// The type that it must have or be null, judged by where its value is passed on.
    pub(crate) fn indirect_kind(&self) -> Option<ValueType> {
        let kind = self.passed_on.as_ref().filter(|kind| !kind.is_secret())?;
        Some(match kind {
            ValueType::Any | ValueType::Nullable(_) => kind.clone(),
            kind => ValueType::Nullable(Box::new(kind.clone())),
        })
    }

    /// Returns whether the variable is secret because it is passed to a secret parameter.
    pub(super) fn has_learnt_a_secret(&self) -> bool {
        is_secret(self.learnt.as_ref()) && !is_secret(self.declared.as_ref())
    }

    /// Returns whether the variable can be passed to a secret parameter.
    pub(super) fn may_be_secret(&self) -> bool {
        self.is_unknown || is_secret(self.kind())
    }

    /// Marks the variable as secret because another rule of the same path passes the key on as a
    /// secret.
    pub(crate) fn is_secret_elsewhere(&mut self, kind: &ValueType) {
        self.learnt = Some(kind.clone());
    }

    /// Learns the type of a parameter that gets its value indirectly. Parameters of different types
    /// permit any value.
    pub(super) fn learn_indirectly(&mut self, kind: &ValueType) {
        let common = self.passed_on.as_ref().map_or(Some(kind.clone()), |known| unify(known, kind));
        self.passed_on = Some(common.unwrap_or(ValueType::Any));
    }

    /// The type of the parameters that get its value, directly or not.
    pub(super) fn taken_as(&self) -> Option<ValueType> {
        self.learnt.clone().or_else(|| self.passed_on.clone())
    }

    pub(super) fn learn(&mut self, kind: &ValueType) {
        if kind.is_secret() && (self.declared.is_some() || self.origin != Origin::Request) {
            return;
        }
        self.learnt = match &self.learnt {
            None => Some(kind.clone()),
            Some(known) if kind.is_secret() && !known.is_secret() => Some(kind.clone()),
            // A type conflict is reported at the use.
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

    /// The variable whose first binding is at this location.
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
            passed_on: None,
            origin,
            places: vec![name.span],
            is_unknown: false,
            hidden: None,
            is_not_null: false,
        });
        self.0.len() - 1
    }

    /// Binds a variable of unknown type, to avoid an error at each of its uses.
    pub(super) fn bind_quietly(&mut self, name: &Ident) {
        if self.find(&name.text).is_none() {
            let slot = self.add(name, None, Origin::Output);
            if let Some(variable) = self.0.get_mut(slot) {
                variable.is_unknown = true;
            }
        }
    }

    /// Binds a variable in a pattern. If it is bound already, the values must be equal.
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
            if is_secret(variable.declared.as_ref()) {
                diagnostics.push(bound_twice(name.span));
            }
            return slot;
        };
        match &variable.declared {
            Some(before) if before.is_secret() || kind.is_secret() => {
                diagnostics.push(bound_twice(name.span));
            }
            Some(before) if unify(before, &kind).is_none() => {
                let message = format!(
                    "`{}` is {} elsewhere and {} here; the values can never be equal",
                    name.text,
                    before.describe(),
                    kind.describe()
                );
                diagnostics.push(Diagnostic::error(WRONG_TYPE, name.span, message));
            }
            // The value is only null if the other one can be null, too.
            Some(before @ ValueType::Nullable(_)) => variable.declared = unify(before, &kind),
            Some(_) => {}
            None => {
                if kind.is_secret() {
                    diagnostics.push(bound_twice(name.span));
                }
                variable.declared = Some(kind);
            }
        }
        slot
    }

    /// Binds a variable that must be new.
    pub(super) fn bind_new(
        &mut self,
        name: &Ident,
        kind: Option<ValueType>,
        origin: Origin,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Slot {
        if let Some(slot) = self.find(&name.text) {
            let message = format!("`{}` is already bound; variables cannot be rebound", name.text);
            let mut diagnostic = Diagnostic::error(REBOUND, name.span, message);
            if let Some(first) = self.get(slot).and_then(|variable| variable.places.first()) {
                diagnostic = diagnostic.related(*first, format!("`{}`", name.text));
            }
            diagnostics.push(diagnostic.help("use another name, such as `output: name`"));
            return slot;
        }
        self.add(name, kind, origin)
    }

    /// Returns whether the name has been bound, even if it is out of scope.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The slot of a used variable; reports an unbound one.
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
        let diagnostic = Diagnostic::error(UNBOUND, span, format!("unbound variable `{name}`"));
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

    /// Returns whether conditions of `where` exclude that the variable is null.
    pub(super) fn is_not_null(&self, slot: Slot) -> bool {
        self.get(slot).is_some_and(|variable| variable.is_not_null)
    }

    /// Replaces the set of variables that cannot be null.
    pub(super) fn set_not_null(&mut self, slots: &[Slot]) {
        for (slot, variable) in self.0.iter_mut().enumerate() {
            variable.is_not_null = slots.contains(&slot);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes all variables from this slot on out of scope.
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

fn is_secret(kind: Option<&ValueType>) -> bool {
    kind.is_some_and(ValueType::is_secret)
}

/// Error for a secret that is bound twice, which would compare it.
pub(super) fn bound_twice(span: Span) -> Diagnostic {
    secret(span, "a secret can be bound only once in a rule, because secrets cannot be compared")
}
