//! Compilation of specs and rules, with the checks of the whole program.

use concert_lang::diagnostics::{Diagnostic, Report};
use concert_lang::program::Program;
use concert_lang::source::SourceFile;

use crate::whole;

/// Compiles specs and rules like [`concert_lang::compile`], and checks the whole program by
/// exploring every path ([`crate::explore`]).
///
/// # Errors
/// All errors of the first stage that has any. The stage of the whole program reports requests that
/// may get no response, or two.
pub fn verify(
    concepts: &[SourceFile],
    syncs: &[SourceFile],
) -> Result<(Program, Vec<Diagnostic>), Report> {
    concert_lang::staged(concepts, syncs)?.judged(whole::judge)
}
