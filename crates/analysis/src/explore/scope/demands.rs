//! Values that the rules of a path distinguish: literals, equal values, optional keys and fields.

use std::collections::{BTreeSet, HashMap, HashSet};

use concert_wire::routes::RouteTable;
use concert_wire::{REQUEST, REQUESTING};

use super::{Demand, Key, Place, Side, name};
use concert_lang::expr::Expr;
use concert_lang::program::{Pattern, Slot, Step, Sync, Test, queries, walk};

fn place(pattern: &Pattern, side: Side, key: &str) -> Place {
    Place { action: name(&pattern.concept, &pattern.action), side, key: key.to_owned() }
}

pub(super) fn demands(syncs: &[&Sync]) -> HashMap<Place, Demand> {
    let mut demands: HashMap<Place, Demand> = HashMap::new();
    for sync in syncs {
        let mut slots: Vec<(Slot, Place)> = Vec::new();
        for pattern in &sync.when {
            let input = pattern.input.iter().map(|demand| (Side::Input, demand));
            // A failure has only `error`, which no success has.
            for (side, demand) in
                input.chain(pattern.output.iter().map(|demand| (Side::Output, demand)))
            {
                let place = place(pattern, side, &demand.key);
                let known = demands.entry(place.clone()).or_default();
                match &demand.test {
                    Test::Literal(value) if !known.literals.contains(value) => {
                        known.literals.push(value.clone())
                    }
                    Test::Literal(_) => {}
                    Test::Variable(slot) => slots.push((*slot, place)),
                }
            }
        }
        for (number, (slot, place)) in slots.iter().enumerate() {
            let others = slots.iter().enumerate().filter(|(other, _)| *other != number);
            let joined = others.filter(|(_, (other, _))| other == slot);
            for (_, (_, joined)) in joined {
                let known = demands.entry(place.clone()).or_default();
                if !known.joins.contains(joined) {
                    known.joins.push(joined.clone());
                }
            }
        }
        queried(&sync.steps, &mut demands);
        for call in sync.calls() {
            for out in &call.outs {
                let place = Place {
                    action: name(&call.concept, &call.action),
                    side: Side::Output,
                    key: out.key.to_string(),
                };
                demands.entry(place).or_default();
            }
        }
    }
    demands
}

fn queried(steps: &[Step], demands: &mut HashMap<Place, Demand>) {
    for query in queries(steps) {
        for demand in &query.output {
            let place = Place {
                action: name(&query.concept, &query.name),
                side: Side::Output,
                key: demand.key.to_string(),
            };
            demands.entry(place).or_default();
        }
    }
}

pub(super) fn keys(
    path: &str,
    routes: &RouteTable,
    syncs: &[&Sync],
    demands: &HashMap<Place, Demand>,
) -> Vec<Key> {
    let Some(route) = routes.routes.get(path) else {
        return Vec::new();
    };
    let request = name(REQUESTING, REQUEST);
    let mut keys = Vec::new();
    // In the order of their first use.
    let patterns = syncs.iter().flat_map(|sync| &sync.when).filter(|pattern| pattern.is_request());
    let patterns = patterns.filter(|request| request.path().is_none_or(|found| found == path));
    let mut names: Vec<&str> =
        patterns.flat_map(|request| &request.input).map(|named| &*named.key).collect();
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(*name));
    for (name, key) in names.into_iter().filter_map(|name| route.keys.get_key_value(name)) {
        let place = Place { action: request.clone(), side: Side::Input, key: name.clone() };
        let demand = demands.get(&place);
        let mut is_demanded = false;
        let mut decides =
            demand.is_some_and(|demand| !demand.joins.is_empty() || !demand.literals.is_empty());
        for sync in syncs {
            let requests = sync.when.iter().filter(|pattern| pattern.is_request());
            let requests =
                requests.filter(|request| request.path().is_none_or(|found| found == path));
            for named in
                requests.flat_map(|request| &request.input).filter(|named| *named.key == **name)
            {
                is_demanded |= !named.optional;
                decides |= named.slot().is_some_and(|slot| reads(&sync.steps, slot));
            }
        }
        keys.push(Key {
            name: name.clone(),
            kind: key.kind.clone(),
            can_be_absent: !key.required && (is_demanded || decides),
            decides,
            literals: demand.map(|demand| demand.literals.clone()).unwrap_or_default(),
        });
    }
    keys
}

/// Returns whether any step reads a variable.
fn reads(steps: &[Step], slot: Slot) -> bool {
    let mut found = false;
    expressions(steps, &mut |expr| expr.variables(&mut |used| found |= used == slot));
    found || joins(steps, slot)
}

fn joins(steps: &[Step], slot: Slot) -> bool {
    let mut outputs = queries(steps).into_iter().flat_map(|query| &query.output);
    outputs.any(|out| out.slot() == Some(slot))
}

fn expressions(steps: &[Step], visit: &mut impl FnMut(&Expr)) {
    walk(steps, &mut |step| step.expressions(visit));
}

/// Collects the fields that a rule reads; returns their depth.
pub(super) fn fields_of(sync: &Sync, fields: &mut BTreeSet<String>) -> usize {
    let mut deepest = 0;
    let mut look = |expr: &Expr| deepest = deepest.max(field_depth(expr, fields));
    expressions(&sync.steps, &mut look);
    sync.calls().flat_map(|call| &call.args).for_each(|arg| look(&arg.value));
    let named = |step: &&Step| match step {
        Step::Let(_, value) | Step::Each(_, value) => field_depth(value, &mut BTreeSet::new()) > 0,
        _ => false,
    };
    deepest + sync.steps.iter().filter(named).count()
}

fn field_depth(expr: &Expr, fields: &mut BTreeSet<String>) -> usize {
    match expr {
        Expr::Field(value, field) => {
            fields.insert(field.clone());
            field_depth(value, fields) + 1
        }
        Expr::Variable(_) | Expr::Literal(_) => 0,
        Expr::List(items) => items.iter().map(|item| field_depth(item, fields)).max().unwrap_or(0),
        Expr::Object(members) => {
            let depths = members.iter().map(|(_, value)| field_depth(value, fields));
            depths.max().unwrap_or(0)
        }
        Expr::Not(value) => field_depth(value, fields),
        Expr::Binary(left, _, right) => field_depth(left, fields).max(field_depth(right, fields)),
    }
}
