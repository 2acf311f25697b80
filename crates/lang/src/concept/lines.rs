//! Lines of a spec with their indentation.

use crate::diagnostics::{CHARACTER, Diagnostic};
use crate::source::{BYTE_ORDER_MARK, FileId, SourceFile, Span};

/// A line that is neither empty nor a comment.
pub(super) struct Line<'a> {
    pub(super) indent: usize,
    /// The whole line, as prose: `//` has no meaning there.
    pub(super) text: &'a str,
    /// The line without its comment.
    pub(super) code: &'a str,
    file: FileId,
    start: usize,
}

pub(super) fn lines<'a>(
    file: FileId,
    source: &'a SourceFile,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Line<'a>> {
    let mut start = 0;
    let mut lines = Vec::new();
    for raw in source.text.split_inclusive('\n') {
        let mark = if start == 0 && raw.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len_utf8()
        } else {
            0
        };
        let line = raw.get(mark..).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let begin = start + mark;
        control_characters(file, begin, line, diagnostics);
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        let code = without_comment(text);
        if !code.is_empty() {
            lines.push(Line { indent, text, code, file, start: begin + indent });
        }
        start += raw.len();
    }
    lines
}

/// The characters of a line that are not in a string literal.
fn outside_strings(line: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut is_string, mut is_escaped) = (false, false);
    line.char_indices().filter(move |(_, c)| {
        let was_string = is_string;
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_string,
            '"' => is_string = !is_string,
            _ => {}
        }
        !was_string && *c != '"'
    })
}

fn without_comment(line: &str) -> &str {
    let mut slashes = outside_strings(line)
        .filter(|(at, _)| line.get(*at..).is_some_and(|rest| rest.starts_with("//")));
    let end = slashes.next().map_or(line.len(), |(at, _)| at);
    line.get(..end).unwrap_or(line).trim_end()
}

fn control_characters(file: FileId, begin: usize, line: &str, diagnostics: &mut Vec<Diagnostic>) {
    let found = line.char_indices().find(|(_, c)| c.is_control() && *c != '\t');
    if let Some((at, c)) = found {
        let start = begin + at;
        let span = Span { file, start, end: start + c.len_utf8() };
        let message = format!("invalid character U+{:04X}", u32::from(c));
        diagnostics.push(Diagnostic::error(CHARACTER, span, message));
    }
}

impl<'a> Line<'a> {
    pub(super) fn first_word(&self) -> &'a str {
        self.code.split_whitespace().next().unwrap_or_default()
    }

    pub(super) fn behind_word(&self, text: &'a str) -> &'a str {
        text.get(self.first_word().len()..).unwrap_or_default().trim()
    }

    pub(super) fn code_span(&self) -> Span {
        self.span(self.code.len())
    }

    pub(super) fn word_span(&self) -> Span {
        self.span(self.first_word().len())
    }

    fn span(&self, length: usize) -> Span {
        Span { file: self.file, start: self.start, end: self.start + length }
    }

    /// Number of opened minus closed brackets.
    pub(super) fn open_brackets(&self) -> isize {
        let outside = outside_strings(self.code).filter_map(|(_, c)| match c {
            '(' | '{' => Some(1),
            ')' | '}' => Some(-1),
            _ => None,
        });
        outside.sum()
    }

    /// Returns whether the line cannot continue a parameter list. An unclosed bracket must not hide
    /// the signatures that follow.
    pub(super) fn begins_anew(&self) -> bool {
        let word = self.first_word();
        let name = self.code.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
        let after_name = self.code.get(name..).unwrap_or_default().trim_start();
        // `String(64)` is a type.
        let is_type = ["String", "Secret"].iter().any(|kind| self.code.get(..name) == Some(kind));
        let is_signature = name > 0 && after_name.starts_with('(') && !is_type;
        is_signature || word == "requires" || word == "effects"
    }
}
