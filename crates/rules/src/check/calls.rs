//! The calls of `then` and `else`.

use concert_wire::routes::ValueType;
use concert_wire::{REQUESTING, RESPOND};

use super::Rule;
use super::uses::{self, Use, Where};
use crate::diagnostics::{Diagnostic, MISSING_ARGUMENT, UNKNOWN_OUTPUT, UNKNOWN_PARAMETER, UNUSED, WRONG_TYPE};
use crate::expr::Expr;
use crate::program::{Arg, Call, Otherwise, Out};
use crate::spec::ActionSpec;
use crate::syntax::{ArgDef, CallDef, ExprDef, ExprKind, OtherwiseDef, OutDef};

impl Rule<'_> {
    pub(super) fn call(&mut self, def: &CallDef) -> Option<Call> {
        let spec = self.action(&def.concept, &def.action);
        let args = def
            .args
            .iter()
            .filter_map(|arg| self.arg(arg, spec.as_ref(), def))
            .collect();
        let outs = def.outs.iter().map(|out| self.out(out, spec.as_ref(), def)).collect();
        let spec = spec?;
        let missing: Vec<String> = spec
            .input
            .params
            .iter()
            .filter(|param| !param.optional && !def.args.iter().any(|arg| *arg.param.text == *param.name))
            .map(|param| format!("`{}`", param.name))
            .collect();
        if !missing.is_empty() {
            self.diagnostics.push(Diagnostic::error(
                MISSING_ARGUMENT,
                def.span,
                format!(
                    "`{}.{}` needs {}",
                    def.concept.text,
                    def.action.text,
                    missing.join(" and ")
                ),
            ));
        }
        Some(Call {
            concept: def.concept.text.as_str().into(),
            action: def.action.text.as_str().into(),
            args,
            outs,
        })
    }

    fn arg(&mut self, def: &ArgDef, spec: Option<&ActionSpec>, call: &CallDef) -> Option<Arg> {
        let name = &def.param.text;
        let declared = spec
            .and_then(|spec| spec.input.get(name))
            .map(|param| param.kind.clone());
        if let Some(spec) = spec.filter(|spec| declared.is_none() && !spec.input.open) {
            let diagnostic = Diagnostic::error(
                UNKNOWN_PARAMETER,
                def.param.span,
                format!("`{}` has no parameter `{name}`", call.action.text),
            );
            self.diagnostics
                .push(diagnostic.suggest(name, spec.input.params.iter().map(|param| &*param.name)));
        }
        match (&def.value.kind, &declared) {
            (ExprKind::Variable(_), _) | (_, None) => {}
            (_, Some(ValueType::Secret)) => self.diagnostics.push(uses::secret(
                def.value.span,
                "only a secret can be passed to a secret parameter, as it is",
            )),
            (ExprKind::Literal(value), Some(kind)) if !kind.accepts(value) => {
                let message = format!("`{name}` must be {}", kind.describe());
                self.diagnostics
                    .push(Diagnostic::error(WRONG_TYPE, def.value.span, message));
            }
            _ => {}
        }
        let is_answer = call.concept.text == REQUESTING && call.action.text == RESPOND && declared.is_none();
        let place = if is_answer {
            Where::Answer
        } else {
            Where::Param(declared)
        };
        let value = self.expr(&def.value, &place)?;
        Some(Arg {
            key: name.as_str().into(),
            omit_null: def.omit_null,
            value,
        })
    }

    fn out(&mut self, def: &OutDef, spec: Option<&ActionSpec>, call: &CallDef) -> Out {
        let name = &def.param.text;
        let success = spec.and_then(|spec| spec.success.as_ref());
        let declared = success
            .and_then(|success| success.get(name))
            .map(|param| param.kind.clone());
        if name == "error" {
            let diagnostic = Diagnostic::error(
                UNKNOWN_OUTPUT,
                def.param.span,
                "a call binds what its success answers, and that has no `error`",
            );
            self.diagnostics
                .push(diagnostic.help("what follows a failure stands in `else (error)` after the calls"));
        } else if spec.is_some() && declared.is_none() && !success.is_some_and(|success| success.open) {
            let diagnostic = Diagnostic::error(
                UNKNOWN_OUTPUT,
                def.param.span,
                format!("`{}` has no output `{name}`", call.action.text),
            );
            let known = success.into_iter().flat_map(|success| &success.params);
            self.diagnostics
                .push(diagnostic.suggest(name, known.map(|param| &*param.name)));
        }
        let slot = self.variables.bind_in_call(&def.variable, declared, self.diagnostics);
        Out {
            key: name.as_str().into(),
            slot,
        }
    }

    /// `else`: nothing that a call of `then` binds is certain here.
    pub(super) fn otherwise(&mut self, def: &OtherwiseDef, bound_in_when: usize) -> Otherwise {
        self.variables.hide_from(bound_in_when);
        let outs = def.outs.iter().map(|out| {
            if out.param.text != "error" {
                let diagnostic = Diagnostic::error(
                    UNKNOWN_OUTPUT,
                    out.param.span,
                    format!("a failure has no output `{}`", out.param.text),
                );
                self.diagnostics
                    .push(diagnostic.help("a failure has `error`, and nothing else"));
            }
            let slot = self
                .variables
                .bind_in_call(&out.variable, Some(ValueType::String), self.diagnostics);
            Out {
                key: out.param.text.as_str().into(),
                slot,
            }
        });
        let outs = outs.collect();
        let calls = def.calls.iter().filter_map(|call| self.call(call)).collect();
        Otherwise { outs, calls }
    }

    fn expr(&mut self, def: &ExprDef, place: &Where) -> Option<Expr> {
        Some(match &def.kind {
            ExprKind::Variable(name) => {
                let slot = self.variables.used(name, def.span, self.diagnostics)?;
                self.uses.push(Use {
                    slot,
                    place: place.clone(),
                    span: def.span,
                });
                Expr::Variable(slot)
            }
            ExprKind::Literal(value) => Expr::Literal(value.clone()),
            ExprKind::List(items) => Expr::List(
                items
                    .iter()
                    .map(|item| self.expr(item, &Where::Within("put in a list")))
                    .collect::<Option<_>>()?,
            ),
            ExprKind::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, value)| Some((key.clone(), self.expr(value, &Where::Within("put in an object"))?)));
                Expr::Object(members.collect::<Option<_>>()?)
            }
            ExprKind::Field(value, field) => {
                Expr::Field(Box::new(self.expr(value, &Where::Within("read into"))?), field.clone())
            }
            ExprKind::Not(value) => Expr::Not(Box::new(self.expr(value, &Where::Within("compared"))?)),
            ExprKind::Binary(left, operator, right) => {
                let place = Where::Within("compared or joined");
                Expr::Binary(
                    Box::new(self.expr(left, &place)?),
                    *operator,
                    Box::new(self.expr(right, &place)?),
                )
            }
        })
    }

    /// What a call binds and nobody uses is probably a mistake. In a pattern a key may be named only so that it must be there.
    pub(super) fn warn_of_unused(&mut self, then: &[CallDef]) {
        for out in then.iter().flat_map(|call| &call.outs) {
            let slot = self
                .variables
                .iter()
                .find(|(_, variable)| variable.span == out.variable.span)
                .map(|(slot, _)| slot);
            if slot.is_some_and(|slot| !self.uses.iter().any(|used| used.slot == slot)) {
                let message = format!("`{}` is bound and never used", out.variable.text);
                self.diagnostics
                    .push(Diagnostic::warning(UNUSED, out.variable.span, message));
            }
        }
    }
}
