//! Diagnostics as JSON. Keys are added, never renamed.

use concert_lang::diagnostics::{Diagnostic, Severity, title_of};
use concert_lang::source::SourceFile;
use serde::Serialize;

use super::Checked;

#[derive(Serialize)]
struct Document<'a> {
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    code: &'a str,
    title: &'a str,
    severity: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    /// Steps of an example run that shows the problem.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    run: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(flatten)]
    place: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    related: Option<Related<'a>>,
    page: String,
}

/// Lines and columns start at 1; columns are in characters. The end is exclusive.
#[derive(Serialize)]
struct Place<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

#[derive(Serialize)]
struct Related<'a> {
    text: &'a str,
    #[serde(flatten)]
    place: Option<Place<'a>>,
}

pub(super) fn write(checked: &Checked) -> anyhow::Result<String> {
    let found = checked.diagnostics.iter().map(|found| one(found, &checked.sources));
    let document = Document {
        errors: checked.count(Severity::Error),
        warnings: checked.count(Severity::Warning),
        diagnostics: found.collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn one<'a>(found: &'a Diagnostic, sources: &'a [SourceFile]) -> Found<'a> {
    let place = |span: concert_lang::source::Span| {
        let source = sources.get(span.file)?;
        let (start, end) = (source.position(span.start), source.position(span.end));
        Some(Place {
            file: &source.name,
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
        })
    };
    Found {
        code: found.code,
        title: title_of(found.code).unwrap_or_default(),
        severity: match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: &found.message,
        label: found.label.as_deref(),
        run: &found.story,
        help: found.help.as_deref(),
        place: place(found.span),
        related: found.related.as_ref().map(|(span, text)| Related { text, place: place(*span) }),
        page: format!("docs/codes/{}.md", found.code),
    }
}
