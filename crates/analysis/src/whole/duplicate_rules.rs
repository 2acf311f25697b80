//! Duplicate rules: equal except for names of variables, order of patterns and order of keys.

use std::collections::HashMap;
use std::fmt::Write as _;

use concert_wire::value::canonical;

use super::places::Places;
use concert_lang::diagnostics::{Diagnostic, TWINS};
use concert_lang::expr::Expr;
use concert_lang::program::{
    Arg, Call, Gathered, Match, Out, Pattern, Program, Slot, Step, Sync, Test,
};

pub(super) fn judge(program: &Program, places: &Places<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (rule, sync) in program.syncs.iter().enumerate() {
        let Some(twin) = first.get(&Text::of(sync)).copied() else {
            first.insert(Text::of(sync), rule);
            continue;
        };
        // Report the later one in the source.
        let (twin, rule) =
            if places.name(twin) <= places.name(rule) { (twin, rule) } else { (rule, twin) };
        if places.allows(rule, TWINS) {
            continue;
        }
        let named = |rule: usize| program.syncs.get(rule).map_or("", |sync| &*sync.name);
        let message =
            format!("rule `{}` duplicates `{}`; each action runs twice", named(rule), named(twin));
        let diagnostic = Diagnostic::warning(TWINS, places.name(rule), message);
        diagnostics.push(diagnostic.related(places.name(twin), "the other rule"));
    }
}

/// A normalized text that is equal for duplicate rules.
struct Text {
    text: String,
    /// The variables, in the order of their first use.
    slots: Vec<Slot>,
}

impl Text {
    fn of(sync: &Sync) -> String {
        let mut all = Self { text: String::new(), slots: Vec::new() };
        let mut patterns: Vec<&Pattern> = sync.when.iter().collect();
        patterns.sort_by_cached_key(|pattern| shape(pattern));
        for pattern in patterns {
            all.add(&format!("|{}.{} {:?} ", pattern.concept, pattern.action, pattern.outcome));
            all.matches(&pattern.input);
            all.matches(&pattern.output);
        }
        all.steps(&sync.steps);
        all.add("|then");
        all.calls(&sync.then);
        if let Some(otherwise) = &sync.otherwise {
            all.add("|else");
            all.outs(&otherwise.outs);
            all.calls(&otherwise.calls);
        }
        all.add("|elses");
        all.calls(&sync.elses);
        all.text
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn slot(&mut self, slot: Slot) {
        let number = self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        });
        // Writing to a string does not fail.
        write!(self.text, "${number}").unwrap_or_default();
    }

    fn matches(&mut self, matches: &[Match]) {
        let mut matches: Vec<&Match> = matches.iter().collect();
        matches.sort_by(|a, b| a.key.cmp(&b.key));
        self.add("(");
        for demand in matches {
            self.add(&format!("{}{}:", demand.key, if demand.optional { "?" } else { "" }));
            match &demand.test {
                Test::Variable(slot) => self.slot(*slot),
                Test::Literal(value) => self.add(&canonical(value)),
            }
            self.add(",");
        }
        self.add(")");
    }

    fn args(&mut self, args: &[Arg]) {
        let mut args: Vec<&Arg> = args.iter().collect();
        args.sort_by(|a, b| a.key.cmp(&b.key));
        self.add("(");
        for arg in args {
            self.add(&format!("{}{}:", arg.key, if arg.omit_null { "?" } else { "" }));
            self.expr(&arg.value);
            self.add(",");
        }
        self.add(")");
    }

    fn outs(&mut self, outs: &[Out]) {
        let mut outs: Vec<&Out> = outs.iter().collect();
        outs.sort_by(|a, b| a.key.cmp(&b.key));
        for out in outs {
            self.add(&format!("{}:", out.key));
            self.slot(out.slot);
        }
    }

    fn calls(&mut self, calls: &[Call]) {
        for call in calls {
            self.add(&format!(";{}.{}", call.concept, call.action));
            self.args(&call.args);
            self.outs(&call.outs);
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.add("|");
            match step {
                Step::Query { join, query, otherwise } => {
                    self.add(&format!("{join:?} {}.{} {otherwise:?}", query.concept, query.name));
                    self.args(&query.args);
                    self.matches(&query.output);
                }
                Step::Let(slot, value) => {
                    self.slot(*slot);
                    self.add("=");
                    self.expr(value);
                }
                Step::Each(slot, list) => {
                    self.slot(*slot);
                    self.add(" in ");
                    self.expr(list);
                }
                Step::Filter { condition, otherwise } => {
                    self.add(&format!("{otherwise:?}"));
                    self.expr(condition);
                }
                Step::Collect { body, gathered, into } => {
                    self.steps(body);
                    match gathered {
                        Gathered::Values(slot) => self.slot(*slot),
                        Gathered::Records(fields) => {
                            for (key, slot) in fields {
                                self.add(key);
                                self.slot(*slot);
                            }
                        }
                    }
                    self.slot(*into);
                }
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Variable(slot) => self.slot(*slot),
            Expr::Literal(value) => self.add(&canonical(value)),
            Expr::List(items) => {
                self.add("[");
                items.iter().for_each(|item| self.expr(item));
                self.add("]");
            }
            Expr::Object(members) => {
                self.add("{");
                for (key, value) in members {
                    self.add(&format!("{key:?}:"));
                    self.expr(value);
                }
                self.add("}");
            }
            Expr::Field(value, field) => {
                self.expr(value);
                self.add(&format!(".{field}"));
            }
            Expr::Not(value) => {
                self.add("not(");
                self.expr(value);
                self.add(")");
            }
            Expr::Binary(left, operator, right) => {
                self.add("(");
                self.expr(left);
                self.add(&format!("{operator:?}"));
                self.expr(right);
                self.add(")");
            }
        }
    }
}

/// A pattern without its variables. Patterns of equal shape keep their source order.
fn shape(pattern: &Pattern) -> String {
    let keys = |matches: &[Match]| {
        let mut keys: Vec<String> = matches
            .iter()
            .map(|demand| match &demand.test {
                Test::Variable(_) => format!("{}{}", demand.key, demand.optional),
                Test::Literal(value) => {
                    format!("{}{}={}", demand.key, demand.optional, canonical(value))
                }
            })
            .collect();
        keys.sort_unstable();
        keys.join(",")
    };
    let (input, output) = (keys(&pattern.input), keys(&pattern.output));
    format!("{}.{}({input}):{:?}({output})", pattern.concept, pattern.action, pattern.outcome)
}
