//! Specs that are shipped with the workers of a program, for applications without their own copy.

use std::collections::BTreeSet;

use crate::concept;
use crate::lexer::{TokenKind, lex};
use crate::source::SourceFile;

/// Selects the shipped specs of concepts that the rules name and that no file in `concepts`
/// declares.
pub fn needed<'a>(
    shipped: &'a [SourceFile],
    concepts: &[SourceFile],
    syncs: &[SourceFile],
) -> Vec<&'a SourceFile> {
    let own = declared_in(concepts);
    let named_specs = shipped.iter().filter_map(|source| Some((declared(source)?, source)));
    let lacking: Vec<(String, &SourceFile)> =
        named_specs.filter(|(name, _)| !own.contains(name)).collect();
    // A router polls this. An application with copies of all specs needs no further work.
    if lacking.is_empty() {
        return Vec::new();
    }
    let used: BTreeSet<String> = syncs.iter().flat_map(named).collect();
    let needed = lacking.into_iter().filter(|(name, _)| used.contains(name));
    needed.map(|(_, source)| source).collect()
}

/// The concepts that these files declare.
pub(crate) fn declared_in(files: &[SourceFile]) -> BTreeSet<String> {
    files.iter().filter_map(declared).collect()
}

/// The concept that a file declares, even if the rest of it has errors.
fn declared(source: &SourceFile) -> Option<String> {
    concept::parse(0, source, &mut Vec::new()).map(|(name, _)| name.text)
}

/// Names before a dot, which are concept names. Rules with errors have them, too.
fn named(source: &SourceFile) -> Vec<String> {
    let tokens = lex(0, source, &mut Vec::new()).tokens;
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    pairs
        .filter_map(|(name, dot)| match (&name.kind, &dot.kind) {
            (TokenKind::Word(name), TokenKind::Symbol(".")) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> SourceFile {
        SourceFile::new(
            format!("{name}.concept"),
            format!("concept {name}\npurpose x\nactions\n    act () : ()\n"),
        )
    }

    #[test]
    fn only_undeclared_concepts_that_the_rules_name_are_needed() {
        let shipped = [spec("Profile"), spec("Sessioning"), spec("Library")];
        let rules = "sync A\nwhen\n    Requesting.request () : (request)\nthen\n    Profile.act ()\n    Library.act () // Sessioning.act\n";
        let rules = [SourceFile::new("a.sync", rules)];
        let names = |concepts: &[SourceFile]| -> Vec<String> {
            needed(&shipped, concepts, &rules).iter().map(|source| source.name.clone()).collect()
        };
        assert_eq!(names(&[]), ["Profile.concept", "Library.concept"]);
        let own = SourceFile::new("concepts/mine.concept", spec("Library").text);
        assert_eq!(names(&[own]), ["Profile.concept"]);
    }
}
