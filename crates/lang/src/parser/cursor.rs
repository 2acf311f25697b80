//! Position in the tokens.

use crate::diagnostics::{CASE, Diagnostic, KEYWORD, SYNTAX};
use crate::lexer::{Token, TokenKind};
use crate::names::{is_keyword, is_lower};
use crate::source::Span;
use crate::syntax::Ident;

/// Marker for a reported error; the caller continues at the next line.
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
        Self { tokens, at: 0, diagnostics }
    }

    pub(crate) fn kind(&self) -> &'a TokenKind {
        self.tokens.get(self.at).map_or(&END, |token| &token.kind)
    }

    /// Returns whether the current token is the first on its line.
    pub(crate) fn begins_line(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.is_none_or(|before| before.kind == TokenKind::Line || before.line < self.line())
    }

    pub(crate) fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    /// Returns whether an error before the current token was reported, so that an error here would
    /// be consequential.
    fn is_broken(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.is_some_and(|before| before.is_broken)
    }

    /// Kind of the token after the current one.
    pub(crate) fn second(&self) -> &'a TokenKind {
        self.nth(1)
    }

    /// Kind of the token `distance` tokens after the current one.
    pub(crate) fn nth(&self, distance: usize) -> &'a TokenKind {
        self.tokens.get(self.at + distance).map_or(&END, |token| &token.kind)
    }

    pub(crate) fn span(&self) -> Span {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(Span { file: 0, start: 0, end: 0 }, |token| token.span)
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
        let ident = Ident { text: word.clone(), span: self.span() };
        self.advance();
        Ok(ident)
    }

    pub(crate) fn check_variable(&mut self, word: &Ident) -> Result<(), Failed> {
        let text = &word.text;
        if is_keyword(text) {
            let help = format!("use another variable: `{text}: other_name`");
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
            if text.is_ascii() {
                let message =
                    format!("a variable begins with a lower-case letter, but `{text}` does not");
                let help = format!("for a key with this name, write `{text}: variable`");
                self.report(Diagnostic::error(CASE, word.span, message).help(help));
            }
            return Err(Failed);
        }
        Ok(())
    }

    /// Reports a name that begins with the wrong case.
    pub(crate) fn wrong_case(&mut self, name: &Ident, rule: &str) {
        // The lexer has reported names that are not ASCII.
        if name.text.is_ascii() {
            let message = format!("{rule}, but `{}` does not", name.text);
            self.report(Diagnostic::error(CASE, name.span, message));
        }
    }

    pub(crate) fn skip_lines(&mut self) {
        while *self.kind() == TokenKind::Line {
            self.advance();
        }
    }

    /// Skips to the end of the line.
    pub(crate) fn skip_line(&mut self) {
        while !matches!(self.kind(), TokenKind::Line | TokenKind::End) {
            self.advance();
        }
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports that the current token is not what was expected.
    pub(crate) fn unexpected(&mut self, what: &str) {
        self.unexpected_with(what, None);
    }

    /// Like [`Self::unexpected`], with a hint.
    pub(crate) fn unexpected_with(&mut self, what: &str, help: Option<&str>) {
        if self.is_broken() {
            return;
        }
        let found = match self.kind() {
            TokenKind::Word(word) => format!("`{word}`"),
            TokenKind::Text(_) => "a string".to_owned(),
            TokenKind::Number(number) => format!("`{number}`"),
            TokenKind::Symbol(symbol) => format!("`{symbol}`"),
            TokenKind::Line => "the end of the line".to_owned(),
            TokenKind::End => "the end of the file".to_owned(),
        };
        let mut diagnostic =
            Diagnostic::error(SYNTAX, self.span(), format!("expected {what}, found {found}"));
        diagnostic.help = help.map(ToOwned::to_owned);
        self.report(diagnostic);
    }
}
