//! Expressions as they are written.

use std::fmt;
use std::sync::Arc;

use crate::expr::{Expr, Operator};

/// An expression, with the names of its variables.
pub(super) struct Shown<'a>(pub(super) &'a Expr, pub(super) &'a [Arc<str>]);

/// As it is written.
pub(super) const fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Or => "or",
        Operator::And => "and",
        Operator::Equal => "==",
        Operator::Unequal => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::In => "in",
        Operator::Default => "??",
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
    }
}

impl Shown<'_> {
    /// A part, in brackets where it could be read otherwise.
    fn part(&self, f: &mut fmt::Formatter<'_>, part: &Expr) -> fmt::Result {
        let part_shown = Shown(part, self.1);
        match part {
            Expr::Binary(..) | Expr::Not(_) => write!(f, "({part_shown})"),
            _ => write!(f, "{part_shown}"),
        }
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
                self.part(f, value)?;
                write!(f, ".{field}")
            }
            Expr::Not(value) => {
                f.write_str("not ")?;
                self.part(f, value)
            }
            Expr::Binary(left, between, right) => {
                self.part(f, left)?;
                write!(f, " {} ", operator(*between))?;
                self.part(f, right)
            }
        }
    }
}
