//! What is no token: every habit from another language gets a message of its own.

use super::{Lexer, TokenKind};
use crate::diagnostics::{CHARACTER, Diagnostic, STRING};

/// What other languages write, and what is written here.
const FOREIGN: &[(&str, &str)] = &[("&&", "and"), ("||", "or"), ("!", "not")];

impl Lexer<'_> {
    /// A name; one that is not ASCII is reported, and taken as what it was meant to be.
    pub(super) fn word(&mut self, start: usize) {
        self.take_while(|c| c.is_alphanumeric() || c == '_');
        let word = self.since(start);
        if !word.is_ascii() {
            self.report(start, format!("`{word}` is no name")).help =
                Some("names are made of the letters a to z and A to Z, digits and `_`".to_owned());
        }
        self.push(TokenKind::Word(word.to_owned()), start, !word.is_ascii());
    }

    /// A character that the language does not have.
    pub(super) fn stray(&mut self, c: char, start: usize) {
        let quotes = match c {
            '\'' => Some(('\'', "a string stands in double quotes `\"`, not in single ones")),
            '`' => Some(('`', "a string stands in double quotes `\"`, not in backticks")),
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
            self.report(start, format!("`{foreign}` is no part of the language")).help =
                Some(format!("write `{ours}`"));
            return self.push(TokenKind::Word((*ours).to_owned()), start, false);
        }
        self.at += c.len_utf8();
        match c {
            ';' => {
                self.report(start, "`;` is no part of the language".to_owned()).help =
                    Some("a step or call ends with its line".to_owned());
            }
            '#' => {
                self.take_while(|c| c != '\n');
                self.report(start, "`#` is no part of the language".to_owned()).help =
                    Some("a comment begins with `//`".to_owned());
            }
            c if c.is_control() || c.is_whitespace() => {
                self.take_while(|next| next == c && next != '\n');
                self.report(
                    start,
                    format!("the character U+{:04X} is no part of the language", u32::from(c)),
                );
            }
            _ => {
                self.take_while(|c| {
                    !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace() && !is_quote(c)
                });
                let shown: String = self.since(start).chars().take(8).collect();
                self.report(start, format!("`{shown}` is no part of the language"));
                if let Some(before) = self.out.tokens.last_mut() {
                    before.is_broken = true;
                }
            }
        }
    }

    /// Quotes of other kinds are read as strings, so that one mistake is one message.
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
        self.report(start, "`/*` is no part of the language".to_owned()).help =
            Some("a comment begins with `//` and ends with its line".to_owned());
        self.line += lines;
        self.line_begins |= lines > 0;
    }

    /// Reports control characters in what was read since; they are invisible, and nobody means
    /// them.
    pub(super) fn control_characters(&mut self, start: usize) {
        let text = self.since(start);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let found = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t');
        if let Some((at, c)) = found {
            let mut span = self.span(start + at);
            span.end = span.start + c.len_utf8();
            let message =
                format!("the character U+{:04X} is no part of the language", u32::from(c));
            self.diagnostics.push(Diagnostic::error(CHARACTER, span, message));
        }
    }

    fn report(&mut self, start: usize, message: String) -> &mut Diagnostic {
        let span = self.span(start);
        self.diagnostics.push_mut(Diagnostic::error(CHARACTER, span, message))
    }
}

const TYPOGRAPHIC: &str =
    "these are typographic quotes; a string stands in straight double quotes `\"`";

fn is_quote(c: char) -> bool {
    matches!(c, '“' | '”' | '„' | '‘' | '’')
}
