//! Comparisons: computed if the values are known, otherwise chosen both ways.

use concert_wire::value::{canonical, equal};
use serde_json::Value;

use super::order::{Order, Possible};
use super::values::Shape;
use super::world::World;
use concert_lang::expr::{Expr, Operator};

/// Operand of a comparison.
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) is_known: bool,
}

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) holds: bool,
    /// `true` if the result was chosen, not implied.
    pub(super) is_chosen: bool,
    /// The list element that is equal.
    pub(super) which: Option<Value>,
}

const fn certain(holds: bool) -> Verdict {
    Verdict { holds, is_chosen: false, which: None }
}

const fn chosen(holds: bool) -> Verdict {
    Verdict { holds, is_chosen: true, which: None }
}

fn not(verdict: Verdict) -> Verdict {
    Verdict { holds: !verdict.holds, ..verdict }
}

impl World<'_> {
    pub(super) fn judge(&mut self, operator: &str, left: &Operand, right: &Operand) -> Verdict {
        match operator {
            "==" => self.equal(left, right),
            "!=" => not(self.equal(left, right)),
            "in" => self.is_in(left, right),
            "<" => self.less(left, right),
            ">" => self.less(right, left),
            "<=" => self.at_most(left, right),
            _ => self.at_most(right, left),
        }
    }

    pub(super) fn equal(&mut self, left: &Operand, right: &Operand) -> Verdict {
        if left.is_known && right.is_known {
            return certain(equal(&left.value, &right.value));
        }
        let (shape, other) = (self.values.shape(&left.value), self.values.shape(&right.value));
        if shape != other && shape != Shape::Any && other != Shape::Any {
            return certain(false);
        }
        let lengths =
            [left, right].map(|side| self.elements_of(&side.value).map(|items| items.len()));
        if let [Some(one), Some(other)] = lengths
            && one != other
        {
            return certain(false);
        }
        for (symbol, other) in [(left, right), (right, left)] {
            if let Some(verdict) = self.within_domain(symbol, other) {
                return verdict;
            }
        }
        self.decide(left, right, Possible::EQUAL, Possible::DIFFERENT)
    }

    /// Compares a symbolic value of an enumeration with a literal, if only one result is possible.
    fn within_domain(&mut self, symbol: &Operand, literal: &Operand) -> Option<Verdict> {
        let domain = self.values.domain(&symbol.value)?.to_vec();
        let text = literal.value.as_str().filter(|_| literal.is_known)?;
        if !domain.iter().any(|value| value == text) {
            return Some(certain(false));
        }
        let a = self.order.number(&symbol.value, false);
        let is_excluded = |order: &mut Order, value: &String| {
            let b = order.number(&Value::from(value.as_str()), true);
            order.between(a, b).and(Possible::EQUAL).is_none()
        };
        let mut others = domain.iter().filter(|value| *value != text);
        others.all(|value| is_excluded(&mut self.order, value)).then(|| certain(true))
    }

    fn less(&mut self, left: &Operand, right: &Operand) -> Verdict {
        if left.is_known && right.is_known {
            let literal = |operand: &Operand| Box::new(Expr::Literal(operand.value.clone()));
            let less = Expr::Binary(literal(left), Operator::Less, literal(right));
            return certain(less.eval(&[]).is_ok_and(|less| *less == Value::Bool(true)));
        }
        if !self.have_order(left, right) {
            return certain(false);
        }
        self.decide(left, right, Possible::LESS, Possible::ALL.without(Possible::LESS))
    }

    /// Complement of `less` for values with an order. For values without an order, both are false.
    fn at_most(&mut self, left: &Operand, right: &Operand) -> Verdict {
        if left.is_known && right.is_known {
            let less = self.less(left, right);
            return certain(
                less.holds || (self.have_order(left, right) && equal(&left.value, &right.value)),
            );
        }
        if !self.have_order(left, right) {
            return certain(false);
        }
        not(self.less(right, left))
    }

    fn have_order(&self, left: &Operand, right: &Operand) -> bool {
        let (shape, other) = (self.values.shape(&left.value), self.values.shape(&right.value));
        let ordered = |shape| matches!(shape, Shape::Number | Shape::String | Shape::Any);
        ordered(shape)
            && ordered(other)
            && (shape == other || shape == Shape::Any || other == Shape::Any)
    }

    fn is_in(&mut self, item: &Operand, list: &Operand) -> Verdict {
        let Some(elements) = self.elements_of(&list.value) else {
            if !matches!(self.values.shape(&list.value), Shape::List | Shape::Any) {
                return certain(false);
            }
            let name = format!("{} in {}", canonical(&item.value), canonical(&list.value));
            if let Some(holds) = self.memberships.get(&name) {
                return certain(*holds);
            }
            let holds = self.choices.choose(2) == 0;
            self.memberships.insert(name, holds);
            return chosen(holds);
        };
        let mut is_chosen = false;
        for element in &elements {
            let found = self.equal(item, &self.operand_of(element));
            is_chosen |= found.is_chosen;
            if found.holds {
                let which = (elements.len() > 1).then(|| element.clone());
                return Verdict { which, is_chosen, ..found };
            }
        }
        Verdict { is_chosen, ..certain(false) }
    }

    /// The elements of a list, if they are decided.
    fn elements_of(&self, list: &Value) -> Option<Vec<Value>> {
        match list {
            Value::Array(items) => Some(items.clone()),
            other => self.expanded(other),
        }
    }

    fn decide(&mut self, left: &Operand, right: &Operand, yes: Possible, no: Possible) -> Verdict {
        let a = self.order.number(&left.value, left.is_known);
        let b = self.order.number(&right.value, right.is_known);
        let possible = self.order.between(a, b);
        if possible.and(yes).is_none() {
            return certain(false);
        }
        if possible.and(no).is_none() {
            return certain(true);
        }
        let holds = self.choices.choose(2) == 0;
        self.order.narrow(a, b, if holds { yes } else { no });
        chosen(holds)
    }
}
