//! Formatter of rule files. It changes only white space, line breaks and redundant syntax, and
//! keeps every comment.

mod page;
mod read;
mod shape;
#[cfg(test)]
mod tests;

use self::page::{INDENT, Page};
use self::shape::{Note, Place, Statement};
use crate::diagnostics::{Report, Severity};
use crate::lexer::lex;
use crate::parser::parse_tokens;
use crate::source::SourceFile;

/// Formats a file of rules. Formatting is idempotent.
///
/// # Errors
/// All syntax errors; a file with errors is not formatted.
pub fn format(source: &SourceFile) -> Result<String, Report> {
    let mut diagnostics = Vec::new();
    let tokens = lex(0, source, &mut diagnostics);
    parse_tokens(&tokens, &mut diagnostics);
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        diagnostics.sort_by_key(|found| found.span);
        return Err(Report { diagnostics, sources: vec![source.clone()] });
    }
    let (statements, rest) = read::statements(&source.text, &tokens);
    let mut page = Page::default();
    let mut before = None;
    for statement in &statements {
        statement.write(&mut page, before);
        before = Some(statement.place);
    }
    between_rules(&mut page, &rest, !statements.is_empty());
    Ok(page.text)
}

impl Statement {
    fn write(&self, page: &mut Page, before: Option<Place>) {
        let indent = match self.place {
            Place::Header | Place::Rule | Place::Part => 0,
            Place::Item => INDENT,
            Place::ElseBranch => 2 * INDENT,
        };
        if matches!(self.place, Place::Header | Place::Rule) {
            let (above, doc) = self.above.split_at(self.above.len() - self.doc_length());
            let is_first = page.text.is_empty();
            between_rules(page, above, !is_first);
            if self.place != Place::Header || before != Some(Place::Header) || !doc.is_empty() {
                page.blank_line();
            }
            doc.iter().for_each(|note| page.note(note, 0));
        } else {
            for note in &self.above {
                // Before a section, only the indentation shows whether a comment belongs to that
                // section or to the text before it.
                let is_item = self.place == Place::Part && note.is_indented;
                page.note(note, if is_item { INDENT } else { indent });
            }
        }
        page.statement(&self.shape, indent, self.trailing.as_ref());
    }

    /// Number of comments directly above the rule. They belong to it and stay attached.
    fn doc_length(&self) -> usize {
        let notes = self.above.iter().rev().zip((0..self.line).rev());
        notes.take_while(|(note, line)| note.line == *line).count()
    }
}

/// Writes the comments between rules, block by block. Indented comments after a rule belong to that
/// rule.
fn between_rules(page: &mut Page, notes: &[Note], mut is_in_rule: bool) {
    for block in notes.chunk_by(|above, below| above.line + 1 == below.line) {
        is_in_rule &= block.first().is_some_and(|first| first.is_indented);
        if !is_in_rule {
            page.blank_line();
        }
        let indent = if is_in_rule { INDENT } else { 0 };
        block.iter().for_each(|note| page.note(note, indent));
    }
}
