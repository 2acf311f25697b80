//! The calls of `then` and `else`.

use concert_wire::routes::ValueType;
use concert_wire::{REQUESTING, RESPOND};

use super::Rule;
use super::expressions::can_be;
use super::uses::{self, Where};
use crate::diagnostics::{Diagnostic, MISSING_ARGUMENT, UNKNOWN_OUTPUT, UNKNOWN_PARAMETER, UNUSED, WRONG_TYPE};
use crate::program::{Arg, Call, Otherwise, Out};
use crate::spec::ActionSpec;
use crate::syntax::{ArgDef, CallDef, ExprKind, OtherwiseDef, OutDef, PatValue, SyncDef};

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
        match &declared {
            Some(ValueType::Secret) if !matches!(def.value.kind, ExprKind::Variable(_)) => {
                let message = "only a secret can be passed to a secret parameter, as it is";
                self.diagnostics.push(uses::secret(def.value.span, message));
            }
            Some(kind) if !can_be(&def.value, kind, def.omit_null) => {
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
    pub(super) fn otherwise(&mut self, def: &OtherwiseDef, bound_before_then: usize) -> Otherwise {
        self.variables.hide_from(bound_before_then);
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

    /// What is bound and never used is probably a mistake. A key that a pattern must have may be named for that alone.
    pub(super) fn warn_of_unused(&mut self, def: &SyncDef) {
        let otherwise = def.otherwise.iter();
        let calls = def
            .then
            .iter()
            .chain(otherwise.clone().flat_map(|otherwise| &otherwise.calls));
        let outs = calls
            .flat_map(|call| &call.outs)
            .chain(otherwise.flat_map(|otherwise| &otherwise.outs));
        let pats = def
            .when
            .iter()
            .flat_map(|pattern| pattern.input.iter().chain(&pattern.output));
        let optional = pats.filter(|pat| pat.optional).filter_map(|pat| match &pat.value {
            PatValue::Variable(name) => Some(name),
            PatValue::Literal(..) => None,
        });
        for name in outs.map(|out| &out.variable).chain(optional) {
            let Some(slot) = self.variables.bound_at(name.span) else {
                continue;
            };
            let is_joined = self
                .variables
                .get(slot)
                .is_some_and(|variable| variable.places.len() > 1);
            if !is_joined && !self.uses.iter().any(|used| used.slot == slot) {
                let message = format!("`{}` is bound and never used", name.text);
                self.diagnostics.push(Diagnostic::warning(UNUSED, name.span, message));
            }
        }
    }
}
