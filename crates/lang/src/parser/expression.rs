//! Parser of expressions, by operator precedence.

use serde_json::{Number, Value};

use super::{Parsed, Parser};
use crate::diagnostics::{Diagnostic, NUMBER, REPEATED_KEY, SYNTAX, TOO_DEEP};
use crate::expr::{LEVELS, NOT_LEVEL, Operator};
use crate::lexer::TokenKind;
use crate::source::Span;
use crate::syntax::{ExprDef, ExprKind, Ident};

/// Maximum nesting of brackets and `not`, because the parser is recursive.
const MAX_NESTING: usize = 64;
/// Maximum height of the tree, because functions that walk it are recursive. A long chain of
/// operators is a high tree, too.
const MAX_HEIGHT: usize = 128;

/// An expression and the height of its tree.
struct Tree {
    def: ExprDef,
    height: usize,
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed<ExprDef> {
        Ok(self.level(0, 0)?.def)
    }

    /// Creates a tree whose highest subtree has the height `below`.
    fn grow(&mut self, kind: ExprKind, span: Span, below: usize) -> Parsed<Tree> {
        let height = below + 1;
        if height > MAX_HEIGHT {
            let message = format!(
                "this expression nests more than {MAX_HEIGHT} operators, fields and brackets"
            );
            return Err(self.error(Diagnostic::error(TOO_DEEP, span, message)));
        }
        Ok(Tree { def: ExprDef { kind, span }, height })
    }

    fn level(&mut self, level: usize, depth: usize) -> Parsed<Tree> {
        if depth > MAX_NESTING {
            let message = format!("this expression is nested more than {MAX_NESTING} deep");
            let span = self.cursor.span();
            return Err(self.error(Diagnostic::error(TOO_DEEP, span, message)));
        }
        let Some((operators, chains)) = LEVELS.get(level) else {
            return self.value(depth);
        };
        if level == NOT_LEVEL && self.cursor.at_word("not") {
            let start = self.cursor.span();
            self.cursor.advance();
            let value = self.level(level, depth + 1)?;
            let span = start.to(value.def.span);
            return self.grow(ExprKind::Not(Box::new(value.def)), span, value.height);
        }
        let mut left = self.level(level + 1, depth)?;
        let mut is_first = true;
        while let Some(operator) = self.operator(operators) {
            if !is_first && !chains {
                return Err(self.misplaced("comparisons cannot be chained; join them with `and`"));
            }
            is_first = false;
            self.cursor.advance();
            let right = self.level(level + 1, depth)?;
            let span = left.def.span.to(right.def.span);
            let height = left.height.max(right.height);
            let kind = ExprKind::Binary(Box::new(left.def), operator, Box::new(right.def));
            left = self.grow(kind, span, height)?;
        }
        Ok(left)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let text = match self.cursor.kind() {
            TokenKind::Symbol(symbol) => symbol,
            TokenKind::Word(word) => word.as_str(),
            _ => return None,
        };
        operators.iter().find(|(word, _)| *word == text).map(|(_, operator)| *operator)
    }

    fn value(&mut self, depth: usize) -> Parsed<Tree> {
        let mut value = self.primary(depth)?;
        while self.cursor.take_symbol(".") {
            let field = self.cursor.word("the name of a field")?;
            let span = value.def.span.to(field.span);
            value =
                self.grow(ExprKind::Field(Box::new(value.def), field.text), span, value.height)?;
        }
        Ok(value)
    }

    fn primary(&mut self, depth: usize) -> Parsed<Tree> {
        let start = self.cursor.span();
        if let Some((value, span)) = self.literal()? {
            return self.grow(ExprKind::Literal(value), span, 0);
        }
        if self.cursor.take_symbol("(") {
            let mut inner = self.level(0, depth + 1)?;
            self.cursor.symbol(")", "an operator or `)`")?;
            inner.def.span = start.to(self.cursor.last_span());
            return Ok(inner);
        }
        if self.cursor.take_symbol("[") {
            let items = self.until("]", |parser| parser.level(0, depth + 1))?;
            let height = items.iter().map(|item| item.height).max().unwrap_or(0);
            let items = items.into_iter().map(|item| item.def).collect();
            return self.grow(ExprKind::List(items), start.to(self.cursor.last_span()), height);
        }
        if self.cursor.take_symbol("{") {
            let members = self.until("}", |parser| parser.member(depth + 1))?;
            self.no_repeated_members(members.iter().map(|(key, _)| key));
            let height = members.iter().map(|(_, value)| value.height).max().unwrap_or(0);
            let members = members.into_iter().map(|(key, value)| (key.text, value.def)).collect();
            return self.grow(ExprKind::Object(members), start.to(self.cursor.last_span()), height);
        }
        let variable = self.variable("a value")?;
        self.grow(ExprKind::Variable(variable.text), variable.span, 0)
    }

    fn no_repeated_members<'b>(&mut self, keys: impl Iterator<Item = &'b Ident>) {
        let mut seen: Vec<&str> = Vec::new();
        for key in keys {
            if seen.contains(&key.text.as_str()) {
                let message = format!("duplicate key `{}` in this object", key.text);
                self.cursor.report(Diagnostic::error(REPEATED_KEY, key.span, message));
            }
            seen.push(&key.text);
        }
    }

    pub(super) fn until<T>(
        &mut self,
        close: &str,
        item: impl Fn(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.cursor.take_symbol(close) {
            items.push(item(self)?);
            if !self.cursor.take_symbol(",") && !self.cursor.at_symbol(close) {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    fn member(&mut self, depth: usize) -> Parsed<(Ident, Tree)> {
        let span = self.cursor.span();
        if let TokenKind::Text(text) = self.cursor.kind() {
            let key = Ident { text: text.clone(), span };
            self.cursor.advance();
            self.cursor.symbol(":", "`:` and a value")?;
            return Ok((key, self.level(0, depth)?));
        }
        let key = self.param()?;
        if self.cursor.take_symbol(":") {
            return Ok((key, self.level(0, depth)?));
        }
        let variable = self.as_variable(&key)?;
        let value = self.grow(ExprKind::Variable(variable.text), span, 0)?;
        Ok((key, value))
    }

    /// Parses a literal, if the current token begins one.
    pub(super) fn literal(&mut self) -> Parsed<Option<(Value, Span)>> {
        let start = self.cursor.span();
        let value = match self.cursor.kind() {
            TokenKind::Text(text) => Value::String(text.clone()),
            TokenKind::Number(number) => Value::Number(number.clone()),
            TokenKind::Symbol("-") => {
                self.cursor.advance();
                let TokenKind::Number(number) = self.cursor.kind() else {
                    return Err(self.error(Diagnostic::error(
                        SYNTAX,
                        start,
                        "unary `-` is only allowed before a number",
                    )));
                };
                let negated = number
                    .as_i64()
                    .and_then(i64::checked_neg)
                    .map(Number::from)
                    .or_else(|| Number::from_f64(-number.as_f64()?));
                match negated {
                    Some(negated) => Value::Number(negated),
                    None => {
                        return Err(self.error(Diagnostic::error(
                            NUMBER,
                            start,
                            "this number cannot be negated",
                        )));
                    }
                }
            }
            TokenKind::Word(word) => match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.cursor.advance();
        Ok(Some((value, start.to(self.cursor.last_span()))))
    }
}
