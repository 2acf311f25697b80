//! Contents of a spec that is being parsed.

use super::lines::Line;
use super::signature::{self, Outputs, Signature};
use crate::diagnostics::{
    BAD_FAILURE, BAD_SPEC, CASE, DIFFERENT_INPUT, Diagnostic, QUERY_NAME, REPEATED_SIGNATURE,
    distance,
};
use crate::names::{is_lower, is_query};
use crate::source::Span;
use crate::spec::{ActionSpec, Params, QuerySpec, Rows};

/// Kind of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Purpose,
    Prose,
    Actions,
    Queries,
    /// Unknown; its contents are skipped.
    Unknown,
}

#[derive(Default)]
pub(super) struct Parts {
    pub(super) purpose: String,
    pub(super) actions: Vec<ActionSpec>,
    pub(super) queries: Vec<QuerySpec>,
    /// Location of the first signature of each action.
    places: Vec<Span>,
    /// Indentation of the section's first signature.
    indent: Option<usize>,
    last: Last,
}

/// The last signature, which the following prose is about.
#[derive(Default)]
struct Last {
    /// The action; `None` for a query and for a signature with errors.
    action: Option<usize>,
    /// Indentation of its prose.
    indent: Option<usize>,
}

const REQUIRES: &str = "requires";
const EFFECTS: &str = "effects";

impl Parts {
    pub(super) fn begin_section(&mut self) {
        self.indent = None;
        self.last = Last::default();
    }

    pub(super) fn add_purpose(&mut self, text: &str) {
        if !self.purpose.is_empty() && !text.is_empty() {
            self.purpose.push(' ');
        }
        self.purpose.push_str(text);
    }

    /// Returns whether a line is prose about the last signature, because it is indented further.
    pub(super) fn is_prose(&mut self, line: &Line<'_>) -> bool {
        let indent = *self.indent.get_or_insert(line.indent);
        line.indent > indent && !line.code.starts_with(':')
    }

    /// Adds a line of prose. `effects` decides whether an action may be skipped after its deadline,
    /// so a misspelt `effects` is an error.
    pub(super) fn prose(
        &mut self,
        section: Section,
        line: &Line<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if section == Section::Queries {
            return;
        }
        let word = line.first_word().trim_end_matches(':');
        let is_first = self.last.indent.is_none();
        let is_aligned = *self.last.indent.get_or_insert(line.indent) == line.indent;
        if word == EFFECTS {
            if let Some(action) = self.last.action.and_then(|last| self.actions.get_mut(last)) {
                action.has_effects = true;
            }
            return;
        }
        let near = [REQUIRES, EFFECTS].into_iter().find(|known| distance(word, known) <= 1);
        if word != REQUIRES && (is_first || (is_aligned && near.is_some())) {
            let message = format!("expected `{REQUIRES}` or `{EFFECTS}`, found `{word}`");
            let mut diagnostic = Diagnostic::error(BAD_SPEC, line.word_span(), message);
            diagnostic.help = near.map(|near| format!("did you mean `{near}`?"));
            diagnostics.push(diagnostic);
        }
    }

    /// Adds a signature. `None` is a signature with errors; its prose is ignored.
    pub(super) fn add(
        &mut self,
        section: Section,
        signature: Option<Signature>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        self.last = Last::default();
        let Some(signature) = signature else { return };
        let name = &signature.name;
        if section == Section::Queries {
            if !is_query(&name.text) {
                let message =
                    format!("a query's name begins with `_`, but `{}` does not", name.text);
                diagnostics.push(Diagnostic::error(QUERY_NAME, name.span, message));
            }
            return self.add_query(signature, diagnostics);
        }
        if is_query(&name.text) {
            let message =
                format!("an action's name does not begin with `_`, but `{}` does", name.text);
            diagnostics.push(Diagnostic::error(QUERY_NAME, name.span, message));
        } else if !is_lower(&name.text) && name.text.is_ascii() {
            let message = format!(
                "an action's name begins with a lower-case letter, but `{}` does not",
                name.text
            );
            diagnostics.push(Diagnostic::error(CASE, name.span, message));
        }
        self.add_action(signature, diagnostics);
    }

    fn add_query(&mut self, signature: Signature, diagnostics: &mut Vec<Diagnostic>) {
        let Signature { name, input, output, span } = signature;
        let Some(Outputs { params, rows }) = output else {
            diagnostics.push(
                Diagnostic::error(
                    BAD_SPEC,
                    span,
                    format!("the query `{}` has no output", name.text),
                )
                .help(
                    "write `: (name: Type)` for one row, `: (…)?` for at most one, \
                     `: (…)*` for any number",
                ),
            );
            return;
        };
        if params.get("error").is_some() {
            diagnostics.push(Diagnostic::error(
                BAD_FAILURE,
                span,
                "a query has no `error`; it reports that nothing was found by returning no row",
            ));
        }
        if self.queries.iter().any(|query| *query.name == *name.text) {
            diagnostics.push(Diagnostic::error(
                REPEATED_SIGNATURE,
                name.span,
                format!("duplicate query `{}`", name.text),
            ));
            return;
        }
        self.queries.push(QuerySpec {
            name: name.text.as_str().into(),
            input,
            output: params,
            rows,
        });
    }

    fn add_action(&mut self, signature: Signature, diagnostics: &mut Vec<Diagnostic>) {
        let Signature { name, input, output, span } = signature;
        let Outputs { params, rows } = output.unwrap_or_default();
        if rows != Rows::One {
            diagnostics.push(Diagnostic::error(
                BAD_SPEC,
                span,
                "`?` and `*` are only allowed after the output of a query",
            ));
        }
        let is_failure = params.get("error").is_some();
        if is_failure && !signature::is_failure(&params) {
            diagnostics.push(Diagnostic::error(
                BAD_FAILURE,
                span,
                "a failure must be exactly `(error: String)`",
            ));
        }
        let at = self.actions.iter().position(|action| *action.name == *name.text);
        let at = at.unwrap_or_else(|| {
            self.actions.push(ActionSpec {
                name: name.text.as_str().into(),
                input: input.clone(),
                success: None,
                can_fail: false,
                has_effects: false,
            });
            self.places.push(name.span);
            self.actions.len() - 1
        });
        let (Some(action), Some(first)) = (self.actions.get_mut(at), self.places.get(at)) else {
            return;
        };
        if !is_same(&action.input, &input) {
            let message = format!("the signatures of `{}` differ in their input", name.text);
            diagnostics.push(
                Diagnostic::error(DIFFERENT_INPUT, name.span, message)
                    .related(*first, "the first signature"),
            );
        }
        let repeated = if is_failure {
            std::mem::replace(&mut action.can_fail, true)
        } else {
            action.success.replace(params).is_some()
        };
        if repeated {
            let which = if is_failure { "failure" } else { "success" };
            let message = format!("duplicate signature for the {which} of `{}`", name.text);
            diagnostics.push(
                Diagnostic::error(REPEATED_SIGNATURE, name.span, message)
                    .related(*first, "the first signature"),
            );
        }
        self.last.action = Some(at);
    }
}

/// Returns whether two parameter lists are equal, in any order.
fn is_same(a: &Params, b: &Params) -> bool {
    a.open == b.open
        && a.params.len() == b.params.len()
        && a.params.iter().all(|param| b.get(&param.name) == Some(param))
}
