//! The world around the engine: it chooses how actions end and what queries answer.

use std::collections::HashMap;

use concert_wire::RESERVED_CONCEPT;
use concert_wire::envelope::{ERROR, Object};
use concert_wire::routes::ValueType;
use concert_wire::value::canonical;
use concert_wire::{REQUEST, REQUESTING, RESPOND};
use serde_json::Value;

use super::choices::Choices;
use super::judge::Operand;
use super::moments::{Moment, Told};
use super::order::{Order, Possible};
use super::questions::{ELEMENTS, JOINED, JUDGE, QUIET, VALUE};
use super::scope::{Place, Scope, Side, name};
use super::values::Values;
use crate::engine::Question;
use crate::spec::{Param, Rows};

/// What a query answered, and how many effects its concept had had by then.
struct Answer {
    effects: usize,
    rows: Vec<Object>,
}

/// An action that has ended.
struct Done {
    action: String,
    input: Object,
    output: Object,
}

impl Done {
    fn at(&self, place: &Place) -> Option<&Value> {
        match place.side {
            Side::Input => self.input.get(&place.key),
            Side::Output => self.output.get(&place.key),
        }
    }
}

/// See the module's text. It is made anew for each run.
pub(super) struct World<'a> {
    scope: &'a Scope<'a>,
    pub(super) choices: &'a mut Choices,
    pub(super) order: Order,
    pub(super) values: Values,
    pub(super) memberships: HashMap<String, bool>,
    answers: HashMap<String, Answer>,
    elements: HashMap<String, Vec<Value>>,
    effects: HashMap<String, usize>,
    done: Vec<Done>,
    pub(super) moments: Vec<Moment>,
    /// The moments at which something else was chosen than the first option.
    pub(super) deviations: Vec<Moment>,
}

impl<'a> World<'a> {
    pub(super) fn new(scope: &'a Scope<'a>, choices: &'a mut Choices) -> Self {
        Self {
            scope,
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

    /// The input of a request for the path.
    pub(super) fn request(&mut self, output: Object) -> Object {
        let scope = self.scope;
        let mut input = Object::from_iter([("path".to_owned(), Value::from(scope.path.as_str()))]);
        for key in &scope.keys {
            let options = key.literals.len() + 1 + usize::from(key.can_be_absent);
            let taken = self.choices.choose(options);
            let (told, value) = match key.literals.get(taken) {
                Some(literal) => (Told::This(literal.clone()), Some(literal.clone())),
                None if taken == key.literals.len() => {
                    let told = if key.literals.is_empty() {
                        Told::Something
                    } else {
                        Told::Other
                    };
                    let value = match key.kind {
                        ValueType::Boolean => self.boolean(&key.literals, key.decides),
                        _ => self
                            .values
                            .fresh(&format!("{} of the request", key.name), &key.kind, scope),
                    };
                    self.is_none_of(&value, &key.literals);
                    (told, Some(value))
                }
                None => (Told::Absent, None),
            };
            let told = match &value {
                Some(value @ Value::Bool(_)) => Told::This(value.clone()),
                _ => told,
            };
            let name = key.name.clone();
            let deviates = taken > 0 || value == Some(Value::Bool(false));
            self.note(Moment::Key { name, told }, deviates);
            input.extend(value.map(|value| (key.name.clone(), value)));
        }
        self.done(&name(REQUESTING, REQUEST), input.clone(), output);
        input
    }

    /// Decides that a value is another than these.
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

    fn boolean(&mut self, known: &[Value], decides: bool) -> Value {
        let options: Vec<bool> = [true, false]
            .into_iter()
            .filter(|option| !known.contains(&Value::Bool(*option)))
            .collect();
        let taken = if decides { self.choices.choose(options.len()) } else { 0 };
        Value::Bool(options.get(taken).copied().unwrap_or(true))
    }

    fn done(&mut self, action: &str, input: Object, output: Object) {
        self.done.push(Done {
            action: action.to_owned(),
            input,
            output,
        });
    }

    /// How an action ends: every way that its spec declares. An answer to the flow's request succeeds, any other does not.
    pub(super) fn complete(&mut self, concept: &str, action: &str, input: &mut Object, request: &Value) -> Object {
        let full = name(concept, action);
        self.distinguish(&full, input);
        let (succeeds, fails) = self
            .scope
            .action(&full)
            .map_or((true, false), |spec| (spec.success.is_some(), spec.can_fail));
        let fails_now = if concept == REQUESTING && action == RESPOND {
            input.get("request") != Some(request)
        } else if succeeds && fails {
            self.choices.choose(2) == 1
        } else {
            fails
        };
        let at = self.moments.len();
        self.moments.push(Moment::Ends {
            action: full.clone(),
            failed: fails_now,
            told: None,
        });
        let (output, told) = if fails_now {
            let (value, told) = self.output(&full, ERROR, &ValueType::String, input);
            (Object::from_iter([(ERROR.to_owned(), value)]), told)
        } else {
            *self.effects.entry(concept.to_owned()).or_default() +=
                usize::from(self.scope.action(&full).is_none_or(|spec| spec.has_effects));
            self.success(&full, input)
        };
        let moment = Moment::Ends {
            action: full.clone(),
            failed: fails_now,
            told: told.as_ref().map(|(told, _)| told.clone()),
        };
        if let Some(place) = self.moments.get_mut(at) {
            *place = moment.clone();
        }
        if (fails_now && succeeds && fails && action != RESPOND) || told.is_some_and(|(_, deviates)| deviates) {
            self.deviations.push(moment);
        }
        self.done(&full, input.clone(), output.clone());
        output
    }

    /// Decides which of the values that rules distinguish an input has, where it stands for many.
    fn distinguish(&mut self, action: &str, input: &mut Object) {
        let scope = self.scope;
        for (key, value) in input.iter_mut() {
            let Some(demand) = scope.demand(action, Side::Input, key) else {
                continue;
            };
            let mut wanted = demand.literals.clone();
            for place in &demand.joins {
                let others = self.done.iter().filter(|done| done.action == place.action);
                let others = others.filter_map(|done| done.at(place)).cloned();
                wanted.extend(others.filter(|other| other != value).collect::<Vec<_>>());
            }
            for wanted in wanted {
                let operand = |values: &Values, value: &Value| Operand {
                    value: value.clone(),
                    is_known: values.is_known(value),
                };
                let (found, is_literal) = (operand(&self.values, value), self.values.is_known(&wanted));
                let verdict = self.equal(&found, &operand(&self.values, &wanted));
                if verdict.is_chosen {
                    let moment = Moment::Has {
                        action: action.to_owned(),
                        key: key.clone(),
                        value: is_literal.then(|| wanted.clone()),
                        has: verdict.holds,
                    };
                    self.note(moment, !verdict.holds);
                }
                if verdict.holds {
                    *value = wanted;
                    break;
                }
            }
        }
    }

    fn success(&mut self, action: &str, input: &Object) -> (Object, Option<(String, bool)>) {
        let scope = self.scope;
        let Some(params) = scope.action(action).and_then(|spec| spec.success.as_ref()) else {
            return (Object::new(), None);
        };
        let mut output = Object::new();
        let mut all = None;
        let mut demanded: Vec<&str> = scope.demanded(action).filter(|key| *key != ERROR).collect();
        demanded.sort_unstable();
        let open = demanded.iter().filter(|key| params.open && params.get(key).is_none());
        let open: Vec<Param> = open
            .map(|key| Param {
                name: (*key).into(),
                optional: true,
                kind: ValueType::Any,
            })
            .collect();
        for param in params.params.iter().chain(&open) {
            let is_demanded = demanded.contains(&&*param.name);
            if param.optional && is_demanded && self.choices.choose(2) == 1 {
                all = Some((format!("without `{}`", param.name), true));
                continue;
            }
            let (value, told) = if is_demanded {
                self.output(action, &param.name, &param.kind, input)
            } else {
                (Value::Bool(true), None)
            };
            all = told.or(all);
            output.insert(param.name.to_string(), value);
        }
        (output, all)
    }

    /// The value of a key that some rule reads: one of those that rules distinguish, or another. With it what is told of it, and whether it deviates.
    fn output(&mut self, action: &str, key: &str, kind: &ValueType, input: &Object) -> (Value, Option<(String, bool)>) {
        let scope = self.scope;
        let demand = scope.demand(action, Side::Output, key);
        let mut options: Vec<Value> = demand.map(|demand| demand.literals.clone()).unwrap_or_default();
        for place in demand.into_iter().flat_map(|demand| &demand.joins) {
            let earlier = self.done.iter().filter(|done| done.action == place.action);
            let own = (place.action == action && place.side == Side::Input).then(|| input.get(&place.key));
            for value in earlier.filter_map(|done| done.at(place)).chain(own.flatten()) {
                if !options.contains(value) {
                    options.push(value.clone());
                }
            }
        }
        if *kind == ValueType::Boolean {
            options = vec![Value::Bool(true), Value::Bool(false)];
        }
        let others = usize::from(*kind != ValueType::Boolean);
        let taken = self.choices.choose(options.len() + others);
        let told = (options.len() + others > 1).then(|| match options.get(taken) {
            Some(value) if self.values.is_known(value) => format!("`{key}` {value}"),
            Some(_) => format!("the same `{key}` as before"),
            None => format!("another `{key}`"),
        });
        let value = match options.get(taken) {
            Some(value) => value.clone(),
            None => {
                let fresh = self.values.fresh(&format!("{key} of {action}"), kind, scope);
                self.is_none_of(&fresh, &options);
                fresh
            }
        };
        (value, told.map(|told| (told, taken > 0)))
    }

    /// The rows that answer a question.
    pub(super) fn answer(&mut self, question: &Question) -> Vec<Object> {
        let is_quiet = question.input.contains_key(QUIET);
        if &*question.concept != RESERVED_CONCEPT {
            return self.rows(question, is_quiet);
        }
        let row = |value: Value| Object::from_iter([("is".to_owned(), value)]);
        match &*question.query {
            JUDGE => vec![row(Value::Bool(is_quiet || self.comparison(&question.input)))],
            ELEMENTS => self.list(&question.input, is_quiet).into_iter().map(row).collect(),
            VALUE => vec![row(self.computed(&question.input, "value", "of"))],
            _ => Vec::new(),
        }
    }

    fn comparison(&mut self, input: &Object) -> bool {
        let left = self.operand(input, "left", "of_left");
        let right = self.operand(input, "right", "of_right");
        let verdict = self.judge(text(input, "op"), &left, &right);
        if verdict.is_chosen {
            let moment = Moment::Holds {
                rule: count(input, "rule"),
                step: count(input, "step"),
                text: text(input, "text").to_owned(),
                holds: verdict.holds,
            };
            self.note(moment, !verdict.holds);
        }
        verdict.holds
    }

    fn operand(&mut self, input: &Object, key: &str, of: &str) -> Operand {
        let value = self.computed(input, key, of);
        let is_known = input.get(of).is_none_or(|of| self.values.is_known(of));
        Operand { value, is_known }
    }

    /// A value that an expression made: of values that stand for many, it does so itself.
    fn computed(&mut self, input: &Object, key: &str, of: &str) -> Value {
        let value = input.get(key).cloned().unwrap_or(Value::Null);
        let of = input.get(of).cloned().unwrap_or(Value::Null);
        if self.values.is_known(&of) || !self.values.is_known(&value) {
            return value;
        }
        match &value {
            Value::Number(_) => {
                self.values.stands_for(&value, ValueType::Number);
                value
            }
            // Arithmetic on what may be anything.
            Value::Null => {
                let value = Value::String(format!("⟨of {}⟩", canonical(&of)));
                self.values.stands_for(&value, ValueType::Any);
                value
            }
            _ => value,
        }
    }

    /// The elements of a list that were chosen before.
    pub(super) fn expanded(&self, list: &Value) -> Option<Vec<Value>> {
        self.elements.get(&canonical(list)).cloned()
    }

    fn list(&mut self, input: &Object, is_quiet: bool) -> Vec<Value> {
        let list = input.get("list").unwrap_or(&Value::Null);
        if let Value::Array(items) = list {
            return items.clone();
        }
        if let Some(known) = self.expanded(list) {
            return known;
        }
        let Some(kind) = self.values.elements(list) else {
            return Vec::new();
        };
        let shown = text(input, "text");
        let counts = self.counts(list);
        let taken = if is_quiet { 0 } else { self.choices.choose(counts.len()) };
        let count_of = counts.get(taken).copied().unwrap_or(1);
        let element = format!("element of {shown}");
        let elements: Vec<Value> = (0..count_of)
            .map(|_| self.values.fresh(&element, &kind, self.scope))
            .collect();
        if !is_quiet {
            self.elements.insert(canonical(list), elements.clone());
            let moment = Moment::Lists {
                rule: count(input, "rule"),
                step: count(input, "step"),
                text: shown.to_owned(),
                count: count_of,
            };
            self.note(moment, taken > 0);
        }
        elements
    }

    /// How many elements a list may have, by what was decided of it.
    fn counts(&mut self, list: &Value) -> &'static [usize] {
        let (list, empty) = (
            self.order.number(list, false),
            self.order.number(&Value::Array(vec![]), true),
        );
        let possible = self.order.between(list, empty);
        if possible.and(Possible::EQUAL).is_none() {
            &[1, 2]
        } else if possible.and(Possible::DIFFERENT).is_none() {
            &[0]
        } else {
            &[1, 0, 2]
        }
    }

    fn rows(&mut self, question: &Question, is_quiet: bool) -> Vec<Object> {
        let query = name(&question.concept, &question.query);
        let mut input = question.input.clone();
        input.shift_remove(QUIET);
        let joined = input.shift_remove(JOINED);
        let key = format!("{query} {}", canonical(&Value::Object(input)));
        let effects = self.effects.get(&*question.concept).copied().unwrap_or(0);
        let mut rows = match self.answers.get(&key) {
            Some(answer) if answer.effects == effects || is_quiet => answer.rows.clone(),
            before => {
                let before = before.map(|answer| answer.rows.clone()).unwrap_or_default();
                let rows = self.fresh_rows(&query, before, is_quiet);
                if !is_quiet {
                    let rows = rows.clone();
                    self.answers.insert(key, Answer { effects, rows });
                }
                rows
            }
        };
        for (key, wanted) in joined.iter().filter_map(Value::as_object).flatten() {
            for row in &mut rows {
                self.join(&query, row, key, wanted, is_quiet);
            }
        }
        rows
    }

    /// Rows as the spec has them. What was there before an effect may be there still.
    fn fresh_rows(&mut self, query: &str, before: Vec<Object>, is_quiet: bool) -> Vec<Object> {
        let scope = self.scope;
        let Some(spec) = scope.query(query) else {
            return Vec::new();
        };
        let options = match spec.rows {
            Rows::One => 1,
            Rows::AtMostOne => 2,
            Rows::Any => 3,
        };
        let taken = if is_quiet { 0 } else { self.choices.choose(options) };
        let rows = amount(taken);
        if options > 1 && !is_quiet {
            let query = query.to_owned();
            self.note(Moment::Finds { query, rows }, taken > 0);
        }
        let mut demanded: Vec<&str> = scope.demanded(query).collect();
        demanded.sort_unstable();
        let mut found: Vec<Object> = before.into_iter().take(rows).collect();
        while found.len() < rows {
            let mut row = Object::new();
            for param in &spec.output.params {
                let is_demanded = demanded.contains(&&*param.name);
                if param.optional && is_demanded && !is_quiet && self.choices.choose(2) == 1 {
                    continue;
                }
                let value = match param.kind {
                    ValueType::Boolean if is_demanded && !is_quiet => {
                        let value = self.choices.choose(2) == 0;
                        let moment = Moment::Says {
                            query: query.to_owned(),
                            key: param.name.to_string(),
                            value,
                        };
                        self.note(moment, !value);
                        Value::Bool(value)
                    }
                    ValueType::Boolean => Value::Bool(true),
                    _ => self
                        .values
                        .fresh(&format!("{} of {query}", param.name), &param.kind, scope),
                };
                row.insert(param.name.to_string(), value);
            }
            for key in demanded
                .iter()
                .filter(|key| spec.output.open && spec.output.get(key).is_none())
            {
                let value = self.values.fresh(&format!("{key} of {query}"), &ValueType::Any, scope);
                row.insert((*key).to_owned(), value);
            }
            found.push(row);
        }
        found
    }

    /// Decides whether the key of a row is what a rule compares it with; then the row has that very value.
    fn join(&mut self, query: &str, row: &mut Object, key: &str, wanted: &Value, is_quiet: bool) {
        let Some(value) = row.get_mut(key) else { return };
        if is_quiet {
            *value = wanted.clone();
            return;
        }
        let operand = |values: &Values, value: &Value| Operand {
            value: value.clone(),
            is_known: values.is_known(value),
        };
        let (found, wanted) = (operand(&self.values, value), operand(&self.values, wanted));
        let verdict = self.equal(&found, &wanted);
        if verdict.holds {
            *value = wanted.value;
        }
        if verdict.is_chosen {
            let moment = Moment::Fits {
                query: query.to_owned(),
                key: key.to_owned(),
                fits: verdict.holds,
            };
            self.note(moment, !verdict.holds);
        }
    }
}

/// One first, then none, then two.
const fn amount(taken: usize) -> usize {
    match taken {
        0 => 1,
        1 => 0,
        _ => 2,
    }
}

fn text<'a>(input: &'a Object, key: &str) -> &'a str {
    input.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn count(input: &Object, key: &str) -> usize {
    let number = input.get(key).and_then(Value::as_u64).unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}
