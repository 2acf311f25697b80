//! The world around the engine, which chooses outcomes of actions and rows of queries.

mod actions;
mod queries;

use std::collections::HashMap;

use concert_wire::envelope::Object;
use concert_wire::nested;
use concert_wire::routes::ValueType;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use super::choices::Choices;
use super::judge::Operand;
use super::moments::{KeyValue, Moment};
use super::order::{Order, Possible};
use super::scope::{Place, Scope, Side, name};
use super::values::Values;

/// Rows of a query, and the number of effects of its concept at that time.
struct Answer {
    effects: usize,
    rows: Vec<Object>,
}

/// A completed action.
struct Done {
    action: String,
    input: Object,
    output: Object,
}

impl Done {
    fn at(&self, place: &Place) -> Option<&Value> {
        match place.side {
            Side::Input => nested::get(&self.input, &place.key),
            Side::Output => self.output.get(&place.key),
        }
    }
}

/// The world of one run.
pub(super) struct World<'a> {
    scope: &'a Scope<'a>,
    /// `true` if other flows may change the results of queries.
    among_others: bool,
    pub(super) choices: &'a mut Choices,
    pub(super) order: Order,
    pub(super) values: Values,
    pub(super) memberships: HashMap<String, bool>,
    answers: HashMap<String, Answer>,
    elements: HashMap<String, Vec<Value>>,
    effects: HashMap<String, usize>,
    done: Vec<Done>,
    pub(super) moments: Vec<Moment>,
    /// Events where another option than the first one was chosen.
    pub(super) deviations: Vec<Moment>,
}

impl<'a> World<'a> {
    pub(super) fn new(scope: &'a Scope<'a>, choices: &'a mut Choices, among_others: bool) -> Self {
        Self {
            scope,
            among_others,
            choices,
            order: Order::default(),
            values: Values::default(),
            memberships: HashMap::new(),
            answers: HashMap::new(),
            elements: HashMap::new(),
            effects: HashMap::new(),
            done: Vec::new(),
            moments: Vec::new(),
            deviations: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, moment: Moment, deviates: bool) {
        if deviates {
            self.deviations.push(moment.clone());
        }
        self.moments.push(moment);
    }

    /// Chooses the input of a request to the path.
    pub(super) fn request(&mut self, output: Object) -> Object {
        let scope = self.scope;
        let mut input = Object::from_iter([("path".to_owned(), Value::from(scope.path.as_str()))]);
        for key in &scope.keys {
            // If rules match every value of an enumeration, there is no other value.
            let has_others = !is_covered(&key.kind, &key.literals);
            let options =
                key.literals.len() + usize::from(has_others) + usize::from(key.can_be_absent);
            let taken = self.choices.choose(options);
            let (shown, value) = match key.literals.get(taken) {
                Some(literal) => (KeyValue::This(literal.clone()), Some(literal.clone())),
                None if has_others && taken == key.literals.len() => {
                    let shown =
                        if key.literals.is_empty() { KeyValue::Something } else { KeyValue::Other };
                    let value = match key.kind {
                        ValueType::Boolean => self.boolean(&key.literals, key.decides),
                        _ => self.values.fresh(
                            &format!("{} of the request", key.name),
                            &key.kind,
                            scope,
                        ),
                    };
                    self.is_none_of(&value, &key.literals);
                    (shown, Some(value))
                }
                None => (KeyValue::Absent, None),
            };
            let shown = match &value {
                Some(value @ Value::Bool(_)) => KeyValue::This(value.clone()),
                _ => shown,
            };
            let name = key.name.clone();
            let deviates = taken > 0 || value == Some(Value::Bool(false));
            self.note(Moment::Key { name, value: shown }, deviates);
            if let Some(value) = value {
                nested::insert(&mut input, &key.name, value);
            }
        }
        self.done(&name(REQUESTING, REQUEST), input.clone(), output);
        input
    }

    /// Decides that a value differs from all of these.
    fn is_none_of(&mut self, value: &Value, others: &[Value]) {
        if self.values.is_known(value) {
            return;
        }
        for other in others {
            let is_known = self.values.is_known(other);
            let (a, b) = (self.order.number(value, false), self.order.number(other, is_known));
            self.order.narrow(a, b, Possible::DIFFERENT);
        }
    }

    /// Makes an operand of a value.
    pub(super) fn operand_of(&self, value: &Value) -> Operand {
        Operand { value: value.clone(), is_known: self.values.is_known(value) }
    }

    fn boolean(&mut self, known: &[Value], decides: bool) -> Value {
        let options: Vec<bool> = [true, false]
            .into_iter()
            .filter(|option| !known.contains(&Value::Bool(*option)))
            .collect();
        let taken = if decides { self.choices.choose(options.len()) } else { 0 };
        Value::Bool(options.get(taken).copied().unwrap_or(true))
    }

    fn done(&mut self, action: &str, input: Object, output: Object) {
        self.done.push(Done { action: action.to_owned(), input, output });
    }
}

/// Returns whether these literals are all values of a type.
pub(super) fn is_covered(kind: &ValueType, literals: &[Value]) -> bool {
    match kind {
        ValueType::Enum(values) => {
            values.iter().all(|value| literals.iter().any(|literal| literal == value.as_str()))
        }
        _ => false,
    }
}
