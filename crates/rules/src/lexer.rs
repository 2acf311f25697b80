//! From text to tokens. Lines matter: a line's end is a token where it ends a pattern, a step or a call.

use concert_wire::value::MAX_SAFE_INTEGER;
use serde_json::{Number, Value};

use crate::diagnostics::{CHARACTER, Diagnostic, NUMBER, STRING};
use crate::source::{FileId, SourceFile, Span};

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
}

/// A comment, without its slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The text.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

/// What a file falls into.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// The tokens; the last is the end.
    pub tokens: Vec<Token>,
    /// The comments, for people and for the formatter.
    pub comments: Vec<Comment>,
}

/// The longest first, so that `==` is not read as two.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "??", "...", "(", ")", "[", "]", "{", "}", ",", ":", ".", "?", "<", ">", "+", "-", "*",
    "/", "=",
];
/// After these a line goes on.
const BINARY: &[&str] = &["==", "!=", "<=", ">=", "??", "<", ">", "+", "-", "*", "/"];
const BINARY_WORDS: &[&str] = &["and", "or", "in"];
/// A line that begins with one of these is a new part, whatever brackets are open.
const PARTS: &[&str] = &["sync", "when", "where", "then"];

/// Reads a file. Every mistake is reported, and reading goes on behind it.
pub fn lex(file: FileId, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Tokens {
    lex_part(
        Span {
            file,
            start: 0,
            end: source.text.len(),
        },
        source,
        diagnostics,
    )
}

/// Reads a piece of a file.
pub fn lex_part(part: Span, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Tokens {
    let text = source.text.get(..part.end).unwrap_or(&source.text);
    let mut lexer = Lexer {
        file: part.file,
        text,
        at: part.start,
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
    /// Open brackets.
    depth: usize,
    line_begins: bool,
    out: Tokens,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn span(&self, start: usize) -> Span {
        Span {
            file: self.file,
            start,
            end: self.at,
        }
    }

    fn take_while(&mut self, holds: impl Fn(char) -> bool) -> usize {
        let start = self.at;
        self.at += self.rest().find(|c| !holds(c)).unwrap_or(self.rest().len());
        start
    }

    fn push(&mut self, kind: TokenKind, start: usize) {
        if self.line_begins {
            self.begin_line(&kind);
        }
        let span = self.span(start);
        self.out.tokens.push(Token { kind, span });
    }

    /// Decides whether the line before has ended something.
    fn begin_line(&mut self, first: &TokenKind) {
        self.line_begins = false;
        if matches!(first, TokenKind::Word(word) if PARTS.contains(&word.as_str()))
            && !self.rest().trim_start_matches([' ', '\t']).starts_with(':')
        {
            self.depth = 0;
        }
        let goes_on = match first {
            TokenKind::Symbol(":") => true,
            TokenKind::Word(word) => word == "else",
            _ => false,
        };
        let Some(last) = self.out.tokens.last() else { return };
        let unfinished = match &last.kind {
            TokenKind::Line => true,
            TokenKind::Symbol(symbol) => BINARY.contains(symbol),
            TokenKind::Word(word) => BINARY_WORDS.contains(&word.as_str()),
            _ => false,
        };
        if self.depth == 0 && !goes_on && !unfinished {
            let span = last.span.after();
            self.out.tokens.push(Token {
                kind: TokenKind::Line,
                span,
            });
        }
    }

    fn run(&mut self) {
        if self.at == 0 && self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        while let Some(c) = self.rest().chars().next() {
            let start = self.at;
            match c {
                '\n' => {
                    self.at += 1;
                    self.line_begins = true;
                }
                ' ' | '\t' | '\r' => self.at += 1,
                '/' if self.rest().starts_with("//") => {
                    self.take_while(|c| c != '\n');
                    let text = self.text.get(start + 2..self.at).unwrap_or_default().trim().to_owned();
                    let span = self.span(start);
                    self.out.comments.push(Comment { text, span });
                }
                '"' => self.string(start),
                '0'..='9' => self.number(start),
                'a'..='z' | 'A'..='Z' | '_' => {
                    self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                    let word = self.text.get(start..self.at).unwrap_or_default().to_owned();
                    self.push(TokenKind::Word(word), start);
                }
                _ => self.symbol(c, start),
            }
        }
        let start = self.at;
        self.depth = 0;
        self.line_begins = true;
        self.push(TokenKind::End, start);
    }

    fn symbol(&mut self, c: char, start: usize) {
        let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) else {
            return self.stray(c, start);
        };
        self.at += symbol.len();
        // The line is begun before the bracket counts.
        self.push(TokenKind::Symbol(symbol), start);
        match *symbol {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// A character that the language does not have; quotes of other kinds are read as strings, so that one mistake is one message.
    fn stray(&mut self, c: char, start: usize) {
        let closing = match c {
            '\'' => Some(('\'', "a string stands in double quotes `\"`, not in single ones")),
            '`' => Some(('`', "a string stands in double quotes `\"`, not in backticks")),
            '“' | '”' | '„' => Some((
                '”',
                "these are typographic quotes; a string stands in straight double quotes `\"`",
            )),
            '‘' | '’' => Some((
                '’',
                "these are typographic quotes; a string stands in straight double quotes `\"`",
            )),
            _ => None,
        };
        self.at += c.len_utf8();
        let Some((closing, message)) = closing else {
            let shown = if c.is_control() {
                format!("U+{:04X}", u32::from(c))
            } else {
                c.to_string()
            };
            self.diagnostics.push(Diagnostic::error(
                CHARACTER,
                self.span(start),
                format!("`{shown}` is no part of the language"),
            ));
            return;
        };
        let content = self.take_while(|c| c != closing && c != '\n' && c != '"');
        let text = self.text.get(content..self.at).unwrap_or_default().to_owned();
        if self.rest().starts_with([closing, '"']) {
            self.at += self.rest().chars().next().map_or(0, char::len_utf8);
        }
        self.diagnostics
            .push(Diagnostic::error(STRING, self.span(start), message));
        self.push(TokenKind::Text(text), start);
    }

    /// A JSON string.
    fn string(&mut self, start: usize) {
        let mut escaped = false;
        let length = self.rest().char_indices().skip(1).find_map(|(at, c)| {
            if c == '\n' || (c == '"' && !escaped) {
                return Some((at, c));
            }
            escaped = c == '\\' && !escaped;
            None
        });
        let (length, closed) = match length {
            Some((at, '"')) => (at + 1, true),
            Some((at, _)) => (at, false),
            None => (self.rest().len(), false),
        };
        self.at += length;
        let literal = self.text.get(start..self.at).unwrap_or_default();
        let text = if closed {
            serde_json::from_str::<String>(literal).ok()
        } else {
            None
        };
        if text.is_none() {
            let message = if closed {
                "this is no JSON string: an escape or a character in it is not allowed"
            } else {
                "this string is not closed on its line"
            };
            let help = if closed {
                r#"the escapes are \" \\ \/ \b \f \n \r \t and \u0000"#
            } else {
                "a string ends with `\"`; a line break is written `\\n`"
            };
            self.diagnostics
                .push(Diagnostic::error(STRING, self.span(start), message).help(help));
        }
        self.push(TokenKind::Text(text.unwrap_or_default()), start);
    }

    /// A JSON number; its sign is read by the parser.
    fn number(&mut self, start: usize) {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let fraction = self
            .rest()
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if fraction {
            self.at += 1;
            self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        }
        let mantissa = self.text.get(start..self.at).unwrap_or_default();
        if mantissa.ends_with(['e', 'E']) && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let literal = self.text.get(start..self.at).unwrap_or_default();
        let number = match serde_json::from_str::<Value>(literal) {
            Ok(Value::Number(number)) => Some(number),
            _ => None,
        };
        let exact = number.as_ref().is_some_and(|number| {
            !literal.bytes().all(|b| b.is_ascii_digit()) || number.as_u64().is_some_and(|n| n <= MAX_SAFE_INTEGER)
        });
        if number.is_none() {
            self.diagnostics.push(Diagnostic::error(
                NUMBER,
                self.span(start),
                format!("`{literal}` is no JSON number"),
            ));
        } else if !exact {
            self.diagnostics.push(
                Diagnostic::error(
                    NUMBER,
                    self.span(start),
                    format!("`{literal}` is an integer beyond 2^53, which is not exact"),
                )
                .help("write it as a string"),
            );
        }
        self.push(TokenKind::Number(number.unwrap_or_else(|| 0.into())), start);
    }
}
