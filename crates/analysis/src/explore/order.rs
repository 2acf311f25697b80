//! Decisions of a run about its values: which are equal, and which are less. A decision that
//! earlier ones imply is not a choice.
//!
//! The possible relations of two values are a set of *less*, *equal* and *greater*. A decision
//! reduces a set, and the consequences for other pairs are derived (the point algebra of temporal
//! reasoning).

use std::cmp::Ordering;
use std::collections::HashMap;

use concert_wire::value::{canonical, equal};
use serde_json::Value;

/// Possible relations of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Possible(u8);

impl Possible {
    pub(super) const LESS: Self = Self(1);
    pub(super) const EQUAL: Self = Self(2);
    pub(super) const GREATER: Self = Self(4);
    /// Not equal, ordered or not.
    pub(super) const DIFFERENT: Self = Self(5);
    pub(super) const ALL: Self = Self(7);

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn flipped(self) -> Self {
        Self((self.0 & 2) | ((self.0 & 1) << 2) | ((self.0 & 4) >> 2))
    }

    /// Possible relations of *a* and *c*, if this is between *a* and *b*, and `next` between *b*
    /// and *c*.
    fn then(self, next: Self) -> Self {
        let mut all = 0;
        for (first, second, both) in [
            (1, 1, 1),
            (1, 2, 1),
            (1, 4, 7),
            (2, 1, 1),
            (2, 2, 2),
            (2, 4, 4),
            (4, 1, 7),
            (4, 2, 4),
            (4, 4, 4),
        ] {
            if self.0 & first != 0 && next.0 & second != 0 {
                all |= both;
            }
        }
        Self(all)
    }

    /// The relation of two known values.
    fn between(a: &Value, b: &Value) -> Self {
        let order = match (a, b) {
            _ if equal(a, b) => Some(Ordering::Equal),
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match order {
            Some(Ordering::Less) => Self::LESS,
            Some(Ordering::Equal) => Self::EQUAL,
            Some(Ordering::Greater) => Self::GREATER,
            None => Self::DIFFERENT,
        }
    }
}

/// Relations of all values of a run.
#[derive(Debug, Default)]
pub(super) struct Order {
    numbers: HashMap<String, usize>,
    /// The known values; `None` for symbolic ones.
    known: Vec<Option<Value>>,
    possible: HashMap<(usize, usize), Possible>,
}

impl Order {
    /// The number of a value; `is_known` means that it is not symbolic.
    pub(super) fn number(&mut self, value: &Value, is_known: bool) -> usize {
        let name = canonical(value);
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.known.len();
        self.numbers.insert(name, number);
        self.known.push(is_known.then(|| value.clone()));
        if is_known {
            let known = self.known.iter().enumerate().filter(|(other, _)| *other != number);
            let between: Vec<(usize, Possible)> = known
                .filter_map(|(other, known)| {
                    Some((other, Possible::between(value, known.as_ref()?)))
                })
                .collect();
            for (other, possible) in between {
                self.narrow(number, other, possible);
            }
        }
        number
    }

    /// Possible relations of two values.
    pub(super) fn between(&self, a: usize, b: usize) -> Possible {
        if a == b {
            return Possible::EQUAL;
        }
        self.possible.get(&(a, b)).copied().unwrap_or(Possible::ALL)
    }

    /// Restricts the possible relations of two values, and derives the consequences.
    pub(super) fn narrow(&mut self, a: usize, b: usize, to: Possible) {
        let mut open = vec![(a, b, to)];
        while let Some((a, b, to)) = open.pop() {
            let before = self.between(a, b);
            let now = before.and(to);
            if now == before || now.is_none() {
                continue;
            }
            self.possible.insert((a, b), now);
            self.possible.insert((b, a), now.flipped());
            for c in (0..self.known.len()).filter(|c| *c != a && *c != b) {
                open.push((a, c, now.then(self.between(b, c))));
                open.push((c, b, self.between(c, a).then(now)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn consequences_are_decided() {
        let mut order = Order::default();
        let x = order.number(&json!("⟨x⟩"), false);
        let five = order.number(&json!(5), true);
        order.narrow(x, five, Possible::LESS);
        let ten = order.number(&json!(10), true);
        assert_eq!(order.between(x, ten), Possible::LESS);
        let y = order.number(&json!("⟨y⟩"), false);
        order.narrow(y, x, Possible::EQUAL);
        assert_eq!(order.between(y, ten), Possible::LESS);
        assert_eq!(order.between(ten, y), Possible::GREATER);
        let z = order.number(&json!("⟨z⟩"), false);
        order.narrow(z, ten, Possible::DIFFERENT);
        assert_eq!(order.between(z, five), Possible::ALL);
    }

    #[test]
    fn value_equal_to_a_known_one_differs_from_others() {
        let mut order = Order::default();
        let x = order.number(&json!("⟨x⟩"), false);
        let a = order.number(&json!("a"), true);
        let b = order.number(&json!("b"), true);
        order.narrow(x, a, Possible::EQUAL);
        assert!(order.between(x, b).and(Possible::EQUAL).is_none());
    }
}
