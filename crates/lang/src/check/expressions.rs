//! Compilation of expressions: variables become slots, and known types are checked.

use concert_wire::routes::{Field, ValueType};
use serde_json::Value;

use super::rule::Rule;
use super::types::{suggest_value, type_of};
use super::uses::{OPERAND, Use, Where};
use crate::diagnostics::{Diagnostic, UNKNOWN_FIELD, WRONG_TYPE};
use crate::expr::{Expr, Operator};
use crate::program::Slot;
use crate::source::Span;
use crate::syntax::{ExprDef, ExprKind};

impl Rule<'_> {
    /// Compiles an expression. Returns `None` if a variable is unbound; each one is reported.
    pub(super) fn expr(&mut self, def: &ExprDef, place: &Where) -> Option<Expr> {
        Some(match &def.kind {
            ExprKind::Variable(name) => {
                let slot = self.variables.used(name, def.span, self.diagnostics)?;
                self.uses.push(Use {
                    slot,
                    place: place.clone(),
                    span: def.span,
                    handles_null: self.variables.is_not_null(slot),
                });
                Expr::Variable(slot)
            }
            ExprKind::Literal(value) => Expr::Literal(value.clone()),
            ExprKind::List(items) => {
                let place = inside(place, "put in a list");
                let items: Vec<_> = items.iter().map(|item| self.expr(item, &place)).collect();
                Expr::List(items.into_iter().collect::<Option<_>>()?)
            }
            ExprKind::Object(members) => {
                let place = inside(place, "put in an object");
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value)| Some((key.clone(), self.expr(value, &place)?)))
                    .collect();
                Expr::Object(members.into_iter().collect::<Option<_>>()?)
            }
            ExprKind::Field(value, field) => {
                self.check_field(value, field, def.span);
                let place = Where::Within("used with a field access");
                Expr::Field(Box::new(self.expr(value, &place)?), field.clone())
            }
            ExprKind::Not(value) => {
                Expr::Not(Box::new(self.expr(value, &Where::Within("compared"))?))
            }
            ExprKind::Binary(left, operator, right) => {
                self.check_values(left, *operator, right);
                self.check_sizes(left, *operator, right);
                let is_null = |side: &ExprDef| side.kind == ExprKind::Literal(Value::Null);
                let place = match operator {
                    Operator::Equal | Operator::Unequal if is_null(left) || is_null(right) => {
                        Where::NullTest
                    }
                    Operator::Default => place.of_default(),
                    _ => Where::Within(OPERAND),
                };
                let (left, right) = (self.expr(left, &place), self.expr(right, &place));
                Expr::Binary(Box::new(left?), *operator, Box::new(right?))
            }
        })
    }

    /// Reports a field that a record does not have.
    fn check_field(&mut self, value: &ExprDef, field: &str, span: Span) {
        let kind = self.type_of_expr(value);
        let Some(ValueType::Record(fields)) = kind.as_ref().map(ValueType::without_null) else {
            return;
        };
        if fields.iter().all(|known| known.name != field) {
            let message = format!("this record has no field `{field}`");
            let diagnostic = Diagnostic::error(UNKNOWN_FIELD, span, message);
            let known = fields.iter().map(|known| known.name.as_str());
            self.diagnostics.push(diagnostic.suggest(field, known));
        }
    }

    /// Reports literals that an enumeration does not have.
    fn check_values(&mut self, left: &ExprDef, operator: Operator, right: &ExprDef) {
        let (elements_of_left, elements_of_right) = match operator {
            Operator::Equal | Operator::Unequal => (vec![left], vec![right]),
            Operator::In => match &right.kind {
                ExprKind::List(items) => (vec![left], items.iter().collect()),
                _ => (vec![left], vec![]),
            },
            _ => return,
        };
        let of_right = match self.type_of_expr(right) {
            Some(ValueType::Seq(of) | ValueType::Set(of)) if operator == Operator::In => Some(*of),
            kind => kind.filter(|_| operator != Operator::In),
        };
        let checked = [(self.type_of_expr(left), elements_of_right), (of_right, elements_of_left)];
        for (kind, others) in checked {
            let Some(kind) = kind.filter(|kind| matches!(kind.without_null(), ValueType::Enum(_)))
            else {
                continue;
            };
            for other in others {
                let ExprKind::Literal(value) = &other.kind else { continue };
                if !value.is_null() && !kind.accepts(value) {
                    let message = format!("{value} is not {}", kind.without_null().describe());
                    let diagnostic = Diagnostic::error(WRONG_TYPE, other.span, message);
                    self.diagnostics.push(suggest_value(diagnostic, value, &kind));
                }
            }
        }
    }

    /// Reports operands that are declared to be so large that a rule has only their references.
    fn check_sizes(&mut self, left: &ExprDef, operator: Operator, right: &ExprDef) {
        if !operator.needs_content() {
            return;
        }
        for side in [left, right] {
            if self.type_of_expr(side).is_some_and(|kind| kind.declares_large()) {
                let message = "this value can have more than 32 KiB, and rules cannot concatenate \
                               or order such values";
                let help = "pass it on, compare it with `==` or `!=`, or declare a shorter length";
                let diagnostic = Diagnostic::error(WRONG_TYPE, side.span, message);
                self.diagnostics.push(diagnostic.help(help));
            }
        }
    }

    pub(super) fn kind_of(&self, slot: Slot) -> Option<ValueType> {
        let kind = self.variables.get(slot)?.kind()?;
        Some(if self.variables.is_not_null(slot) { kind.without_null() } else { kind }.clone())
    }

    /// The type of an expression, if it is known.
    pub(super) fn type_of_expr(&self, def: &ExprDef) -> Option<ValueType> {
        match &def.kind {
            ExprKind::Variable(name) => self.kind_of(self.variables.find(name)?),
            ExprKind::Literal(value) if value.is_null() => None,
            ExprKind::Literal(value) => Some(type_of(value)),
            ExprKind::List(_) => Some(ValueType::Seq(Box::new(ValueType::Any))),
            ExprKind::Object(_) => Some(ValueType::Any),
            ExprKind::Field(value, field) => {
                let of = self.type_of_expr(value).unwrap_or(ValueType::Any);
                let Some(field) = of.field(field) else { return Some(ValueType::Any) };
                let can_be_null = field.optional || of.accepts(&Value::Null);
                Some(match &field.kind {
                    kind if can_be_null && !kind.accepts(&Value::Null) => {
                        ValueType::Nullable(Box::new(kind.clone()))
                    }
                    kind => kind.clone(),
                })
            }
            ExprKind::Not(_) => Some(ValueType::Boolean),
            ExprKind::Binary(_, operator, _) => match operator {
                Operator::Default | Operator::Add => Some(ValueType::Any),
                Operator::Subtract | Operator::Multiply | Operator::Divide => {
                    Some(ValueType::Number)
                }
                _ => Some(ValueType::Boolean),
            },
        }
    }
}

/// The place of the elements of a list or object at `place`. In a response, the elements count as
/// parts of the response.
fn inside(place: &Where, how: &'static str) -> Where {
    match place {
        Where::Answer => Where::Answer,
        _ => Where::Within(how),
    }
}

/// Returns whether an expression can have a value of a type, judged by its form. The types of
/// variables are checked with their uses.
pub(super) fn can_be(def: &ExprDef, kind: &ValueType, or_null: bool) -> bool {
    use ValueType::{
        Any, Boolean, BoundedString, Date, Enum, Id, Nullable, Number, Record, Seq, Set, String,
    };
    if let Nullable(of) = kind {
        return can_be(def, of, true);
    }
    if *kind == Any {
        return true;
    }
    match &def.kind {
        ExprKind::Literal(value) => kind.accepts(value) || (or_null && value.is_null()),
        ExprKind::Variable(_) | ExprKind::Field(..) => true,
        ExprKind::List(items) => match kind {
            Seq(of) | Set(of) => items.iter().all(|item| can_be(item, of, false)),
            _ => false,
        },
        ExprKind::Object(members) => match kind {
            Record(fields) => {
                let is_field = |(key, value): &(std::string::String, ExprDef)| {
                    let field = fields.iter().find(|field| field.name == *key);
                    field.is_some_and(|field| can_be(value, &field.kind, false))
                };
                members.iter().all(is_field) && missing_field(members, fields).is_none()
            }
            _ => false,
        },
        ExprKind::Not(_) => *kind == Boolean,
        ExprKind::Binary(left, operator, right) => match operator {
            Operator::Default => can_be(left, kind, true) || can_be(right, kind, or_null),
            Operator::Add => {
                matches!(kind, Number | String | Date | Id(_) | BoundedString(_) | Enum(_))
            }
            Operator::Subtract | Operator::Multiply | Operator::Divide => *kind == Number,
            _ => *kind == Boolean,
        },
    }
}

fn missing_field<'a>(members: &[(String, ExprDef)], fields: &'a [Field]) -> Option<&'a Field> {
    fields.iter().find(|field| !field.optional && members.iter().all(|(key, _)| *key != field.name))
}

/// The error for an expression that cannot have the declared type of an argument.
pub(super) fn wrong_argument(def: &ExprDef, name: &str, kind: &ValueType) -> Diagnostic {
    if let (ExprKind::Object(members), ValueType::Record(fields)) = (&def.kind, kind.without_null())
    {
        for (key, value) in members {
            let Some(field) = fields.iter().find(|field| field.name == *key) else {
                let message = format!("`{name}` has no field `{key}`");
                let known = fields.iter().map(|field| field.name.as_str());
                return Diagnostic::error(UNKNOWN_FIELD, value.span, message).suggest(key, known);
            };
            if !can_be(value, &field.kind, false) {
                return wrong_argument(value, &format!("{name}.{key}"), &field.kind);
            }
        }
        if let Some(field) = missing_field(members, fields) {
            let message = format!("`{name}` needs the field `{}`", field.name);
            return Diagnostic::error(WRONG_TYPE, def.span, message);
        }
    }
    let message = format!("`{name}` must be {}", kind.describe());
    let diagnostic = Diagnostic::error(WRONG_TYPE, def.span, message);
    match &def.kind {
        ExprKind::Literal(value) => suggest_value(diagnostic, value, kind),
        _ => diagnostic,
    }
}

/// Names of the variables that are not null if the condition is true.
pub(super) fn not_null<'a>(condition: &'a ExprDef, found: &mut Vec<&'a str>) {
    let is_null = |def: &ExprDef| matches!(&def.kind, ExprKind::Literal(Value::Null));
    let is_value =
        |def: &ExprDef| matches!(&def.kind, ExprKind::Literal(value) if !value.is_null());
    match &condition.kind {
        ExprKind::Variable(name) => found.push(name),
        ExprKind::Not(negated) => {
            if let ExprKind::Binary(left, Operator::Equal, right) = &negated.kind {
                for (side, other) in [(left, right), (right, left)] {
                    if let ExprKind::Variable(name) = &side.kind
                        && is_null(other)
                    {
                        found.push(name);
                    }
                }
            }
        }
        ExprKind::Binary(left, Operator::And, right) => {
            not_null(left, found);
            not_null(right, found);
        }
        ExprKind::Binary(left, operator, right) => {
            for (side, other) in [(left, right), (right, left)] {
                let excludes_null = match operator {
                    Operator::Unequal => is_null(other),
                    Operator::Equal => is_value(other),
                    Operator::Less
                    | Operator::LessOrEqual
                    | Operator::Greater
                    | Operator::GreaterOrEqual => true,
                    _ => false,
                };
                if let ExprKind::Variable(name) = &side.kind
                    && excludes_null
                {
                    found.push(name);
                }
            }
        }
        _ => {}
    }
}
