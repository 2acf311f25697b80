//! Concept specs. The literature's form: prose for people, and signatures, which are what the machine reads.
//!
//! `concept Name [Generic]`, then sections that begin at the margin: `purpose`, `principle`, `state`, `actions`, `queries`. In the last two a line at the first one's indentation is a signature;
//! what is indented further is prose about it, in which `effects` says that the action changes something.

mod signature;

use std::sync::Arc;

use concert_wire::RESERVED_CONCEPT;

use self::signature::{Outputs, Signature};
use crate::diagnostics::{
    BAD_FAILURE, BAD_SPEC, CASE, DIFFERENT_INPUT, Diagnostic, QUERY_NAME, REPEATED_SIGNATURE, RESERVED, Report,
};
use crate::names::{is_lower, is_query, is_upper};
use crate::source::{FileId, SourceFile, Span};
use crate::spec::{ActionSpec, ConceptSpec, QuerySpec, Rows};
use crate::syntax::Ident;

/// Reads the spec of one concept, for the worker that embeds it.
///
/// # Errors
/// Every mistake, shown at its place.
pub fn parse_one(file_name: &str, text: &str) -> Result<ConceptSpec, String> {
    let source = SourceFile::new(file_name, text);
    let mut diagnostics = Vec::new();
    match parse(0, &source, &mut diagnostics) {
        Some((_, spec)) if diagnostics.is_empty() => Ok(spec),
        _ => Err(Report {
            diagnostics,
            sources: vec![source],
        }
        .to_string()),
    }
}

const SECTIONS: [&str; 5] = ["purpose", "principle", "state", "actions", "queries"];

/// A line that is not empty and no comment.
struct Line<'a> {
    indent: usize,
    text: &'a str,
    span: Span,
}

/// Reads one spec; with the place of its name.
pub(crate) fn parse(
    file: FileId,
    source: &SourceFile,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Ident, ConceptSpec)> {
    let lines = lines(file, source);
    let mut lines = lines.iter().peekable();
    let whole = Span { file, start: 0, end: 0 };
    let Some(first) = lines.next() else {
        diagnostics.push(
            Diagnostic::error(BAD_SPEC, whole, "the file declares no concept")
                .help("a spec begins with `concept Name`"),
        );
        return None;
    };
    let name = header(first, diagnostics)?;
    let mut parts = Parts::default();
    let mut section: Option<&str> = None;
    while let Some(line) = lines.next() {
        let word = line.text.split_whitespace().next().unwrap_or_default();
        if line.indent == 0 {
            match SECTIONS.iter().find(|known| **known == word) {
                Some(known) => section = Some(known),
                None => {
                    let message = format!("expected a section at the margin, found `{word}`");
                    let span = Span {
                        end: line.span.start + word.len(),
                        ..line.span
                    };
                    diagnostics.push(Diagnostic::error(BAD_SPEC, span, message).help(format!(
                        "the sections are {}",
                        SECTIONS.map(|name| format!("`{name}`")).join(", ")
                    )));
                    section = None;
                    continue;
                }
            }
            let rest = line.text.get(word.len()..).unwrap_or_default().trim();
            match (section, rest.is_empty()) {
                (Some("purpose"), _) => parts.purpose = rest.to_owned(),
                (Some("actions" | "queries"), false) => {
                    let start = line.span.end - rest.len();
                    diagnostics.push(Diagnostic::error(
                        BAD_SPEC,
                        Span { start, ..line.span },
                        "expected the end of the line after the section's name",
                    ));
                }
                _ => {}
            }
            parts.indent = None;
            continue;
        }
        match section {
            Some("purpose") => parts.purpose = format!("{} {}", parts.purpose, line.text).trim().to_owned(),
            Some(kind @ ("actions" | "queries")) => {
                let indent = *parts.indent.get_or_insert(line.indent);
                if line.indent > indent && !parts.is_open(line) {
                    parts.prose(word);
                    continue;
                }
                // A signature goes on while brackets are open, and in a line that begins with `:`.
                let mut span = line.span;
                while let Some(next) = lines.peek() {
                    if !(next.text.starts_with(':')
                        || is_unbalanced(source.text.get(span.start..span.end).unwrap_or_default()))
                        || next.indent == 0
                    {
                        break;
                    }
                    span = span.to(next.span);
                    lines.next();
                }
                if let Some(signature) = signature::parse(span, source, diagnostics) {
                    parts.add(kind, signature, diagnostics);
                }
            }
            _ => {}
        }
    }
    let Parts {
        purpose,
        actions,
        queries,
        ..
    } = parts;
    let spec = ConceptSpec {
        name: name.text.as_str().into(),
        purpose,
        actions,
        queries,
    };
    Some((name, spec))
}

fn lines(file: FileId, source: &SourceFile) -> Vec<Line<'_>> {
    let mut start = 0;
    let mut lines = Vec::new();
    for raw in source.text.split_inclusive('\n') {
        let code = raw
            .split("//")
            .next()
            .filter(|before| before.trim().is_empty() && raw.contains("//"))
            .map_or(raw, |before| before);
        let text = code.trim_start_matches('\u{feff}').trim();
        if !text.is_empty() {
            let at = start + raw.find(text).unwrap_or(0);
            let indent = raw.trim_start_matches('\u{feff}').find(text).unwrap_or(0);
            lines.push(Line {
                indent,
                text,
                span: Span {
                    file,
                    start: at,
                    end: at + text.len(),
                },
            });
        }
        start += raw.len();
    }
    lines
}

fn is_unbalanced(text: &str) -> bool {
    text.matches('(').count() > text.matches(')').count()
}

/// `concept Name [Generic, …]`
fn header(line: &Line<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Ident> {
    let Some(rest) = line
        .text
        .strip_prefix("concept")
        .filter(|rest| rest.starts_with(char::is_whitespace))
    else {
        diagnostics.push(
            Diagnostic::error(BAD_SPEC, line.span, "expected `concept` and its name")
                .help("a spec begins with `concept Name`"),
        );
        return None;
    };
    let (name, generics) = match rest.split_once('[') {
        Some((name, generics)) => (name.trim(), Some(generics.trim())),
        None => (rest.trim(), None),
    };
    let start = line.span.start + line.text.find(name).unwrap_or(0);
    let span = Span {
        start,
        end: start + name.len(),
        ..line.span
    };
    let is_name = is_upper(name) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        diagnostics.push(Diagnostic::error(CASE, span, format!("`{name}` is no name of a concept: one begins with an upper-case letter and goes on with letters, digits and `_`")));
        return None;
    }
    if name == RESERVED_CONCEPT {
        diagnostics.push(Diagnostic::error(
            RESERVED,
            span,
            format!("`{name}` is reserved: it names the router's own records in the log"),
        ));
    }
    let generics_ok = generics.is_none_or(|generics| {
        generics
            .strip_suffix(']')
            .is_some_and(|names| names.split(',').all(|name| is_upper(name.trim())))
    });
    if !generics_ok {
        diagnostics.push(Diagnostic::error(
            BAD_SPEC,
            line.span,
            "the generic names of a concept stand as `[Name, Name]`",
        ));
    }
    Some(Ident {
        text: name.to_owned(),
        span,
    })
}

#[derive(Default)]
struct Parts {
    purpose: String,
    actions: Vec<ActionSpec>,
    queries: Vec<QuerySpec>,
    /// Of the section's first signature.
    indent: Option<usize>,
    /// The action that the last signature was of.
    last: Option<usize>,
}

impl Parts {
    /// Whether a line that is indented further belongs to a signature all the same.
    fn is_open(&self, line: &Line<'_>) -> bool {
        line.text.starts_with(':')
    }

    /// Takes a line of prose about the last signature.
    fn prose(&mut self, first_word: &str) {
        if first_word == "effects"
            && let Some(action) = self.last.and_then(|last| self.actions.get_mut(last))
        {
            action.has_effects = true;
        }
    }

    fn add(&mut self, section: &str, signature: Signature, diagnostics: &mut Vec<Diagnostic>) {
        let name = &signature.name.text;
        if section == "queries" {
            if !is_query(name) {
                diagnostics.push(Diagnostic::error(
                    QUERY_NAME,
                    signature.name.span,
                    format!("a query's name begins with `_`, `{name}` does not"),
                ));
            }
            self.add_query(signature, diagnostics);
        } else {
            self.last = None;
            if is_query(name) {
                diagnostics.push(Diagnostic::error(
                    QUERY_NAME,
                    signature.name.span,
                    format!("an action's name does not begin with `_`, `{name}` does"),
                ));
            } else if !is_lower(name) {
                diagnostics.push(Diagnostic::error(
                    CASE,
                    signature.name.span,
                    format!("an action's name begins with a lower-case letter, `{name}` does not"),
                ));
            }
            self.add_action(signature, diagnostics);
        }
    }

    fn add_query(&mut self, signature: Signature, diagnostics: &mut Vec<Diagnostic>) {
        let Signature {
            name,
            input,
            output,
            span,
        } = signature;
        let Some(Outputs { params, rows }) = output else {
            diagnostics.push(
                Diagnostic::error(
                    BAD_SPEC,
                    span,
                    format!("the query `{}` says nothing of its rows", name.text),
                )
                .help("write `: (name: Type)`, with `?` behind it for at most one row and `*` for any number"),
            );
            return;
        };
        if params.get("error").is_some() {
            diagnostics.push(Diagnostic::error(
                BAD_FAILURE,
                span,
                "a query has no `error`: that there is no row is an answer, too",
            ));
        }
        if self.queries.iter().any(|query| *query.name == *name.text) {
            diagnostics.push(Diagnostic::error(
                REPEATED_SIGNATURE,
                name.span,
                format!("the query `{}` is declared twice", name.text),
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
        let Signature {
            name,
            input,
            output,
            span,
        } = signature;
        let Outputs { params, rows } = output.unwrap_or_default();
        if rows != Rows::One {
            diagnostics.push(Diagnostic::error(
                BAD_SPEC,
                span,
                "`?` and `*` stand behind the outputs of queries, not of actions",
            ));
        }
        let is_failure = params.get("error").is_some();
        if is_failure && !signature::is_failure(&params) {
            diagnostics.push(Diagnostic::error(
                BAD_FAILURE,
                span,
                "a failure is exactly `(error: String)`",
            ));
        }
        let at = self.actions.iter().position(|action| *action.name == *name.text);
        let at = at.unwrap_or_else(|| {
            let name: Arc<str> = name.text.as_str().into();
            self.actions.push(ActionSpec {
                name,
                input: input.clone(),
                success: None,
                can_fail: false,
                has_effects: false,
            });
            self.actions.len() - 1
        });
        let Some(action) = self.actions.get_mut(at) else { return };
        if action.input != input {
            diagnostics.push(Diagnostic::error(
                DIFFERENT_INPUT,
                span,
                format!("the signatures of `{}` differ in their input", name.text),
            ));
        }
        let repeated = if is_failure {
            std::mem::replace(&mut action.can_fail, true)
        } else {
            action.success.replace(params).is_some()
        };
        if repeated {
            let which = if is_failure { "failure" } else { "success" };
            diagnostics.push(Diagnostic::error(
                REPEATED_SIGNATURE,
                span,
                format!("`{}` has two signatures for its {which}", name.text),
            ));
        }
        self.last = Some(at);
    }
}
