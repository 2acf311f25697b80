//! Expressions as source text.

use std::fmt;
use std::sync::Arc;

use concert_lang::expr::{Expr, LEVELS, Operator};

/// An expression and the names of its variables.
pub(super) struct Shown<'a>(pub(super) &'a Expr, pub(super) &'a [Arc<str>]);

/// Source text of an operator.
pub(super) fn operator(operator: Operator) -> &'static str {
    let mut all = LEVELS.iter().flat_map(|(operators, _)| *operators);
    let found = all.find(|(_, known)| *known == operator);
    found.map_or("?", |(text, _)| text)
}

/// Precedence as in the grammar; higher binds tighter.
const fn binding(expr: &Expr) -> u8 {
    match expr {
        Expr::Binary(_, operator, _) => match operator {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Default => 5,
            Operator::Add | Operator::Subtract => 6,
            Operator::Multiply | Operator::Divide => 7,
            _ => 4,
        },
        Expr::Not(_) => 3,
        _ => 8,
    }
}

impl Shown<'_> {
    /// Writes an operand, in brackets if its precedence is below `least`.
    fn part(&self, f: &mut fmt::Formatter<'_>, part: &Expr, least: u8) -> fmt::Result {
        let shown = Shown(part, self.1);
        if binding(part) < least { write!(f, "({shown})") } else { write!(f, "{shown}") }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(expr, names) = self;
        match expr {
            Expr::Variable(slot) => f.write_str(names.get(*slot).map_or("?", |name| name)),
            Expr::Literal(value) => write!(f, "{value}"),
            Expr::List(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { ", " })?;
                    write!(f, "{}", Shown(item, names))?;
                }
                f.write_str("]")
            }
            Expr::Object(members) => {
                f.write_str("{")?;
                for (number, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{key}: ", if number == 0 { "" } else { ", " })?;
                    write!(f, "{}", Shown(value, names))?;
                }
                f.write_str("}")
            }
            Expr::Field(value, field) => {
                self.part(f, value, 8)?;
                write!(f, ".{field}")
            }
            Expr::Not(value) => {
                f.write_str("not ")?;
                self.part(f, value, 3)
            }
            Expr::Binary(left, between, right) => {
                let own = binding(expr);
                // Comparisons cannot be chained.
                let left_least = if own == 4 { 5 } else { own };
                self.part(f, left, left_least)?;
                write!(f, " {} ", operator(*between))?;
                self.part(f, right, own + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_written_only_where_needed() {
        let names: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        let a = || Box::new(Expr::Variable(0));
        let b = || Box::new(Expr::Variable(1));
        let sum = || Expr::Binary(a(), Operator::Add, b());
        let cases = [
            (Expr::Binary(Box::new(sum()), Operator::Multiply, b()), "(a + b) * b"),
            (Expr::Binary(Box::new(sum()), Operator::Subtract, b()), "a + b - b"),
            (Expr::Binary(a(), Operator::Subtract, Box::new(sum())), "a - (a + b)"),
            (Expr::Binary(Box::new(sum()), Operator::Less, b()), "a + b < b"),
            (Expr::Not(Box::new(Expr::Binary(a(), Operator::And, b()))), "not (a and b)"),
            (Expr::Field(Box::new(sum()), "c".to_owned()), "(a + b).c"),
        ];
        for (expr, expected) in cases {
            assert_eq!(Shown(&expr, &names).to_string(), expected);
        }
    }
}
