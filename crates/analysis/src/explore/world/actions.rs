//! Outcomes of actions.

use concert_wire::envelope::{ERROR, Object};
use concert_wire::is_response;
use concert_wire::routes::ValueType;
use serde_json::Value;

use super::super::moments::Moment;
use super::super::scope::{Side, name};
use super::World;
use concert_lang::spec::Param;

impl World<'_> {
    /// Chooses the outcome of an action among those that its spec declares. A response
    /// succeeds only for the request of the flow.
    pub(in crate::explore) fn complete(
        &mut self,
        concept: &str,
        action: &str,
        input: &mut Object,
        request: &Value,
    ) -> Object {
        let full = name(concept, action);
        self.distinguish(&full, input);
        let (succeeds, fails) = self
            .scope
            .action(&full)
            .map_or((true, false), |spec| (spec.success.is_some(), spec.can_fail));
        let fails_now = if is_response(concept, action) {
            input.get("request") != Some(request)
        } else if succeeds && fails {
            self.choices.choose(2) == 1
        } else {
            fails
        };
        let at = self.moments.len();
        self.moments.push(Moment::Ends { action: full.clone(), failed: fails_now, detail: None });
        let (output, detail) = if fails_now {
            let (value, detail) = self.output(&full, ERROR, &ValueType::String, input);
            (Object::from_iter([(ERROR.to_owned(), value)]), detail)
        } else {
            *self.effects.entry(concept.to_owned()).or_default() +=
                usize::from(self.scope.action(&full).is_none_or(|spec| spec.has_effects));
            self.success(&full, input)
        };
        let moment = Moment::Ends {
            action: full.clone(),
            failed: fails_now,
            detail: detail.as_ref().map(|(detail, _)| detail.clone()),
        };
        if let Some(place) = self.moments.get_mut(at) {
            *place = moment.clone();
        }
        if (fails_now && succeeds && fails && !is_response(concept, action))
            || detail.is_some_and(|(_, deviates)| deviates)
        {
            self.deviations.push(moment);
        }
        self.done(&full, input.clone(), output.clone());
        output
    }

    /// Decides which of the values that rules distinguish a symbolic input has.
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
                let (found, other) = (self.operand_of(value), self.operand_of(&wanted));
                let verdict = self.equal(&found, &other);
                if verdict.is_chosen {
                    let moment = Moment::Has {
                        action: action.to_owned(),
                        key: key.clone(),
                        value: other.is_known.then(|| wanted.clone()),
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
            .map(|key| Param { name: (*key).into(), optional: true, kind: ValueType::Any })
            .collect();
        for param in params.params.iter().chain(&open) {
            let is_demanded = demanded.contains(&&*param.name);
            if param.optional && is_demanded && self.choices.choose(2) == 1 {
                all = Some((format!("without `{}`", param.name), true));
                continue;
            }
            let (value, detail) = if is_demanded {
                self.output(action, &param.name, &param.kind, input)
            } else {
                (Value::Bool(true), None)
            };
            all = detail.or(all);
            output.insert(param.name.to_string(), value);
        }
        (output, all)
    }

    /// Chooses the value of a key that some rule reads: one of those that rules distinguish, or
    /// another one. Also returns its description and whether it is a deviation.
    fn output(
        &mut self,
        action: &str,
        key: &str,
        kind: &ValueType,
        input: &Object,
    ) -> (Value, Option<(String, bool)>) {
        let scope = self.scope;
        let demand = scope.demand(action, Side::Output, key);
        let mut options: Vec<Value> =
            demand.map(|demand| demand.literals.clone()).unwrap_or_default();
        for place in demand.into_iter().flat_map(|demand| &demand.joins) {
            let earlier = self.done.iter().filter(|done| done.action == place.action);
            let own = (place.action == action && place.side == Side::Input)
                .then(|| input.get(&place.key));
            for value in earlier.filter_map(|done| done.at(place)).chain(own.flatten()) {
                if !options.contains(value) {
                    options.push(value.clone());
                }
            }
        }
        if *kind == ValueType::Boolean {
            options = vec![Value::Bool(true), Value::Bool(false)];
        }
        let others = usize::from(*kind != ValueType::Boolean && !super::is_covered(kind, &options));
        let taken = self.choices.choose(options.len() + others);
        let detail = (options.len() + others > 1).then(|| match options.get(taken) {
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
        (value, detail.map(|detail| (detail, taken > 0)))
    }
}
