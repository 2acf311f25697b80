//! Compiled expressions and their evaluation. An operation on unsuitable values gives null or
//! false. Only computing with a large value fails, because a rule has no more than its reference.

use std::borrow::Cow;

use concert_wire::large::Reference;
use concert_wire::value::equal;
use serde_json::{Map, Number, Value};

const NULL: &Value = &Value::Null;

/// Number of a variable within its rule: an index into a frame.
pub type Slot = usize;

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `or`
    Or,
    /// `and`
    And,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `??`
    Default,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    /// Returns whether the operator needs the content of its operands, which a reference to a large
    /// value does not have.
    pub const fn needs_content(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }
}

/// The operators by precedence, lowest first, each level with whether it chains.
pub const LEVELS: &[(&[(&str, Operator)], bool)] = &[
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
/// Level of `not`: between `and` and the comparisons.
pub const NOT_LEVEL: usize = 2;

/// An expression; variables are slots of the frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A variable.
    Variable(Slot),
    /// A literal.
    Literal(Value),
    /// A list.
    List(Vec<Expr>),
    /// An object, in the order written.
    Object(Vec<(String, Expr)>),
    /// `value.field`
    Field(Box<Expr>, String),
    /// `not value`
    Not(Box<Expr>),
    /// Left operand, operator and right operand.
    Binary(Box<Expr>, Operator, Box<Expr>),
}

/// An expression concatenates or orders a large value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rule computes with a value of more than 32 KiB; such values can only be passed on and \
     compared with == and !="
)]
pub struct LargeOperand;

impl Expr {
    /// Evaluates the expression in a frame. An unbound variable is null. Values of the frame and
    /// literals are borrowed.
    ///
    /// # Errors
    /// See [`LargeOperand`].
    pub fn eval<'a>(&'a self, frame: &[Option<&'a Value>]) -> Result<Cow<'a, Value>, LargeOperand> {
        Ok(match self {
            Self::Variable(slot) => {
                Cow::Borrowed(frame.get(*slot).copied().flatten().unwrap_or(NULL))
            }
            Self::Literal(value) => Cow::Borrowed(value),
            Self::List(items) => {
                let items = items.iter().map(|item| Ok(item.eval(frame)?.into_owned()));
                Cow::Owned(items.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), value.eval(frame)?.into_owned())));
                Cow::Owned(Value::Object(members.collect::<Result<Map<_, _>, _>>()?))
            }
            Self::Field(value, field) => match value.eval(frame)? {
                Cow::Borrowed(Value::Object(map)) => Cow::Borrowed(map.get(field).unwrap_or(NULL)),
                Cow::Owned(Value::Object(mut map)) => {
                    Cow::Owned(map.swap_remove(field).unwrap_or(Value::Null))
                }
                _ => Cow::Borrowed(NULL),
            },
            Self::Not(value) => Cow::Owned(Value::Bool(!is_true(&*value.eval(frame)?))),
            Self::Binary(left, Operator::Default, right) => match left.eval(frame)? {
                value if value.is_null() => right.eval(frame)?,
                value => value,
            },
            Self::Binary(left, operator, right) => {
                Cow::Owned(binary(&*left.eval(frame)?, *operator, || right.eval(frame))?)
            }
        })
    }

    /// Returns whether evaluation can fail, judged by the operators.
    pub fn can_fail(&self) -> bool {
        match self {
            Self::Variable(_) | Self::Literal(_) => false,
            Self::List(items) => items.iter().any(Self::can_fail),
            Self::Object(members) => members.iter().any(|(_, value)| value.can_fail()),
            Self::Field(value, _) | Self::Not(value) => value.can_fail(),
            Self::Binary(left, operator, right) => {
                operator.needs_content() || left.can_fail() || right.can_fail()
            }
        }
    }

    /// Calls `visit` with every variable.
    pub fn variables(&self, visit: &mut impl FnMut(Slot)) {
        match self {
            Self::Variable(slot) => visit(*slot),
            Self::Literal(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.variables(visit)),
            Self::Object(members) => members.iter().for_each(|(_, value)| value.variables(visit)),
            Self::Field(value, _) | Self::Not(value) => value.variables(visit),
            Self::Binary(left, _, right) => {
                left.variables(visit);
                right.variables(visit);
            }
        }
    }
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn binary<'a>(
    left: &Value,
    operator: Operator,
    right: impl FnOnce() -> Result<Cow<'a, Value>, LargeOperand>,
) -> Result<Value, LargeOperand> {
    Ok(match operator {
        Operator::Or => Value::Bool(is_true(left) || is_true(&*right()?)),
        Operator::And => Value::Bool(is_true(left) && is_true(&*right()?)),
        Operator::Default if left.is_null() => right()?.into_owned(),
        Operator::Default => left.clone(),
        Operator::Equal => Value::Bool(equal(left, &*right()?)),
        Operator::Unequal => Value::Bool(!equal(left, &*right()?)),
        Operator::Less => order(left, &*right()?, |order| order.is_lt())?,
        Operator::LessOrEqual => order(left, &*right()?, |order| order.is_le())?,
        Operator::Greater => order(left, &*right()?, |order| order.is_gt())?,
        Operator::GreaterOrEqual => order(left, &*right()?, |order| order.is_ge())?,
        Operator::In => Value::Bool(
            right()?.as_array().is_some_and(|items| items.iter().any(|item| equal(left, item))),
        ),
        Operator::Add => match (left, &*right()?) {
            (Value::String(left), Value::String(right)) => {
                Value::String(format!("{}{}", content(left)?, content(right)?))
            }
            (left, right) => arithmetic(left, right, |a, b| a + b),
        },
        Operator::Subtract => arithmetic(left, &*right()?, |a, b| a - b),
        Operator::Multiply => arithmetic(left, &*right()?, |a, b| a * b),
        Operator::Divide => arithmetic(left, &*right()?, |a, b| a / b),
    })
}

/// The text itself, unless it is a reference.
fn content(text: &str) -> Result<&str, LargeOperand> {
    if text.parse::<Reference>().is_ok() { Err(LargeOperand) } else { Ok(text) }
}

/// Compares numbers by value and strings by code point; other values have no order.
fn order(
    left: &Value,
    right: &Value,
    holds: impl Fn(std::cmp::Ordering) -> bool,
) -> Result<Value, LargeOperand> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right))
        }
        (Value::String(left), Value::String(right)) => Some(content(left)?.cmp(content(right)?)),
        _ => None,
    };
    Ok(Value::Bool(order.is_some_and(holds)))
}

/// Returns null if an operand is not a number or the result is not finite.
fn arithmetic(left: &Value, right: &Value, apply: impl Fn(f64, f64) -> f64) -> Value {
    let Some((left, right)) = left.as_f64().zip(right.as_f64()) else {
        return Value::Null;
    };
    number(apply(left, right))
}

/// Converts to JSON; a whole number has no fraction.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        // Whole and in range, so the text is an integer's.
        return serde_json::from_str(&format!("{value:.0}")).map_or(
            Value::Null,
            |number: Value| {
                if number.as_f64() == Some(0.0) { Value::from(0) } else { number }
            },
        );
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests;
