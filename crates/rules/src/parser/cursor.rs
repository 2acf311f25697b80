//! A place among the tokens.

use crate::diagnostics::{CASE, Diagnostic, KEYWORD, SYNTAX};
use crate::lexer::{Token, TokenKind};
use crate::names::{is_keyword, is_lower};
use crate::source::Span;
use crate::syntax::Ident;

/// A mistake that was reported; whoever gets this goes on at the next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

pub(crate) struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    diagnostics: &'a mut Vec<Diagnostic>,
}

const END: TokenKind = TokenKind::End;

impl<'a> Cursor<'a> {
    pub(crate) fn new(tokens: &'a [Token], diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self {
            tokens,
            at: 0,
            diagnostics,
        }
    }

    pub(crate) fn kind(&self) -> &'a TokenKind {
        self.tokens.get(self.at).map_or(&END, |token| &token.kind)
    }

    /// The kind of the token after the next.
    pub(crate) fn second(&self) -> &'a TokenKind {
        self.tokens.get(self.at + 1).map_or(&END, |token| &token.kind)
    }

    pub(crate) fn span(&self) -> Span {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(
            Span {
                file: 0,
                start: 0,
                end: 0,
            },
            |token| token.span,
        )
    }

    pub(crate) fn last_span(&self) -> Span {
        self.at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .map_or_else(|| self.span(), |token| token.span)
    }

    pub(crate) fn advance(&mut self) {
        if !self.at_end() {
            self.at += 1;
        }
    }

    pub(crate) fn at_end(&self) -> bool {
        *self.kind() == TokenKind::End
    }

    pub(crate) fn at_word(&self, word: &str) -> bool {
        matches!(self.kind(), TokenKind::Word(found) if found == word)
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.kind(), TokenKind::Symbol(found) if *found == symbol)
    }

    pub(crate) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn symbol(&mut self, symbol: &str, what: &str) -> Result<(), Failed> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        self.unexpected(what);
        Err(Failed)
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<Ident, Failed> {
        let TokenKind::Word(word) = self.kind() else {
            self.unexpected(what);
            return Err(Failed);
        };
        let ident = Ident {
            text: word.clone(),
            span: self.span(),
        };
        self.advance();
        Ok(ident)
    }

    pub(crate) fn check_variable(&mut self, word: &Ident) -> Result<(), Failed> {
        let text = &word.text;
        if is_keyword(text) {
            let help = format!("give it another name: `{text}: its_name`");
            self.report(
                Diagnostic::error(
                    KEYWORD,
                    word.span,
                    format!("`{text}` is a keyword and cannot be a variable"),
                )
                .help(help),
            );
            return Err(Failed);
        }
        if !is_lower(text) {
            self.report(Diagnostic::error(
                CASE,
                word.span,
                format!("a variable begins with a lower-case letter, `{text}` does not"),
            ));
            return Err(Failed);
        }
        Ok(())
    }

    pub(crate) fn skip_lines(&mut self) {
        while *self.kind() == TokenKind::Line {
            self.advance();
        }
    }

    /// To the end of the line.
    pub(crate) fn skip_line(&mut self) {
        while !matches!(self.kind(), TokenKind::Line | TokenKind::End) {
            self.advance();
        }
    }

    /// To the next line that begins with this word.
    pub(crate) fn skip_to_word(&mut self, word: &str) {
        while !self.at_end() {
            self.skip_line();
            self.skip_lines();
            if self.at_word(word) {
                return;
            }
        }
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Whether nothing was reported behind this place.
    pub(crate) fn is_clean_since(&self, span: Span) -> bool {
        !self
            .diagnostics
            .iter()
            .any(|diagnostic| diagnostic.span.file == span.file && diagnostic.span.start >= span.start)
    }

    /// Reports what stands here instead of what was expected.
    pub(crate) fn unexpected(&mut self, what: &str) {
        let found = match self.kind() {
            TokenKind::Word(word) => format!("`{word}`"),
            TokenKind::Text(_) => "a string".to_owned(),
            TokenKind::Number(number) => format!("`{number}`"),
            TokenKind::Symbol(symbol) => format!("`{symbol}`"),
            TokenKind::Line => "the end of the line".to_owned(),
            TokenKind::End => "the end of the file".to_owned(),
        };
        let diagnostic = Diagnostic::error(SYNTAX, self.span(), format!("expected {what}, found {found}"));
        self.report(diagnostic);
    }
}
