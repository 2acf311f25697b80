//! Conversion of tokens to statements. The file has no syntax errors, so the first token of a
//! construct determines its kind.
//!
//! INVARIANT: every token and comment that is read becomes part of a shape, except commas at the
//! end of lists and the second name of `name: name`.

use super::shape::{Bracket, Call, Item, Link, Note, Place, Shape, Statement};
use crate::expr::{LEVELS, NOT_LEVEL};
use crate::lexer::{Comment, Token, TokenKind, Tokens};
use crate::names::{is_keyword, is_upper};

/// The statements of a file, and the comments after the last one.
pub(super) fn statements(text: &str, tokens: &Tokens) -> (Vec<Statement>, Vec<Note>) {
    let mut reader =
        Reader { text, tokens: &tokens.tokens, comments: &tokens.comments, waiting: Vec::new() };
    let mut statements: Vec<Statement> = Vec::new();
    loop {
        reader.skip_lines();
        let mut above = reader.notes();
        if let Some(last) = statements.last_mut()
            && above.first().is_some_and(|first| !first.is_alone)
        {
            last.trailing = Some(above.remove(0));
        }
        let Some(line) = reader.line() else {
            return (statements, above);
        };
        let (place, shape) = reader.statement();
        statements.push(Statement { above, line, place, shape, trailing: None });
    }
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    comments: &'a [Comment],
    /// Comments after which the line cannot end; they move to the next possible line end.
    waiting: Vec<Note>,
}

impl<'a> Reader<'a> {
    fn kind(&self) -> &'a TokenKind {
        self.tokens.first().map_or(&TokenKind::End, |token| &token.kind)
    }

    fn second(&self) -> &'a TokenKind {
        self.tokens.get(1).map_or(&TokenKind::End, |token| &token.kind)
    }

    /// Line of the next statement, if there is one.
    fn line(&self) -> Option<usize> {
        let next = self.tokens.first()?;
        (next.kind != TokenKind::End).then_some(next.line)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.kind(), TokenKind::Symbol(found) if *found == symbol)
    }

    fn word(&self) -> &'a str {
        match self.kind() {
            TokenKind::Word(word) => word,
            _ => "",
        }
    }

    fn skip_lines(&mut self) {
        while let Some((Token { kind: TokenKind::Line, .. }, rest)) = self.tokens.split_first() {
            self.tokens = rest;
        }
    }

    /// Takes the next token, as written.
    fn take(&mut self) -> &'a str {
        self.gather();
        let Some((token, rest)) = self.tokens.split_first() else {
            return "";
        };
        self.tokens = rest;
        self.text.get(token.span.start..token.span.end).unwrap_or_default()
    }

    /// Moves the comments before the next token to `waiting`.
    fn gather(&mut self) {
        let next = self.tokens.first().map_or(self.text.len(), |token| token.span.start);
        let count = self.comments.partition_point(|comment| comment.span.start < next);
        let (before, behind) = self.comments.split_at(count);
        self.comments = behind;
        let notes = before.iter().map(|comment| self.note(comment));
        self.waiting.extend(notes.collect::<Vec<_>>());
    }

    fn note(&self, comment: &Comment) -> Note {
        let (before, rest) = self.text.split_at_checked(comment.span.start).unwrap_or_default();
        let length = comment.span.end - comment.span.start;
        Note {
            text: rest.get(..length).unwrap_or(rest).trim_end().to_owned(),
            is_alone: comment.is_alone,
            is_indented: !comment.is_alone || before.ends_with([' ', '\t']),
            line: comment.line,
        }
    }

    /// Takes all comments up to here, where the line can end.
    fn notes(&mut self) -> Vec<Note> {
        self.gather();
        std::mem::take(&mut self.waiting)
    }

    fn statement(&mut self) -> (Place, Shape) {
        match self.word() {
            "sync" => {
                let word = self.take();
                (Place::Rule, Shape::Text(format!("{word} {}", self.take())))
            }
            "header" if matches!(self.second(), TokenKind::Text(_)) => {
                let words = [(); 4].map(|()| self.take());
                (Place::Header, Shape::Text(words.join(" ")))
            }
            "when" | "where" | "then" => (Place::Part, Shape::Text(self.take().to_owned())),
            "else" => {
                self.take();
                let (place, what) = if self.is("(") {
                    (Place::Part, Shape::Bracket(self.bracket(true)))
                } else {
                    (Place::ElseBranch, self.call())
                };
                (place, prefixed("else ", what))
            }
            _ => (Place::Item, self.item_of_part()),
        }
    }

    /// A pattern, a call or a step.
    fn item_of_part(&mut self) -> Shape {
        let word = self.word();
        match word {
            "optional" | "some" | "no" => {
                self.take();
                prefixed(&format!("{word} "), self.call())
            }
            "let" | "each" => {
                self.take();
                let prefix = format!("{word} {} {} ", self.take(), self.take());
                prefixed(&prefix, self.level(0))
            }
            "collect" => {
                self.take();
                let what = if self.is("(") {
                    Shape::Bracket(self.bracket(true))
                } else {
                    Shape::Text(self.take().to_owned())
                };
                let suffix = format!(" {} {}", self.take(), self.take());
                prefixed("collect ", suffixed(what, &suffix))
            }
            _ if is_upper(word) => self.call(),
            _ => self.level(0),
        }
    }

    fn call(&mut self) -> Shape {
        let target = format!("{}{}{}", self.take(), self.take(), self.take());
        let input = self.bracket(true);
        if !self.is(":") {
            return Shape::Call(Call { target, input, notes: Vec::new(), output: None });
        }
        let notes = self.notes();
        self.take();
        Shape::Call(Call { target, input, notes, output: Some(self.bracket(true)) })
    }

    fn bracket(&mut self, is_list: bool) -> Bracket {
        let open = self.take().to_owned();
        let notes = self.notes();
        let mut items = Vec::new();
        while !matches!(self.kind(), TokenKind::Symbol(")" | "]" | "}") | TokenKind::End) {
            let shape = self.item();
            if self.is(",") {
                self.take();
            }
            items.push(Item { shape, notes: self.notes() });
        }
        Bracket { open, notes, items, close: self.take().to_owned(), is_list }
    }

    /// `name`, `name?`, `name: value` or a value.
    fn item(&mut self) -> Shape {
        let is_named = matches!(self.kind(), TokenKind::Word(_) | TokenKind::Text(_))
            && matches!(self.second(), TokenKind::Symbol(":" | "?"));
        if !is_named {
            return self.level(0);
        }
        let name = self.take();
        let mark = if self.is("?") { self.take() } else { "" };
        if !self.is(":") {
            return Shape::Text(format!("{name}{mark}"));
        }
        self.take();
        let value = self.level(0);
        if value == Shape::Text(name.to_owned()) && !is_keyword(name) && !name.starts_with('"') {
            return Shape::Text(format!("{name}{mark}"));
        }
        prefixed(&format!("{name}{mark}: "), value)
    }

    /// An expression with operators of this level or higher.
    fn level(&mut self, level: usize) -> Shape {
        let Some((operators, _)) = LEVELS.get(level) else {
            return self.value();
        };
        if level == NOT_LEVEL && self.word() == "not" {
            self.take();
            return prefixed("not ", self.level(level));
        }
        let first = self.level(level + 1);
        let mut links = Vec::new();
        while operators.iter().any(|(operator, _)| self.is(operator) || self.word() == *operator) {
            links.push(Link {
                operator: self.take().to_owned(),
                notes: self.notes(),
                operand: self.level(level + 1),
            });
        }
        if links.is_empty() {
            return first;
        }
        Shape::Chain(Box::new(first), links)
    }

    fn value(&mut self) -> Shape {
        let mut value = match self.kind() {
            TokenKind::Symbol("(") => Shape::Bracket(self.bracket(false)),
            TokenKind::Symbol("[" | "{") => Shape::Bracket(self.bracket(true)),
            TokenKind::Symbol("-") => Shape::Text(format!("{}{}", self.take(), self.take())),
            _ => Shape::Text(self.take().to_owned()),
        };
        while self.is(".") {
            let field = format!("{}{}", self.take(), self.take());
            value = suffixed(value, &field);
        }
        value
    }
}

fn prefixed(prefix: &str, shape: Shape) -> Shape {
    match shape {
        Shape::Text(text) => Shape::Text(format!("{prefix}{text}")),
        shape => Shape::Prefixed(prefix.to_owned(), Box::new(shape)),
    }
}

fn suffixed(shape: Shape, suffix: &str) -> Shape {
    match shape {
        Shape::Text(text) => Shape::Text(format!("{text}{suffix}")),
        shape => Shape::Suffixed(Box::new(shape), suffix.to_owned()),
    }
}
