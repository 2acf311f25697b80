//! The steps of `where`. They are read, and not run yet.

use super::Rule;
use crate::diagnostics::{Diagnostic, NOT_YET};
use crate::syntax::{Ident, PatValue, QueryDef, StepKind, SyncDef};

impl Rule<'_> {
    /// Refuses the clause. What it binds is taken as bound, so that nothing is reported but the clause.
    pub(super) fn steps(&mut self, def: &SyncDef) {
        let Some(word) = def.where_word else { return };
        self.diagnostics
            .push(Diagnostic::error(NOT_YET, word, "`where` is not supported yet"));
        for step in &def.steps {
            for name in bound(&step.kind) {
                self.variables.bind_quietly(name);
            }
        }
    }
}

/// What a step binds for those after it.
fn bound(step: &StepKind) -> Vec<&Ident> {
    match step {
        StepKind::Query(query) | StepKind::Optional(query) => outputs(query),
        StepKind::Let(name, _)
        | StepKind::Each(name, _)
        | StepKind::CollectValues(_, name)
        | StepKind::CollectRecords(_, name) => vec![name],
        StepKind::Some(_) | StepKind::No(_) | StepKind::Filter(_) => vec![],
    }
}

fn outputs(query: &QueryDef) -> Vec<&Ident> {
    let names = query.output.iter().filter_map(|pat| match &pat.value {
        PatValue::Variable(name) => Some(name),
        PatValue::Literal(..) => None,
    });
    names.collect()
}
