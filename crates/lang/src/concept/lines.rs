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
        let code = text.split("//").next().unwrap_or_default().trim_end();
        if !code.is_empty() {
            lines.push(Line { indent, text, code, file, start: begin + indent });
        }
        start += raw.len();
    }
    lines
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
        let count =
            |bracket: char| isize::try_from(self.code.matches(bracket).count()).unwrap_or(0);
        count('(') - count(')')
    }

    /// Whether the line cannot continue a parameter list. An unclosed bracket must not hide the
    /// signatures that follow.
    pub(super) fn begins_anew(&self) -> bool {
        let word = self.first_word();
        let name = self.code.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
        let behind_name = self.code.get(name..).unwrap_or_default().trim_start();
        (name > 0 && behind_name.starts_with('(')) || word == "requires" || word == "effects"
    }
}
