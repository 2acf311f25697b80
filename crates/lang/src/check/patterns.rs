//! The patterns of `when`.

use concert_wire::nested;
use concert_wire::routes::{BadPattern, Pattern as PathPattern, ValueType};
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use super::checked::{KeyBound, RequestKey, RequestPattern};
use super::rule::Rule;
use super::types::{secret, suggest_value, type_of};
use super::variables::Origin;
use crate::diagnostics::{
    BAD_PATH, BAD_PATTERN, Diagnostic, NEVER_MATCHES, UNKNOWN_OUTPUT, UNKNOWN_PARAMETER,
};
use crate::program::{Match, Outcome, Pattern, Test};
use crate::source::Span;
use crate::spec::{ActionSpec, Params};
use crate::syntax::{Ident, PatDef, PatValue, PatternDef};

impl Rule<'_> {
    pub(super) fn pattern(
        &mut self,
        def: &PatternDef,
        is_root: bool,
    ) -> Option<(Pattern, Option<RequestPattern>)> {
        let Some(spec) = self.action(&def.concept, &def.action) else {
            // Bind the variables anyway, to avoid an error at each of their uses.
            for pat in def.input.iter().chain(&def.output) {
                if let PatValue::Variable(name) = &pat.value {
                    self.variables.bind_quietly(name);
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
        let failure = Params { params: vec![], open: true };
        let declared = match outcome {
            Outcome::Failure => &failure,
            Outcome::Success => spec.success.as_ref().unwrap_or(&failure),
        };
        let output = def.output.iter().map(|pat| self.output(pat, declared, &def.action)).collect();
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
                let message =
                    format!("this pattern can never match: `{}` never succeeds", def.action.text);
                self.diagnostics.push(
                    Diagnostic::error(NEVER_MATCHES, def.span, message)
                        .help("use `: (error)` to match failures"),
                );
            }
            return Outcome::Success;
        };
        if def.output.len() > 1 {
            let message = "this pattern can never match: an output with `error` has no other key";
            self.diagnostics.push(
                Diagnostic::error(NEVER_MATCHES, error.param.span, message)
                    .help("write one rule for the success and another for the failure"),
            );
        } else if !spec.can_fail {
            let message = format!(
                "`{}` declares no failure, and its faults match no pattern",
                def.action.text
            );
            self.diagnostics.push(
                Diagnostic::warning(NEVER_MATCHES, error.param.span, message)
                    .help("handle faults with `else (error)` in the rule that calls the action"),
            );
        }
        Outcome::Failure
    }

    fn input(
        &mut self,
        pat: &PatDef,
        declared: &Params,
        action: &Ident,
        is_request: bool,
    ) -> Match {
        let kind = self.declared(pat, declared, action, false);
        if let (true, "path", PatValue::Literal(Value::String(path), span)) =
            (is_request, pat.param.text.as_str(), &pat.value)
        {
            self.diagnostics.extend(judge_path(path, *span));
        }
        let origin = if is_request { Origin::Request } else { Origin::Input };
        self.demand(pat, kind, origin)
    }

    fn output(&mut self, pat: &PatDef, declared: &Params, action: &Ident) -> Match {
        let kind = if pat.param.text == "error" {
            Some(ValueType::String)
        } else {
            self.declared(pat, declared, action, true)
        };
        self.demand(pat, kind, Origin::Output)
    }

    /// The declared type of a key; `None` if the spec does not declare it.
    pub(super) fn declared(
        &mut self,
        pat: &PatDef,
        declared: &Params,
        action: &Ident,
        is_output: bool,
    ) -> Option<ValueType> {
        let name = &pat.param.text;
        let found = declared.get(name).map(|param| param.kind.clone());
        if nested::is_path(name)
            && let Some(whole) = declared.get(nested::first(name))
        {
            let message = format!("`{}` is {}, not an object", whole.name, whole.kind.describe());
            self.diagnostics.push(Diagnostic::error(NEVER_MATCHES, pat.param.span, message));
            return None;
        }
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
        if found.is_none() && declared.open {
            self.check_case(&pat.param, declared);
        }
        found
    }

    pub(super) fn demand(
        &mut self,
        pat: &PatDef,
        kind: Option<ValueType>,
        origin: Origin,
    ) -> Match {
        let test = match &pat.value {
            PatValue::Variable(name) => {
                Test::Variable(self.variables.bind_in_pattern(name, kind, origin, self.diagnostics))
            }
            PatValue::Literal(value, span) => {
                match kind {
                    Some(kind) if kind.is_secret() => {
                        self.diagnostics.push(secret(*span, "a secret cannot be compared"))
                    }
                    Some(kind) if !(kind.accepts(value) || pat.optional && value.is_null()) => {
                        let message = format!(
                            "this pattern can never match: `{}` is {}",
                            pat.param.text,
                            kind.describe()
                        );
                        let diagnostic = Diagnostic::error(NEVER_MATCHES, *span, message);
                        self.diagnostics.push(suggest_value(diagnostic, value, &kind));
                    }
                    _ => {}
                }
                Test::Literal(value.clone())
            }
        };
        Match {
            key: pat.param.text.as_str().into(),
            optional: pat.optional,
            keeps_absence: false,
            test,
        }
    }

    fn request(&self, input: &[Match], pats: &[PatDef], is_root: bool) -> Option<RequestPattern> {
        let (path, span) = pats.iter().find_map(|pat| match (&*pat.param.text, &pat.value) {
            ("path", PatValue::Literal(Value::String(path), span)) => Some((path.clone(), *span)),
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
        Some(RequestPattern { path, span, is_root, keys: keys.collect() })
    }
}

/// Reports an invalid path, and a literal path with a segment that looks like a parameter.
fn judge_path(path: &str, span: Span) -> Option<Diagnostic> {
    match PathPattern::parse(path) {
        Ok(_) => {
            let is_parameter = |segment: &&str| segment.starts_with(':') && segment.len() > 1;
            let found = path.split('/').find(is_parameter).filter(|_| path.starts_with('/'))?;
            let message = format!("`{found}` is literal text, because the path has no method");
            let help = format!("for a parameter, write `\"POST {path}\"`");
            Some(Diagnostic::warning(BAD_PATTERN, span, message).help(help))
        }
        Err(error @ BadPattern::NoSlash(_)) => {
            let help = format!("write `\"/{path}\"`");
            Some(Diagnostic::error(BAD_PATH, span, error.to_string()).help(help))
        }
        Err(error) => {
            let found = Diagnostic::error(BAD_PATTERN, span, error.to_string());
            Some(match error {
                BadPattern::Character(segment) if segment.starts_with('{') => {
                    found.help("write a parameter as `:name`")
                }
                BadPattern::Method(method) if method == "HEAD" => {
                    found.help("the edge answers HEAD with the rules of GET")
                }
                _ => found,
            })
        }
    }
}
