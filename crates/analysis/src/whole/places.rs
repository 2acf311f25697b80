//! Source locations of the parts of a program.

use std::collections::HashMap;

use crate::explore::Site;
use concert_lang::diagnostics::Kind;
use concert_lang::program::{Pattern, Program};
use concert_lang::source::Span;
use concert_lang::syntax::{CallDef, StepKind, SyncDef};

/// Source locations of a program.
pub(super) struct Places<'a> {
    program: &'a Program,
    defs: Vec<Option<&'a SyncDef>>,
}

/// Fallback location; every part of a program has its source.
const NOWHERE: Span = Span { file: 0, start: 0, end: 0 };

impl<'a> Places<'a> {
    pub(super) fn new(program: &'a Program, defs: &'a [SyncDef]) -> Self {
        let by_name: HashMap<&str, &SyncDef> =
            defs.iter().map(|def| (def.name.text.as_str(), def)).collect();
        let defs = program.syncs.iter();
        Self { program, defs: defs.map(|sync| by_name.get(&*sync.name).copied()).collect() }
    }

    fn def(&self, rule: usize) -> Option<&'a SyncDef> {
        self.defs.get(rule).copied().flatten()
    }

    /// Returns whether the comment above a rule suppresses a code: `// allow C0501: reason`.
    pub(super) fn allows(&self, rule: usize, kind: Kind) -> bool {
        let lines = self.def(rule).into_iter().flat_map(|def| &def.doc);
        lines.filter_map(|line| line.trim().strip_prefix("allow ")?.split_once(':')).any(
            |(codes, why)| {
                codes.split(',').any(|code| code.trim() == kind.code) && !why.trim().is_empty()
            },
        )
    }

    /// Like `allows`, above any rule of a path.
    pub(super) fn path_allows(&self, path: &str, kind: Kind) -> bool {
        let rules = self.program.syncs.iter().enumerate();
        let mut of_path = rules.filter(|(_, sync)| sync.path() == Some(path));
        of_path.any(|(rule, _)| self.allows(rule, kind))
    }

    /// The name of a rule.
    pub(super) fn name(&self, rule: usize) -> Span {
        self.def(rule).map_or(NOWHERE, |def| def.name.span)
    }

    /// A pattern of a rule.
    pub(super) fn pattern(&self, rule: usize, number: usize) -> Span {
        let pattern = self.def(rule).and_then(|def| def.when.get(number));
        pattern.map_or_else(|| self.name(rule), |pattern| pattern.span)
    }

    /// A call of a rule.
    pub(super) fn call(&self, rule: usize, site: Site) -> Span {
        self.call_def(rule, site).map_or_else(|| self.name(rule), |call| call.span)
    }

    fn call_def(&self, rule: usize, site: Site) -> Option<&'a CallDef> {
        let def = self.def(rule)?;
        match site {
            Site::Then(number) => def.then.get(number),
            Site::ElseBranch(number) => def.otherwise.as_ref()?.calls.get(number),
            Site::Else(number) => {
                def.steps.iter().filter_map(|step| step.otherwise.as_ref()).nth(number)
            }
        }
    }

    /// A step of a rule.
    pub(super) fn step(&self, rule: usize, number: usize) -> Span {
        let step = self.def(rule).and_then(|def| def.steps.get(number));
        step.map_or_else(|| self.name(rule), |step| step.span)
    }

    /// Location of a query in one of these rules.
    pub(super) fn query(
        &self,
        rules: impl IntoIterator<Item = usize>,
        query: &str,
    ) -> Option<Span> {
        rules.into_iter().find_map(|rule| {
            let mut steps = self.def(rule)?.steps.iter();
            let step = steps.find(|step| match &step.kind {
                StepKind::Query(asked)
                | StepKind::Optional(asked)
                | StepKind::Some(asked)
                | StepKind::No(asked) => {
                    query.strip_prefix(&asked.concept.text)
                        == Some(&format!(".{}", asked.query.text))
                }
                _ => false,
            });
            step.map(|step| step.span)
        })
    }

    /// Location of a request pattern of a path.
    pub(super) fn path(&self, path: &str) -> Span {
        let Some(rule) = self.program.syncs.iter().position(|sync| sync.path() == Some(path))
        else {
            return NOWHERE;
        };
        let sync = self.program.syncs.get(rule);
        let at = sync.and_then(|sync| sync.when.iter().position(Pattern::is_request));
        self.pattern(rule, at.unwrap_or(0))
    }
}
