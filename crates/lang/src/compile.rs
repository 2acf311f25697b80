//! Compilation of files to a program in stages. A stage runs only if the earlier ones reported no
//! errors.

use std::sync::Arc;

use concert_wire::id::uuid_v5;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::check::{check, headers, uses};
use crate::diagnostics::{Diagnostic, REPEATED_CONCEPT, Report, Severity};
use crate::program::Program;
use crate::source::SourceFile;
use crate::spec::ConceptSpec;
use crate::syntax::{HeaderDef, Ident, SyncDef};
use crate::{concept, parser, requesting, routes};

/// Texts of specs and rules, in their stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// The specs.
    pub concepts: Vec<SourceFile>,
    /// The rules.
    pub syncs: Vec<SourceFile>,
}

impl Texts {
    /// Compiles the texts like [`compile`], but accepts any spec of a built-in concept, because
    /// another release may have stored it.
    ///
    /// # Errors
    /// All errors of the first stage that has any.
    pub fn compile(&self) -> Result<Program, Report> {
        let compiled = Parsed::of(&self.concepts, &self.syncs).check()?;
        compiled.judged(|_, _, _| ()).map(|(program, _)| program)
    }
}

/// Compiles specs and rules. Returns the program and warnings. Does not check that every request
/// gets a response; for checks of the whole program, see [`staged`].
///
/// # Errors
/// All errors of the first stage that has any.
pub fn compile(
    concepts: &[SourceFile],
    syncs: &[SourceFile],
) -> Result<(Program, Vec<Diagnostic>), Report> {
    staged(concepts, syncs)?.judged(|_, _, _| ())
}

/// A compiled program, before the checks of the whole program.
pub struct Compiled {
    program: Program,
    defs: Vec<SyncDef>,
    stage: Stage,
}

impl Compiled {
    /// Runs `judge` on the program and its syntax trees, and returns the program with all warnings.
    ///
    /// # Errors
    /// The errors that `judge` reports.
    pub fn judged(
        mut self,
        judge: impl FnOnce(&Program, &[SyncDef], &mut Vec<Diagnostic>),
    ) -> Result<(Program, Vec<Diagnostic>), Report> {
        judge(&self.program, &self.defs, &mut self.stage.diagnostics);
        self.stage.finish()?;
        Ok((self.program, self.stage.diagnostics))
    }
}

/// Like [`compile`], for a caller that checks the whole program as well.
///
/// # Errors
/// All errors of the first stage that has any.
pub fn staged(concepts: &[SourceFile], syncs: &[SourceFile]) -> Result<Compiled, Report> {
    let mut parsed = Parsed::of(concepts, syncs);
    requesting::judge(&parsed.specs, &mut parsed.stage.diagnostics);
    parsed.check()
}

/// Syntax trees and diagnostics of the first stage.
struct Parsed {
    specs: Vec<(Ident, ConceptSpec)>,
    headers: Vec<HeaderDef>,
    defs: Vec<SyncDef>,
    stage: Stage,
}

impl Parsed {
    fn of(concepts: &[SourceFile], syncs: &[SourceFile]) -> Self {
        let sources: Vec<SourceFile> = concepts.iter().chain(syncs).cloned().collect();
        let mut stage = Stage { sources, diagnostics: Vec::new() };
        let mut specs: Vec<(Ident, ConceptSpec)> = Vec::new();
        for (file, source) in concepts.iter().enumerate() {
            let Some((name, spec)) = concept::parse(file, source, &mut stage.diagnostics) else {
                continue;
            };
            if let Some((other, _)) = specs.iter().find(|(other, _)| other.text == name.text) {
                let message = format!("duplicate spec of the concept `{}`", name.text);
                let diagnostic = Diagnostic::error(REPEATED_CONCEPT, name.span, message);
                stage.diagnostics.push(diagnostic.related(other.span, "the first spec"));
            }
            specs.push((name, spec));
        }
        let (mut headers, mut defs) = (Vec::new(), Vec::new());
        for (number, source) in syncs.iter().enumerate() {
            let number = concepts.len() + number;
            let mut file = parser::parse(number, source, &mut stage.diagnostics);
            headers.append(&mut file.headers);
            defs.append(&mut file.syncs);
        }
        Self { specs, headers, defs, stage }
    }

    /// Runs the second stage.
    fn check(self) -> Result<Compiled, Report> {
        let Self { specs, headers, defs, mut stage } = self;
        stage.finish()?;

        let mut specs: Vec<ConceptSpec> = specs.into_iter().map(|(_, spec)| spec).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let mut rules = check(&specs, &defs, &mut stage.diagnostics);
        rules.iter_mut().for_each(uses::infer);
        let version = version(&stage.sources);
        let mut table = routes::derive(&version, &mut rules, &mut stage.diagnostics);
        table.headers = headers::check(&headers, &table, &mut stage.diagnostics);
        rules.iter().for_each(|rule| uses::judge(rule, &mut stage.diagnostics));
        stage.finish()?;

        let mut syncs: Vec<Arc<_>> = rules.into_iter().map(|rule| Arc::new(rule.sync)).collect();
        syncs.sort_by(|a, b| a.name.cmp(&b.name));
        let program = Program { version, syncs, concepts: specs, routes: table };
        Ok(Compiled { program, defs, stage })
    }
}

struct Stage {
    sources: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
}

impl Stage {
    fn finish(&mut self) -> Result<(), Report> {
        self.diagnostics
            .sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
        self.diagnostics.dedup();
        if self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            let diagnostics = std::mem::take(&mut self.diagnostics);
            return Err(Report { diagnostics, sources: std::mem::take(&mut self.sources) });
        }
        Ok(())
    }
}

/// The version, a digest of the texts; independent of file names and order.
fn version(sources: &[SourceFile]) -> String {
    let mut texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
    texts.sort_unstable();
    let all = texts.iter().fold(String::new(), |all, text| format!("{all}{}:{text}", text.len()));
    let digest = uuid_v5(&Uuid::NAMESPACE_OID, all.as_bytes()).simple().to_string();
    digest.chars().take(16).collect()
}
