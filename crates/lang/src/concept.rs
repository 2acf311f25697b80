//! Parser of concept specs: prose for readers, and signatures for the machine.
//!
//! A spec is `concept Name [Generic]` and sections that begin at the margin: `purpose`,
//! `principle`, `state`, `actions`, `queries`. In `actions` and `queries`, a line with the
//! indentation of the first one is a signature. Lines that are indented further are prose about it;
//! `effects` there declares that the action changes something.

mod header;
mod lines;
mod parts;
mod signature;
mod types;

use std::iter::Peekable;
use std::slice::Iter;

use self::lines::Line;
use self::parts::{Parts, Section};
use crate::diagnostics::{BAD_SPEC, Diagnostic, Report, Severity, nearest};
use crate::source::{FileId, SourceFile, Span};
use crate::spec::ConceptSpec;
use crate::syntax::Ident;

/// Parses the spec of one concept, for the worker that embeds it.
///
/// # Errors
/// All errors, as text with their source lines.
pub fn parse_one(file_name: &str, text: &str) -> Result<ConceptSpec, String> {
    let source = SourceFile::new(file_name, text);
    let mut diagnostics = Vec::new();
    let parsed = parse(0, &source, &mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    match parsed {
        Some((_, spec)) if diagnostics.iter().all(|found| found.severity == Severity::Warning) => {
            Ok(spec)
        }
        _ => Err(Report { diagnostics, sources: vec![source] }.to_string()),
    }
}

const SECTIONS: [(&str, Section); 5] = [
    ("purpose", Section::Purpose),
    ("principle", Section::Prose),
    ("state", Section::Prose),
    ("actions", Section::Actions),
    ("queries", Section::Queries),
];

/// Parses one spec. Returns it with its name, or `None` if it has no name.
pub(crate) fn parse(
    file: FileId,
    source: &SourceFile,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Ident, ConceptSpec)> {
    let lines = lines::lines(file, source, diagnostics);
    let mut lines = lines.iter().peekable();
    let name = match lines.peek() {
        Some(first) if first.first_word() == "concept" => {
            let name = header::parse(first, source, diagnostics);
            lines.next();
            name
        }
        first => {
            let span = first.map_or(Span { file, start: 0, end: 0 }, |line| line.code_span());
            let diagnostic = Diagnostic::error(BAD_SPEC, span, "expected `concept` and its name");
            let word = first.map_or("", |line| line.first_word());
            let help = match nearest(word, ["concept"]) {
                Some(_) => "did you mean `concept`?",
                None => "a spec begins with `concept Name`",
            };
            diagnostics.push(diagnostic.help(help));
            let is_section =
                |line: &Line<'_>| SECTIONS.iter().any(|(name, _)| *name == line.first_word());
            if first.is_some_and(|line| !is_section(line)) {
                lines.next();
            }
            None
        }
    };
    let mut reader = Reader { source, lines, parts: Parts::default(), diagnostics };
    reader.sections();
    let Parts { purpose, actions, queries, .. } = reader.parts;
    let name = name?;
    let spec = ConceptSpec { name: name.text.as_str().into(), purpose, actions, queries };
    Some((name, spec))
}

struct Reader<'a> {
    source: &'a SourceFile,
    lines: Peekable<Iter<'a, Line<'a>>>,
    parts: Parts,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn sections(&mut self) {
        let mut seen: Vec<&str> = Vec::new();
        let mut section = Section::Unknown;
        while let Some(line) = self.lines.next() {
            if line.indent == 0 {
                section = self.heading(line, &mut seen);
                continue;
            }
            match section {
                Section::Purpose => self.parts.add_purpose(line.text),
                Section::Prose | Section::Unknown => {}
                Section::Actions | Section::Queries => self.line(section, line),
            }
        }
    }

    /// Parses the name of a section, at the margin. Text may follow on the line in sections of
    /// prose.
    fn heading(&mut self, line: &Line<'_>, seen: &mut Vec<&'a str>) -> Section {
        self.parts.begin_section();
        let word = line.first_word();
        let names = SECTIONS.map(|(name, _)| name);
        let exact = SECTIONS.iter().find(|(name, _)| *name == word);
        let near =
            nearest(word, names).and_then(|near| SECTIONS.iter().find(|(name, _)| *name == near));
        if exact.is_none() {
            let message = format!("expected a section, found `{word}`");
            let help = match near {
                Some((name, _)) => format!("did you mean `{name}`?"),
                None => {
                    format!("the sections are {}", names.map(|name| format!("`{name}`")).join(", "))
                }
            };
            self.diagnostics
                .push(Diagnostic::error(BAD_SPEC, line.word_span(), message).help(help));
        }
        let Some((name, section)) = exact.or(near) else {
            return Section::Unknown;
        };
        if seen.contains(name) {
            let message = format!("duplicate section `{name}`");
            self.diagnostics.push(Diagnostic::error(BAD_SPEC, line.word_span(), message));
        }
        seen.push(name);
        match section {
            Section::Purpose => self.parts.add_purpose(line.behind_word(line.text)),
            Section::Actions | Section::Queries if !line.behind_word(line.code).is_empty() => {
                let span = line.code_span();
                let start = span.end - line.behind_word(line.code).len();
                let message = format!("expected the end of the line after `{word}`");
                self.diagnostics.push(Diagnostic::error(BAD_SPEC, Span { start, ..span }, message));
            }
            _ => {}
        }
        *section
    }

    /// Parses a signature, or prose about the last one.
    fn line(&mut self, section: Section, line: &Line<'_>) {
        if self.parts.is_prose(line) {
            return self.parts.prose(section, line, self.diagnostics);
        }
        // A signature continues while brackets are open, and on a line that begins with `:`.
        let mut span = line.code_span();
        let mut open = line.open_brackets();
        while let Some(next) = self.lines.peek() {
            let goes_on = next.code.starts_with(':') || (open > 0 && !next.begins_anew());
            if next.indent == 0 || !goes_on {
                break;
            }
            open += next.open_brackets();
            span = span.to(next.code_span());
            self.lines.next();
        }
        let signature = signature::parse(span, self.source, self.diagnostics);
        self.parts.add(section, signature, self.diagnostics);
    }
}
