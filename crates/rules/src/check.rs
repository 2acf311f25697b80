//! Names, types, bindings and secrets: from the syntax tree of a rule to the rule that runs.

mod calls;
pub(crate) mod uses;
mod variables;

use std::sync::Arc;

use concert_wire::routes::ValueType;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use self::uses::Use;
use self::variables::{Origin, Variables};
use crate::diagnostics::{
    BAD_PATH, Diagnostic, NEVER_MATCHES, NOT_AN_ACTION, NOT_YET, REPEATED_RULE, UNKNOWN_ACTION, UNKNOWN_CONCEPT,
    UNKNOWN_OUTPUT, UNKNOWN_PARAMETER,
};
use crate::names::is_query;
use crate::program::{Match, Outcome, Pattern, Slot, Sync, Test};
use crate::source::Span;
use crate::spec::{ActionSpec, ConceptSpec, Params};
use crate::syntax::{Ident, PatDef, PatValue, PatternDef, SyncDef};

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
    for (at, sync) in syncs.iter().enumerate() {
        if syncs.iter().take(at).any(|other| other.name.text == sync.name.text) {
            diagnostics.push(Diagnostic::error(
                REPEATED_RULE,
                sync.name.span,
                format!("there is another rule of the name `{}`", sync.name.text),
            ));
        }
    }
    syncs
        .iter()
        .map(|sync| {
            Rule {
                concepts,
                diagnostics,
                variables: Variables::default(),
                uses: Vec::new(),
            }
            .check(sync)
        })
        .collect()
}

struct Rule<'a> {
    concepts: &'a [ConceptSpec],
    diagnostics: &'a mut Vec<Diagnostic>,
    variables: Variables,
    uses: Vec<Use>,
}

impl Rule<'_> {
    fn check(mut self, def: &SyncDef) -> Checked {
        let mut requests = Vec::new();
        let mut when = Vec::new();
        for pattern in &def.when {
            if let Some((compiled, request)) = self.pattern(pattern, def.when.len() == 1) {
                when.push(compiled);
                requests.extend(request);
            }
        }
        if let Some(step) = def.steps.first() {
            self.diagnostics.push(Diagnostic::error(
                NOT_YET,
                step.span,
                "`where` is read, but this version does not run it",
            ));
        }
        let bound_in_when = self.variables.count();
        let then: Vec<_> = def.then.iter().filter_map(|call| self.call(call)).collect();
        let otherwise = def
            .otherwise
            .as_ref()
            .map(|otherwise| self.otherwise(otherwise, bound_in_when));
        self.warn_of_unused(&def.then);
        let sync = Sync {
            name: def.name.text.as_str().into(),
            variables: self.variables.names(),
            when,
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

    /// The action that is meant; what is not known is reported.
    fn action(&mut self, concept: &Ident, action: &Ident) -> Option<ActionSpec> {
        let Some(spec) = self.concepts.iter().find(|spec| *spec.name == *concept.text) else {
            let diagnostic = Diagnostic::error(
                UNKNOWN_CONCEPT,
                concept.span,
                format!("no spec declares the concept `{}`", concept.text),
            );
            self.diagnostics
                .push(diagnostic.suggest(&concept.text, self.concepts.iter().map(|spec| &*spec.name)));
            return None;
        };
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

    fn pattern(&mut self, def: &PatternDef, is_root: bool) -> Option<(Pattern, Option<RequestPattern>)> {
        let Some(spec) = self.action(&def.concept, &def.action) else {
            // Bound all the same, so that one mistake is not reported at every use.
            for pat in def.input.iter().chain(&def.output) {
                if let PatValue::Variable(name) = &pat.value {
                    self.variables
                        .bind_in_pattern(name, None, Origin::Input, self.diagnostics);
                }
            }
            return None;
        };
        let outcome = self.outcome(def, &spec);
        let is_request = def.concept.text == REQUESTING && def.action.text == REQUEST;
        let input: Vec<Match> = def
            .input
            .iter()
            .map(|pat| self.input(pat, &spec.input, &def.action, is_request))
            .collect();
        let failure = Params {
            params: vec![],
            open: true,
        };
        let declared = match outcome {
            Outcome::Failure => &failure,
            Outcome::Success => spec.success.as_ref().unwrap_or(&failure),
        };
        let output = def
            .output
            .iter()
            .map(|pat| self.output(pat, declared, &def.action))
            .collect();
        let request = is_request.then(|| self.request(&input, &def.input, is_root)).flatten();
        let pattern = Pattern {
            concept: def.concept.text.as_str().into(),
            action: def.action.text.as_str().into(),
            outcome,
            input,
            output,
        };
        Some((pattern, request))
    }

    fn outcome(&mut self, def: &PatternDef, spec: &ActionSpec) -> Outcome {
        let Some(error) = def.output.iter().find(|pat| pat.param.text == "error") else {
            if spec.success.is_none() {
                let message = format!("`{}` never succeeds, so this pattern can never match", def.action.text);
                self.diagnostics.push(
                    Diagnostic::error(NEVER_MATCHES, def.span, message)
                        .help("a pattern with `: (error)` matches failures"),
                );
            }
            return Outcome::Success;
        };
        if def.output.len() > 1 {
            let message = "an output with `error` has no other key, so this pattern can never match";
            self.diagnostics.push(
                Diagnostic::error(NEVER_MATCHES, error.param.span, message)
                    .help("write a rule for the success and another for the failure"),
            );
        } else if !spec.can_fail {
            let message = format!("`{}` declares no failure, so this matches faults only", def.action.text);
            self.diagnostics
                .push(Diagnostic::warning(NEVER_MATCHES, error.param.span, message));
        }
        Outcome::Failure
    }

    fn input(&mut self, pat: &PatDef, declared: &Params, action: &Ident, is_request: bool) -> Match {
        let kind = self.declared(pat, declared, action, false);
        if let (true, "path", PatValue::Literal(Value::String(path), span)) =
            (is_request, pat.param.text.as_str(), &pat.value)
            && !path.starts_with('/')
        {
            self.diagnostics.push(
                Diagnostic::error(BAD_PATH, *span, format!("the path `{path}` does not begin with `/`"))
                    .help(format!("write `/{path}`")),
            );
        }
        self.demand(pat, kind, Origin::Input)
    }

    fn output(&mut self, pat: &PatDef, declared: &Params, action: &Ident) -> Match {
        let kind = if pat.param.text == "error" {
            Some(ValueType::String)
        } else {
            self.declared(pat, declared, action, true)
        };
        self.demand(pat, kind, Origin::Output)
    }

    /// The declared type of a key; `None` where the spec leaves it open.
    fn declared(&mut self, pat: &PatDef, declared: &Params, action: &Ident, is_output: bool) -> Option<ValueType> {
        let name = &pat.param.text;
        let found = declared.get(name).map(|param| param.kind.clone());
        if found.is_none() && !declared.open {
            let (kind, what) = if is_output {
                (UNKNOWN_OUTPUT, "output")
            } else {
                (UNKNOWN_PARAMETER, "parameter")
            };
            let diagnostic = Diagnostic::error(
                kind,
                pat.param.span,
                format!("`{}` has no {what} `{name}`", action.text),
            );
            self.diagnostics
                .push(diagnostic.suggest(name, declared.params.iter().map(|param| &*param.name)));
        }
        found
    }

    fn demand(&mut self, pat: &PatDef, kind: Option<ValueType>, origin: Origin) -> Match {
        let test = match &pat.value {
            PatValue::Variable(name) => {
                Test::Variable(self.variables.bind_in_pattern(name, kind, origin, self.diagnostics))
            }
            PatValue::Literal(value, span) => {
                match kind {
                    Some(ValueType::Secret) => self.diagnostics.push(uses::secret(*span, "a secret is never compared")),
                    Some(kind) if !(kind.accepts(value) || pat.optional && value.is_null()) => {
                        let message = format!("`{}` is {}, so this can never match", pat.param.text, kind.describe());
                        self.diagnostics.push(Diagnostic::error(NEVER_MATCHES, *span, message));
                    }
                    _ => {}
                }
                Test::Literal(value.clone())
            }
        };
        Match {
            key: pat.param.text.as_str().into(),
            optional: pat.optional,
            test,
        }
    }

    fn request(&self, input: &[Match], pats: &[PatDef], is_root: bool) -> Option<RequestPattern> {
        let path = input.iter().find_map(|demand| match (&*demand.key, &demand.test) {
            ("path", Test::Literal(Value::String(path))) => Some(path.clone()),
            _ => None,
        })?;
        let keys = input.iter().zip(pats).filter(|(demand, _)| &*demand.key != "path");
        let keys = keys.map(|(demand, pat)| RequestKey {
            name: demand.key.clone(),
            optional: demand.optional,
            bound: match &demand.test {
                Test::Variable(slot) => KeyBound::Variable(*slot),
                Test::Literal(value) => KeyBound::Literal(type_of(value)),
            },
            span: pat.param.span,
        });
        Some(RequestPattern {
            path,
            is_root,
            keys: keys.collect(),
        })
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
