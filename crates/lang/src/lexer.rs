//! Lexer. Line ends matter: one that ends a pattern, a step or a call is a token.

mod literal;
mod stray;

use serde_json::Number;

use crate::diagnostics::Diagnostic;
use crate::source::{BYTE_ORDER_MARK, FileId, SourceFile, Span};

/// Kind of a token.
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
    /// A line end that ends a pattern, a step or a call.
    Line,
    /// The end of the file.
    End,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Kind.
    pub kind: TokenKind,
    /// Location.
    pub span: Span,
    /// Line, counted from the start of the lexed part.
    pub line: usize,
    /// `true` if an error in it, or directly after it, was reported, so that consequential errors
    /// are suppressed.
    pub is_broken: bool,
}

/// A comment, without its slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The text.
    pub text: String,
    /// Location.
    pub span: Span,
    /// Line, counted from the start of the lexed part.
    pub line: usize,
    /// `true` if it is the only text on its line.
    pub is_alone: bool,
}

/// Tokens and comments of a file.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// The tokens; the last is the end.
    pub tokens: Vec<Token>,
    /// The comments, for documentation and for the formatter.
    pub comments: Vec<Comment>,
}

/// Longest first, because `==` must not be read as two symbols.
const SYMBOLS: &[&str] = &[
    "...", "==", "!=", "<=", ">=", "??", "(", ")", "[", "]", "{", "}", ",", ":", ".", "?", "<",
    ">", "+", "-", "*", "/", "=", "|",
];
/// A line that ends with one of these continues on the next line.
const BINARY: &[&str] = &["==", "!=", "<=", ">=", "??", "<", ">", "+", "-", "*", "/"];
const BINARY_WORDS: &[&str] = &["and", "or", "in"];
/// Words that cannot begin a line within brackets, except as the name of a parameter.
const BEGINNINGS: &[&str] =
    &["sync", "when", "where", "then", "else", "optional", "some", "no", "each", "let", "collect"];

/// Lexes a file. Continues after errors and reports all of them.
pub fn lex(file: FileId, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Tokens {
    lex_part(Span { file, start: 0, end: source.text.len() }, source, diagnostics)
}

/// Lexes a part of a file.
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
    /// Number of open brackets.
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

    /// Text from `start` to the current position.
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

    /// Adds a line end before the first token of a line, unless the line continues the one before.
    fn begin_line(&mut self, first: &TokenKind) {
        self.line_begins = false;
        let breaks_out = self.depth > 0 && self.breaks_out(first);
        if breaks_out {
            self.depth = 0;
        }
        let goes_on = match first {
            TokenKind::Symbol(":") => true,
            // After an unclosed bracket, `else (` begins a section; any other `else` belongs to a
            // step.
            TokenKind::Word(word) => {
                word == "else" && !(breaks_out && self.after_blanks().starts_with('('))
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

    /// Returns whether this word cannot begin a line within brackets, so a bracket is unclosed. One
    /// error must not hide those in the rest of the rule.
    fn breaks_out(&self, first: &TokenKind) -> bool {
        let TokenKind::Word(word) = first else { return false };
        let next = self.after_blanks();
        if word.starts_with(|c: char| c.is_ascii_uppercase()) {
            return next.starts_with('.') && !next.starts_with("...");
        }
        BEGINNINGS.contains(&word.as_str()) && !next.starts_with([':', '?'])
    }

    fn after_blanks(&self) -> &'a str {
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
        let symbol = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol));
        let Some(symbol) = symbol.filter(|_| !self.rest().starts_with("||")) else {
            return self.stray(c, start);
        };
        self.at += symbol.len();
        // Push the token first: a bracket at the start of a line does not count as open yet.
        self.push(TokenKind::Symbol(symbol), start, false);
        match *symbol {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}
