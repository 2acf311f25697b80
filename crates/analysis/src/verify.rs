//! Compilation of specs and rules, with the checks of the whole program.

use concert_lang::diagnostics::{Diagnostic, Report};
use concert_lang::program::Program;
use concert_lang::source::SourceFile;

use crate::whole;

/// As
/// [`concert_lang::compile`], and with the third stage: the whole program, every path of which is run in every way ([`crate::explore`]).
///
/// # Errors
/// Every mistake of the first stage that has one. In the third: requests that may stay unanswered,
/// or be answered twice.
pub fn verify(
    concepts: &[SourceFile],
    syncs: &[SourceFile],
) -> Result<(Program, Vec<Diagnostic>), Report> {
    concert_lang::staged(concepts, syncs)?.judged(whole::judge)
}
