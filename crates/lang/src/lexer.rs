//! From text to tokens. Lines matter: a line's end is a token where it ends a pattern, a step or a
//! call.

mod literal;
mod stray;

use serde_json::Number;

use crate::diagnostics::Diagnostic;
use crate::source::{BYTE_ORDER_MARK, FileId, SourceFile, Span};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenKind {
    /// A name or a keyword.
    Word(String),
    /// A string, unescaped.
    Text(String),
    /// A number.
    Number(Number),
    /// Punctuation and operators.
    Symbol(&'static str),
    /// The end of a line that ends something.
    Line,
    /// The end of the file.
    End,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is.
    pub span: Span,
    /// The line it stands on, counted from where reading began.
    pub line: usize,
    /// Whether a mistake in it, or right behind it, has been reported: what follows from that is
    /// not told again.
    pub is_broken: bool,
}

/// A comment, without its slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The text.
    pub text: String,
    /// Where it is.
    pub span: Span,
    /// The line it stands on, counted from where reading began.
    pub line: usize,
    /// Whether nothing stands before it on its line.
    pub is_alone: bool,
}

/// What a file falls into.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// The tokens; the last is the end.
    pub tokens: Vec<Token>,
    /// The comments, for people and for a formatter.
    pub comments: Vec<Comment>,
}

/// The longest first, so that `==` is not read as two.
const SYMBOLS: &[&str] = &[
    "...", "==", "!=", "<=", ">=", "??", "(", ")", "[", "]", "{", "}", ",", ":", ".", "?", "<",
    ">", "+", "-", "*", "/", "=",
];
/// After these a line goes on.
const BINARY: &[&str] = &["==", "!=", "<=", ">=", "??", "<", ">", "+", "-", "*", "/"];
const BINARY_WORDS: &[&str] = &["and", "or", "in"];
/// No line within brackets begins with one of these, unless it is the name of a parameter.
const BEGINNINGS: &[&str] =
    &["sync", "when", "where", "then", "else", "optional", "some", "no", "each", "let", "collect"];

/// Reads a file. Every mistake is reported, and reading goes on behind it.
pub fn lex(file: FileId, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Tokens {
    lex_part(Span { file, start: 0, end: source.text.len() }, source, diagnostics)
}

/// Reads a piece of a file.
pub fn lex_part(part: Span, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Tokens {
    let text = source.text.get(..part.end).unwrap_or(&source.text);
    let mut lexer = Lexer {
        file: part.file,
        text,
        at: part.start,
        line: 1,
        depth: 0,
        line_begins: true,
        out: Tokens::default(),
        diagnostics,
    };
    lexer.run();
    lexer.out
}

struct Lexer<'a> {
    file: FileId,
    text: &'a str,
    at: usize,
    line: usize,
    /// Open brackets.
    depth: usize,
    line_begins: bool,
    out: Tokens,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next_char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn span(&self, start: usize) -> Span {
        Span { file: self.file, start, end: self.at }
    }

    /// What was read since.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn take_while(&mut self, holds: impl Fn(char) -> bool) {
        self.at += self.rest().find(|c| !holds(c)).unwrap_or(self.rest().len());
    }

    fn push(&mut self, kind: TokenKind, start: usize, is_broken: bool) {
        if self.line_begins {
            self.begin_line(&kind);
        }
        let token = Token { kind, span: self.span(start), line: self.line, is_broken };
        self.out.tokens.push(token);
    }

    /// Decides whether the line before has ended something.
    fn begin_line(&mut self, first: &TokenKind) {
        self.line_begins = false;
        let breaks_out = self.depth > 0 && self.breaks_out(first);
        if breaks_out {
            self.depth = 0;
        }
        let goes_on = match first {
            TokenKind::Symbol(":") => true,
            // Behind a bracket that was left open, `else (` is the part of a rule, and any other
            // the end of a step.
            TokenKind::Word(word) => {
                word == "else" && !(breaks_out && self.behind_blanks().starts_with('('))
            }
            _ => false,
        };
        let Some(last) = self.out.tokens.last() else { return };
        if self.depth == 0 && !goes_on && !self.is_unfinished(last) {
            let token = Token {
                kind: TokenKind::Line,
                span: last.span.after(),
                line: last.line,
                is_broken: false,
            };
            self.out.tokens.push(token);
        }
    }

    fn is_unfinished(&self, last: &Token) -> bool {
        let is_field = || {
            let before = self.out.tokens.iter().rev().nth(1);
            before.is_some_and(|token| token.kind == TokenKind::Symbol("."))
        };
        match &last.kind {
            TokenKind::Line => true,
            TokenKind::Symbol(symbol) => BINARY.contains(symbol),
            TokenKind::Word(word) => BINARY_WORDS.contains(&word.as_str()) && !is_field(),
            _ => false,
        }
    }

    /// Whether this cannot begin a line within brackets, so that one of them was left open: one
    /// mistake must not hide those in the rest of the rule.
    fn breaks_out(&self, first: &TokenKind) -> bool {
        let TokenKind::Word(word) = first else { return false };
        let next = self.behind_blanks();
        if word.starts_with(|c: char| c.is_ascii_uppercase()) {
            return next.starts_with('.') && !next.starts_with("...");
        }
        BEGINNINGS.contains(&word.as_str()) && !next.starts_with([':', '?'])
    }

    fn behind_blanks(&self) -> &'a str {
        self.rest().trim_start_matches([' ', '\t'])
    }

    fn run(&mut self) {
        if self.at == 0 && self.text.starts_with(BYTE_ORDER_MARK) {
            self.at = BYTE_ORDER_MARK.len_utf8();
        }
        while let Some(c) = self.next_char() {
            let start = self.at;
            match c {
                '\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_begins = true;
                }
                ' ' | '\t' => self.at += 1,
                '\r' if self.rest().starts_with("\r\n") => self.at += 1,
                '/' if self.rest().starts_with("//") => self.comment(start),
                '/' if self.rest().starts_with("/*") => self.block_comment(start),
                '"' => self.string(start),
                '0'..='9' => self.number(start),
                '.' if self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                    self.number(start)
                }
                c if c.is_alphanumeric() || c == '_' => self.word(start),
                c => self.symbol(c, start),
            }
        }
        self.depth = 0;
        self.line_begins = true;
        self.push(TokenKind::End, self.at, false);
    }

    fn comment(&mut self, start: usize) {
        self.take_while(|c| c != '\n');
        let text = self.since(start + 2).trim();
        self.control_characters(start);
        self.out.comments.push(Comment {
            text: text.to_owned(),
            span: self.span(start),
            line: self.line,
            is_alone: self.line_begins,
        });
    }

    fn symbol(&mut self, c: char, start: usize) {
        let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) else {
            return self.stray(c, start);
        };
        self.at += symbol.len();
        // The line is begun before the bracket counts.
        self.push(TokenKind::Symbol(symbol), start, false);
        match *symbol {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}
