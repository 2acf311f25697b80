//! Characters that are not part of the language, with a hint for syntax of other languages.

use super::{Lexer, TokenKind};
use crate::diagnostics::{CHARACTER, Diagnostic, STRING};

/// Operators of other languages, and their equivalents here.
const FOREIGN: &[(&str, &str)] = &[("&&", "and"), ("||", "or"), ("!", "not")];

impl Lexer<'_> {
    /// Lexes a name. A name that is not ASCII is reported, but kept as a name.
    pub(super) fn word(&mut self, start: usize) {
        self.take_while(|c| c.is_alphanumeric() || c == '_');
        let word = self.since(start);
        if !word.is_ascii() {
            self.report(start, format!("invalid name `{word}`")).help =
                Some("names consist of ASCII letters, digits and `_`".to_owned());
        }
        self.push(TokenKind::Word(word.to_owned()), start, !word.is_ascii());
    }

    /// Reports an invalid character.
    pub(super) fn stray(&mut self, c: char, start: usize) {
        let quotes = match c {
            '\'' => Some(('\'', "use double quotes `\"` for a string, not single quotes")),
            '`' => Some(('`', "use double quotes `\"` for a string, not backticks")),
            '“' | '”' | '„' => Some(('”', TYPOGRAPHIC)),
            '‘' | '’' => Some(('’', TYPOGRAPHIC)),
            _ => None,
        };
        if let Some((closing, message)) = quotes {
            return self.foreign_string(closing, message, start);
        }
        if let Some((foreign, ours)) =
            FOREIGN.iter().find(|(foreign, _)| self.rest().starts_with(foreign))
        {
            self.at += foreign.len();
            self.report(start, format!("invalid operator `{foreign}`")).help =
                Some(format!("write `{ours}`"));
            return self.push(TokenKind::Word((*ours).to_owned()), start, false);
        }
        self.at += c.len_utf8();
        match c {
            ';' => {
                self.report(start, "invalid character `;`".to_owned()).help =
                    Some("end a step or call with a line break".to_owned());
            }
            '#' => {
                self.take_while(|c| c != '\n');
                self.report(start, "invalid character `#`".to_owned()).help =
                    Some("begin a comment with `//`".to_owned());
            }
            c if c.is_control() || c.is_whitespace() => {
                self.take_while(|next| next == c && next != '\n');
                self.report(start, format!("invalid character U+{:04X}", u32::from(c)));
            }
            _ => {
                self.take_while(|c| {
                    !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace() && !is_quote(c)
                });
                let shown: String = self.since(start).chars().take(8).collect();
                self.report(start, format!("invalid character `{shown}`"));
                if let Some(before) = self.out.tokens.last_mut() {
                    before.is_broken = true;
                }
            }
        }
    }

    /// Reads other kinds of quotes as a string, so that they cause only one error.
    fn foreign_string(&mut self, closing: char, message: &str, start: usize) {
        self.at += self.next_char().map_or(0, char::len_utf8);
        let content = self.at;
        self.take_while(|c| c != closing && c != '\n' && c != '"');
        let text = self.since(content).to_owned();
        if self.rest().starts_with([closing, '"']) {
            self.at += self.next_char().map_or(0, char::len_utf8);
        }
        self.diagnostics.push(Diagnostic::error(STRING, self.span(start), message));
        self.push(TokenKind::Text(text), start, true);
    }

    pub(super) fn block_comment(&mut self, start: usize) {
        let length = self.rest().find("*/").map_or(self.rest().len(), |at| at + 2);
        let lines = self.rest().get(..length).unwrap_or_default().matches('\n').count();
        self.at += length;
        self.report(start, "block comments are not supported".to_owned()).help =
            Some("begin each comment line with `//`".to_owned());
        self.line += lines;
        self.line_begins |= lines > 0;
    }

    /// Reports control characters in the text since `start`; they are invisible.
    pub(super) fn control_characters(&mut self, start: usize) {
        let text = self.since(start);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let found = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t');
        if let Some((at, c)) = found {
            let mut span = self.span(start + at);
            span.end = span.start + c.len_utf8();
            let message = format!("invalid character U+{:04X}", u32::from(c));
            self.diagnostics.push(Diagnostic::error(CHARACTER, span, message));
        }
    }

    fn report(&mut self, start: usize, message: String) -> &mut Diagnostic {
        let span = self.span(start);
        self.diagnostics.push_mut(Diagnostic::error(CHARACTER, span, message))
    }
}

const TYPOGRAPHIC: &str = "use straight double quotes `\"` for a string, not typographic quotes";

fn is_quote(c: char) -> bool {
    matches!(c, '“' | '”' | '„' | '‘' | '’')
}
