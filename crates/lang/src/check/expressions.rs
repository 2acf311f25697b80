//! Compilation of expressions: variables become slots.

use concert_wire::routes::ValueType;

use super::rule::Rule;
use super::uses::{Use, Where};
use crate::expr::{Expr, Operator};
use crate::syntax::{ExprDef, ExprKind};

impl Rule<'_> {
    /// Compiles an expression. Returns `None` if a variable is unbound; each one is reported.
    pub(super) fn expr(&mut self, def: &ExprDef, place: &Where) -> Option<Expr> {
        Some(match &def.kind {
            ExprKind::Variable(name) => {
                let slot = self.variables.used(name, def.span, self.diagnostics)?;
                self.uses.push(Use { slot, place: place.clone(), span: def.span });
                Expr::Variable(slot)
            }
            ExprKind::Literal(value) => Expr::Literal(value.clone()),
            ExprKind::List(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|item| self.expr(item, &Where::Within("put in a list")))
                    .collect();
                Expr::List(items.into_iter().collect::<Option<_>>()?)
            }
            ExprKind::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value)| {
                        Some((key.clone(), self.expr(value, &Where::Within("put in an object"))?))
                    })
                    .collect();
                Expr::Object(members.into_iter().collect::<Option<_>>()?)
            }
            ExprKind::Field(value, field) => Expr::Field(
                Box::new(self.expr(value, &Where::Within("used with a field access"))?),
                field.clone(),
            ),
            ExprKind::Not(value) => {
                Expr::Not(Box::new(self.expr(value, &Where::Within("compared"))?))
            }
            ExprKind::Binary(left, operator, right) => {
                let place = Where::Within("compared or joined");
                let (left, right) = (self.expr(left, &place), self.expr(right, &place));
                Expr::Binary(Box::new(left?), *operator, Box::new(right?))
            }
        })
    }
}

/// Reports whether an expression can have a value of a type, judged by its form. The types of
/// variables are checked with their uses.
pub(super) fn can_be(def: &ExprDef, kind: &ValueType, or_null: bool) -> bool {
    use ValueType::{Any, Boolean, Date, Id, Number, Seq, String};
    if *kind == Any {
        return true;
    }
    match &def.kind {
        ExprKind::Literal(value) => kind.accepts(value) || (or_null && value.is_null()),
        ExprKind::Variable(_) | ExprKind::Field(..) => true,
        ExprKind::List(items) => match kind {
            Seq(of) => items.iter().all(|item| can_be(item, of, false)),
            _ => false,
        },
        ExprKind::Object(_) => false,
        ExprKind::Not(_) => *kind == Boolean,
        ExprKind::Binary(left, operator, right) => match operator {
            Operator::Default => can_be(left, kind, true) || can_be(right, kind, or_null),
            Operator::Add => matches!(kind, Number | String | Date | Id(_)),
            Operator::Subtract | Operator::Multiply | Operator::Divide => *kind == Number,
            _ => *kind == Boolean,
        },
    }
}
