//! Expressions, loosest operator first.

use serde_json::{Number, Value};

use super::{Parsed, Parser};
use crate::diagnostics::{Diagnostic, NUMBER, REPEATED_KEY, SYNTAX, TOO_DEEP};
use crate::expr::Operator;
use crate::lexer::TokenKind;
use crate::source::Span;
use crate::syntax::{ExprDef, ExprKind, Ident};

/// How deeply expressions may be nested.
const MAX_DEPTH: usize = 64;

/// The operators, from the loosest to the tightest; comparisons do not chain.
const LEVELS: &[(&[(&str, Operator)], bool)] = &[
    (&[("or", Operator::Or)], true),
    (&[("and", Operator::And)], true),
    (
        &[
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("in", Operator::In),
        ],
        false,
    ),
    (&[("??", Operator::Default)], true),
    (&[("+", Operator::Add), ("-", Operator::Subtract)], true),
    (&[("*", Operator::Multiply), ("/", Operator::Divide)], true),
];
/// `not` stands between `and` and the comparisons.
const NOT_LEVEL: usize = 2;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed<ExprDef> {
        self.level(0, 0)
    }

    fn level(&mut self, level: usize, depth: usize) -> Parsed<ExprDef> {
        if depth > MAX_DEPTH {
            let span = self.cursor.span();
            return Err(self.error(Diagnostic::error(
                TOO_DEEP,
                span,
                format!("this expression is nested more than {MAX_DEPTH} deep"),
            )));
        }
        let Some((operators, chains)) = LEVELS.get(level) else {
            return self.value(depth);
        };
        if level == NOT_LEVEL && self.cursor.at_word("not") {
            let start = self.cursor.span();
            self.cursor.advance();
            let value = self.level(level, depth + 1)?;
            let span = start.to(value.span);
            return Ok(ExprDef {
                kind: ExprKind::Not(Box::new(value)),
                span,
            });
        }
        let mut left = self.level(level + 1, depth)?;
        let mut seen = 0;
        while let Some(operator) = self.operator(operators) {
            if seen > 0 && !chains {
                return Err(self.misplaced("comparisons do not chain; join them with `and`"));
            }
            // A long chain is as deep a tree as a nested one.
            seen += 1;
            if seen > MAX_DEPTH {
                let span = self.cursor.span();
                return Err(self.error(Diagnostic::error(
                    TOO_DEEP,
                    span,
                    format!("this expression has more than {MAX_DEPTH} terms"),
                )));
            }
            self.cursor.advance();
            let right = self.level(level + 1, depth)?;
            let span = left.span.to(right.span);
            left = ExprDef {
                kind: ExprKind::Binary(Box::new(left), operator, Box::new(right)),
                span,
            };
        }
        Ok(left)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let text = match self.cursor.kind() {
            TokenKind::Symbol(symbol) => symbol,
            TokenKind::Word(word) => word.as_str(),
            _ => return None,
        };
        operators
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, operator)| *operator)
    }

    fn value(&mut self, depth: usize) -> Parsed<ExprDef> {
        let mut value = self.primary(depth)?;
        let mut fields = 0;
        while self.cursor.take_symbol(".") {
            let field = self.cursor.word("the name of a field")?;
            fields += 1;
            if fields > MAX_DEPTH {
                return Err(self.error(Diagnostic::error(
                    TOO_DEEP,
                    field.span,
                    format!("this reads more than {MAX_DEPTH} fields deep"),
                )));
            }
            let span = value.span.to(field.span);
            value = ExprDef {
                kind: ExprKind::Field(Box::new(value), field.text),
                span,
            };
        }
        Ok(value)
    }

    fn primary(&mut self, depth: usize) -> Parsed<ExprDef> {
        let start = self.cursor.span();
        if let Some((value, span)) = self.literal()? {
            return Ok(ExprDef {
                kind: ExprKind::Literal(value),
                span,
            });
        }
        if self.cursor.take_symbol("(") {
            let inner = self.level(0, depth + 1)?;
            self.cursor.symbol(")", "`)`")?;
            return Ok(ExprDef {
                span: start.to(self.cursor.last_span()),
                ..inner
            });
        }
        if self.cursor.take_symbol("[") {
            let items = self.until("]", |parser| parser.level(0, depth + 1))?;
            return Ok(ExprDef {
                kind: ExprKind::List(items),
                span: start.to(self.cursor.last_span()),
            });
        }
        if self.cursor.take_symbol("{") {
            let members = self.until("}", |parser| parser.member(depth + 1))?;
            let mut seen: Vec<&str> = Vec::new();
            for (key, _) in &members {
                if seen.contains(&key.text.as_str()) {
                    self.cursor.report(Diagnostic::error(
                        REPEATED_KEY,
                        key.span,
                        format!("`{}` stands twice in this object", key.text),
                    ));
                }
                seen.push(&key.text);
            }
            let members = members.into_iter().map(|(key, value)| (key.text, value)).collect();
            return Ok(ExprDef {
                kind: ExprKind::Object(members),
                span: start.to(self.cursor.last_span()),
            });
        }
        let variable = self.variable("a value")?;
        Ok(ExprDef {
            kind: ExprKind::Variable(variable.text),
            span: variable.span,
        })
    }

    fn until<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.cursor.take_symbol(close) {
            items.push(item(self)?);
            if !self.cursor.take_symbol(",") && !self.cursor.at_symbol(close) {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    fn member(&mut self, depth: usize) -> Parsed<(Ident, ExprDef)> {
        let span = self.cursor.span();
        if let TokenKind::Text(text) = self.cursor.kind() {
            let key = Ident {
                text: text.clone(),
                span,
            };
            self.cursor.advance();
            self.cursor.symbol(":", "`:` and a value")?;
            return Ok((key, self.level(0, depth)?));
        }
        let key = self.cursor.word("the key of a member")?;
        if self.cursor.take_symbol(":") {
            return Ok((key, self.level(0, depth)?));
        }
        let variable = self.as_variable(&key)?;
        Ok((
            key,
            ExprDef {
                kind: ExprKind::Variable(variable.text),
                span,
            },
        ))
    }

    /// A literal, if one stands here.
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
                        "`-` without a value before it stands before numbers only",
                    )));
                };
                let negated = number
                    .as_i64()
                    .and_then(i64::checked_neg)
                    .map(Number::from)
                    .or_else(|| Number::from_f64(-number.as_f64()?));
                match negated {
                    Some(negated) => Value::Number(negated),
                    None => return Err(self.error(Diagnostic::error(NUMBER, start, "this number has no negative"))),
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
