//! The calls of `then` and `else`.

use concert_wire::envelope::{BODY, STATUS};
use concert_wire::routes::ValueType;
use concert_wire::{REQUESTING, RESPOND, RESPOND_WITH};
use serde_json::Value;

use super::expressions::{can_be, wrong_argument};
use super::rule::Rule;
use super::types::secret;
use super::uses::{Where, mismatch, wrong_status};
use super::variables::Origin;
use crate::diagnostics::{Diagnostic, MISSING_ARGUMENT, UNKNOWN_OUTPUT, UNKNOWN_PARAMETER, UNUSED};
use crate::program::{Arg, Call, ElseBranch, Out};
use crate::source::Span;
use crate::spec::{ActionSpec, Params};
use crate::syntax::{
    ArgDef, CallDef, ElseDef, ExprKind, Ident, OutDef, PatValue, StepKind, SyncDef,
};

/// The action or query that is called.
pub(super) struct Target {
    /// `Concept.action` or `Concept._query`.
    pub(super) name: String,
    /// `true` if the call is `Requesting.respond`.
    pub(super) is_answer: bool,
    /// `true` if the call is `Requesting.respondWith`.
    pub(super) has_body: bool,
}

impl Rule<'_> {
    pub(super) fn call(&mut self, def: &CallDef) -> Option<Call> {
        let spec = self.action(&def.concept, &def.action);
        let target = Target {
            name: format!("{}.{}", def.concept.text, def.action.text),
            is_answer: def.concept.text == REQUESTING && def.action.text == RESPOND,
            has_body: def.concept.text == REQUESTING && def.action.text == RESPOND_WITH,
        };
        let args = self.args(&def.args, spec.as_ref().map(|spec| &spec.input), &target, def.span);
        let outs = def.outs.iter().map(|out| self.out(out, spec.as_ref(), def)).collect();
        spec?;
        Some(Call {
            concept: def.concept.text.as_str().into(),
            action: def.action.text.as_str().into(),
            args,
            outs,
        })
    }

    /// Checks and compiles the input of an action or query; `declared` is `None` if the action or
    /// query is unknown.
    pub(super) fn args(
        &mut self,
        defs: &[ArgDef],
        declared: Option<&Params>,
        target: &Target,
        span: Span,
    ) -> Vec<Arg> {
        let args = defs.iter().filter_map(|arg| self.arg(arg, declared, target)).collect();
        let missing: Vec<String> = declared
            .into_iter()
            .flat_map(|declared| &declared.params)
            .filter(|param| {
                !param.optional && !defs.iter().any(|arg| *arg.param.text == *param.name)
            })
            .map(|param| format!("`{}`", param.name))
            .collect();
        if !missing.is_empty() {
            let message = format!("`{}` needs {}", target.name, missing.join(" and "));
            self.diagnostics.push(Diagnostic::error(MISSING_ARGUMENT, span, message));
        }
        args
    }

    fn arg(&mut self, def: &ArgDef, params: Option<&Params>, target: &Target) -> Option<Arg> {
        let name = &def.param.text;
        let param = params.and_then(|params| params.get(name));
        let declared = param.map(|param| param.kind.clone());
        let is_status = target.is_answer && name == STATUS;
        if let Some(params) = params.filter(|params| declared.is_none() && !params.open) {
            let action = target.name.rsplit('.').next().unwrap_or_default();
            let message = format!("`{action}` has no parameter `{name}`");
            let diagnostic = Diagnostic::error(UNKNOWN_PARAMETER, def.param.span, message);
            self.diagnostics
                .push(diagnostic.suggest(name, params.params.iter().map(|param| &*param.name)));
        }
        if let (None, Some(open)) = (&declared, params.filter(|params| params.open)) {
            self.check_case(&def.param, open);
        }
        match &declared {
            Some(kind) if kind.is_secret() && !matches!(def.value.kind, ExprKind::Variable(_)) => {
                let message = "a secret parameter takes only a variable that holds a secret";
                self.diagnostics.push(secret(def.value.span, message));
            }
            Some(kind) if !can_be(&def.value, kind, def.omit_null) => {
                let wrong = wrong_argument(&def.value, name, kind);
                self.diagnostics.push(if is_status { wrong_status(wrong) } else { wrong });
            }
            _ => {}
        }
        let is_body = target.has_body && name == BODY;
        let place = if (target.is_answer && declared.is_none()) || is_body {
            Where::Answer
        } else if is_status {
            Where::Status
        } else {
            Where::Param(declared)
        };
        let omits_null = def.omit_null && param.is_some_and(|param| param.optional);
        if let (ExprKind::Field(_, field), Some(expected)) = (&def.value.kind, place.expected())
            && !expected.is_secret()
            && let Some(kind) = self.type_of_expr(&def.value)
        {
            let found = mismatch(field, &kind, expected, omits_null, def.value.span);
            self.diagnostics.extend(found);
        }
        let value = self.expr(&def.value, &place)?;
        if let (ExprKind::Variable(_), true) = (&def.value.kind, omits_null) {
            self.uses.iter_mut().next_back().into_iter().for_each(|used| used.handles_null = true);
        }
        let accepts_null = param.is_none_or(|param| param.kind.accepts(&Value::Null));
        let is_omitted = param.is_some_and(|param| param.optional)
            && !accepts_null
            && !(target.is_answer || target.has_body);
        Some(Arg {
            key: name.as_str().into(),
            // The parameter does not accept null, so a null can only mean an absent key.
            omit_null: def.omit_null || is_omitted,
            passes_null: param.is_some_and(|param| matches!(param.kind, ValueType::Nullable(_))),
            value,
        })
    }

    fn out(&mut self, def: &OutDef, spec: Option<&ActionSpec>, call: &CallDef) -> Out {
        let name = &def.param.text;
        let success = spec.and_then(|spec| spec.success.as_ref());
        let declared =
            success.and_then(|success| success.get(name)).map(|param| param.kind.clone());
        if name == "error" {
            let diagnostic = Diagnostic::error(
                UNKNOWN_OUTPUT,
                def.param.span,
                "a call binds outputs of its success, which has no `error`",
            );
            self.diagnostics
                .push(diagnostic.help("handle the failure in `else (error)` after the calls"));
        } else if spec.is_some()
            && declared.is_none()
            && !success.is_some_and(|success| success.open)
        {
            let diagnostic = Diagnostic::error(
                UNKNOWN_OUTPUT,
                def.param.span,
                format!("`{}` has no output `{name}`", call.action.text),
            );
            let known = success.into_iter().flat_map(|success| &success.params);
            self.diagnostics.push(diagnostic.suggest(name, known.map(|param| &*param.name)));
        }
        let slot =
            self.variables.bind_new(&def.variable, declared, Origin::Output, self.diagnostics);
        Out { key: name.as_str().into(), slot }
    }

    /// Checks `else`, where no variable bound by a call of `then` is available.
    pub(super) fn otherwise(&mut self, def: &ElseDef, bound_before_then: usize) -> ElseBranch {
        self.variables.hide_from(
            bound_before_then,
            "the call that binds it may have failed or may not have run",
        );
        let outs = def.outs.iter().map(|out| {
            if out.param.text != "error" {
                let diagnostic = Diagnostic::error(
                    UNKNOWN_OUTPUT,
                    out.param.span,
                    format!("a failure has no output `{}`", out.param.text),
                );
                self.diagnostics.push(diagnostic.help("the only output of a failure is `error`"));
            }
            let slot = self.variables.bind_new(
                &out.variable,
                Some(ValueType::String),
                Origin::Output,
                self.diagnostics,
            );
            Out { key: out.param.text.as_str().into(), slot }
        });
        let outs = outs.collect();
        let calls = def.calls.iter().filter_map(|call| self.call(call)).collect();
        ElseBranch { outs, calls }
    }

    /// Warns of variables that are bound and never used. A pattern may name a required key only to
    /// demand it, so such variables are not reported.
    pub(super) fn warn_of_unused(&mut self, def: &SyncDef) {
        let otherwise = def.otherwise.iter();
        let calls = def.then.iter().chain(otherwise.clone().flat_map(|otherwise| &otherwise.calls));
        let outs = calls
            .chain(def.steps.iter().filter_map(|step| step.otherwise.as_ref()))
            .flat_map(|call| &call.outs)
            .chain(otherwise.flat_map(|otherwise| &otherwise.outs));
        let pats = def.when.iter().flat_map(|pattern| pattern.input.iter().chain(&pattern.output));
        let optional = pats.filter(|pat| pat.optional).filter_map(|pat| match &pat.value {
            PatValue::Variable(name) => Some(name),
            PatValue::Literal(..) => None,
        });
        let in_steps = def.steps.iter().flat_map(|step| step_names(&step.kind));
        for name in outs.map(|out| &out.variable).chain(optional).chain(in_steps) {
            let Some(slot) = self.variables.bound_at(name.span) else {
                continue;
            };
            let is_joined =
                self.variables.get(slot).is_some_and(|variable| variable.places.len() > 1);
            if !is_joined && !self.uses.iter().any(|used| used.slot == slot) {
                let message = format!("`{}` is never used", name.text);
                self.diagnostics.push(Diagnostic::warning(UNUSED, name.span, message));
            }
        }
    }
}

/// Variables that a step binds only for later use. A query may name an output only to demand it, so
/// its outputs are excluded except for `optional`.
fn step_names(step: &StepKind) -> Vec<&Ident> {
    match step {
        StepKind::Let(name, _)
        | StepKind::Each(name, _)
        | StepKind::CollectValues(_, name)
        | StepKind::CollectRecords(_, name) => vec![name],
        StepKind::Optional(query) => {
            let names = query.output.iter().filter_map(|pat| match &pat.value {
                PatValue::Variable(name) => Some(name),
                PatValue::Literal(..) => None,
            });
            names.collect()
        }
        StepKind::Query(_) | StepKind::Some(_) | StepKind::No(_) | StepKind::Filter(_) => vec![],
    }
}
