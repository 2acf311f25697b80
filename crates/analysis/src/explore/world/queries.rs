//! Results of queries, and answers to the questions that exploration adds.

use concert_wire::RESERVED_CONCEPT;
use concert_wire::envelope::Object;
use concert_wire::routes::ValueType;
use concert_wire::value::canonical;
use serde_json::Value;

use super::super::judge::Operand;
use super::super::moments::Moment;
use super::super::order::Possible;
use super::super::questions::{
    Asked, ELEMENTS, Given, JOINED, JUDGE, LEFT, NUMBER, QUIET, RIGHT, VALUE,
};
use super::super::scope::name;
use super::{Answer, World};
use concert_engine::Question;
use concert_lang::spec::Rows;

impl World<'_> {
    /// Returns the rows of a query.
    pub(in crate::explore) fn answer(&mut self, question: &Question) -> Vec<Object> {
        if &*question.concept != RESERVED_CONCEPT {
            return self.rows(question);
        }
        let scope = self.scope;
        let number = question.input.get(NUMBER).and_then(Value::as_u64);
        let asked = number.and_then(|number| scope.asked.get(usize::try_from(number).ok()?));
        let Some(asked) = asked else { return Vec::new() };
        let left = self.operand(&asked.left, &question.input, LEFT);
        let row = |value: Value| Object::from_iter([("is".to_owned(), value)]);
        match &*question.query {
            JUDGE => {
                let right = self.operand(&asked.right, &question.input, RIGHT);
                vec![row(Value::Bool(asked.is_quiet || self.comparison(asked, &left, &right)))]
            }
            ELEMENTS => self.list(asked, &left.value).into_iter().map(row).collect(),
            VALUE => vec![row(left.value)],
            _ => Vec::new(),
        }
    }

    fn comparison(&mut self, asked: &Asked, left: &Operand, right: &Operand) -> bool {
        let verdict = self.judge(asked.operator, left, right);
        if verdict.is_chosen {
            let moment = Moment::Holds {
                rule: asked.rule,
                step: asked.step,
                text: asked.text.clone(),
                holds: verdict.holds,
                which: verdict.which,
            };
            self.note(moment, !verdict.holds);
        }
        verdict.holds
    }

    fn operand(&mut self, given: &Given, input: &Object, (value, of): (&str, &str)) -> Operand {
        let at = |key: &str| input.get(key).cloned().unwrap_or(Value::Null);
        match given {
            Given::Literal(value) => Operand { value: value.clone(), is_known: true },
            Given::Variable => self.operand_of(&at(value)),
            Given::Made => {
                let of = at(of);
                Operand { value: self.made(at(value), &of), is_known: self.values.is_known(&of) }
            }
        }
    }

    /// Marks a value that an expression computed from symbolic values as symbolic, too.
    fn made(&mut self, value: Value, of: &Value) -> Value {
        if self.values.is_known(of) || !self.values.is_known(&value) {
            return value;
        }
        match &value {
            Value::Number(_) => {
                self.values.mark_symbolic(&value, ValueType::Number);
                value
            }
            // Arithmetic on a value of unknown type.
            Value::Null => {
                let value = Value::String(format!("⟨of {}⟩", canonical(of)));
                self.values.mark_symbolic(&value, ValueType::Any);
                value
            }
            _ => value,
        }
    }

    /// The elements of a list, if they were chosen before.
    pub(in crate::explore) fn expanded(&self, list: &Value) -> Option<Vec<Value>> {
        self.elements.get(&canonical(list)).cloned()
    }

    fn list(&mut self, asked: &Asked, list: &Value) -> Vec<Value> {
        if let Value::Array(items) = list {
            return items.clone();
        }
        if let Some(known) = self.expanded(list) {
            return known;
        }
        let Some(kind) = self.values.elements(list) else {
            return Vec::new();
        };
        let counts = self.counts(list);
        let taken = if asked.is_quiet { 0 } else { self.choices.choose(counts.len()) };
        let count_of = counts.get(taken).copied().unwrap_or(1);
        let element = format!("element of {}", asked.text);
        let elements: Vec<Value> =
            (0..count_of).map(|_| self.values.fresh(&element, &kind, self.scope)).collect();
        if !asked.is_quiet {
            self.elements.insert(canonical(list), elements.clone());
            let moment = Moment::Lists {
                rule: asked.rule,
                step: asked.step,
                text: asked.text.clone(),
                count: count_of,
            };
            self.note(moment, taken > 0);
        }
        elements
    }

    /// Possible numbers of elements of a list, according to earlier decisions.
    fn counts(&mut self, list: &Value) -> &'static [usize] {
        let (list, empty) =
            (self.order.number(list, false), self.order.number(&Value::Array(vec![]), true));
        let possible = self.order.between(list, empty);
        if possible.and(Possible::EQUAL).is_none() {
            &[1, 2]
        } else if possible.and(Possible::DIFFERENT).is_none() {
            &[0]
        } else {
            &[1, 0, 2]
        }
    }

    fn rows(&mut self, question: &Question) -> Vec<Object> {
        let is_quiet = question.input.contains_key(QUIET);
        let query = name(&question.concept, &question.query);
        let mut input = question.input.clone();
        input.shift_remove(QUIET);
        let joined = input.shift_remove(JOINED);
        let key = format!("{query} {}", canonical(&Value::Object(input)));
        let effects = if self.among_others {
            self.done.len()
        } else {
            self.effects.get(&*question.concept).copied().unwrap_or(0)
        };
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

    /// Chooses rows according to the spec. Rows from before an effect may remain.
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
                    _ => {
                        self.values.fresh(&format!("{} of {query}", param.name), &param.kind, scope)
                    }
                };
                row.insert(param.name.to_string(), value);
            }
            for key in
                demanded.iter().filter(|key| spec.output.open && spec.output.get(key).is_none())
            {
                let value = self.values.fresh(&format!("{key} of {query}"), &ValueType::Any, scope);
                row.insert((*key).to_owned(), value);
            }
            found.push(row);
        }
        found
    }

    /// Decides whether the key of a row equals the value that a rule compares it with. If so, the
    /// row gets this value.
    fn join(&mut self, query: &str, row: &mut Object, key: &str, wanted: &Value, is_quiet: bool) {
        let Some(value) = row.get_mut(key) else { return };
        if is_quiet {
            *value = wanted.clone();
            return;
        }
        let (found, wanted) = (self.operand_of(value), self.operand_of(wanted));
        let verdict = self.equal(&found, &wanted);
        if verdict.holds {
            *value = wanted.value;
        }
        if verdict.is_chosen {
            let moment =
                Moment::Fits { query: query.to_owned(), key: key.to_owned(), fits: verdict.holds };
            self.note(moment, !verdict.holds);
        }
    }
}

/// Number of rows for a choice: one first, then none, then two.
const fn amount(taken: usize) -> usize {
    match taken {
        0 => 1,
        1 => 0,
        _ => 2,
    }
}
