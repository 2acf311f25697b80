//! Requesting, the built-in concept of HTTP requests and responses. It has no worker.

use concert_wire::{REQUESTING, RESPOND_WITH};

use crate::concept;
use crate::diagnostics::{BUILT_IN, Diagnostic};
use crate::shipped;
use crate::source::SourceFile;
use crate::spec::ConceptSpec;
use crate::syntax::Ident;

/// File name of the spec.
pub const FILE_NAME: &str = "Requesting.concept";

/// Text of the spec. Its first line calls the edge a worker, as in release 0.1.0. It stays, because
/// the text determines the version of stored rules; the router completes the actions (ADR 37).
pub const SPEC: &str = include_str!("../requesting.concept");

/// The spec as a source file.
pub fn source() -> SourceFile {
    SourceFile::new(FILE_NAME, SPEC)
}

/// The spec for these rules. It is part of the stored texts, so a change of it makes a new version
/// of the rules. Rules without `respondWith` get the text of release 0.1.0 and keep their version.
pub fn source_for(syncs: &[SourceFile]) -> SourceFile {
    if syncs.iter().any(|sync| sync.text.contains(RESPOND_WITH)) {
        source()
    } else {
        SourceFile::new(FILE_NAME, released())
    }
}

/// Text of the spec in release 0.1.0, which ends where `respondWith` begins.
fn released() -> &'static str {
    let end = SPEC.find("    respondWith").unwrap_or(SPEC.len());
    SPEC.get(..end).unwrap_or(SPEC)
}

/// Returns whether one of these files declares Requesting.
pub fn is_declared_in(concepts: &[SourceFile]) -> bool {
    shipped::declared_in(concepts).contains(REQUESTING)
}

/// Rejects a spec of this concept that differs from the built-in one and from that of release
/// 0.1.0. Prose may differ, because only signatures have an effect.
pub(crate) fn judge(specs: &[(Ident, ConceptSpec)], diagnostics: &mut Vec<Diagnostic>) {
    let known = [SPEC, released()].map(|text| {
        concept::parse(0, &SourceFile::new(FILE_NAME, text), &mut Vec::new()).map(|(_, spec)| spec)
    });
    for (name, spec) in specs {
        let is_known = known
            .iter()
            .flatten()
            .any(|known| spec.actions == known.actions && spec.queries == known.queries);
        if &*spec.name == REQUESTING && !is_known {
            let message = format!("spec of `{}` differs from the built-in one", spec.name);
            let help = "remove this file; the concept is built in";
            diagnostics.push(Diagnostic::error(BUILT_IN, name.span, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Texts;
    use crate::compile::compile;

    /// Codes of the errors that a spec of the concept has.
    fn codes(text: &str) -> Vec<&'static str> {
        let report = compile(&[SourceFile::new("mine.concept", text)], &[]).err();
        let diagnostics = report.into_iter().flat_map(|report| report.diagnostics);
        diagnostics.map(|found| found.code).collect()
    }

    #[test]
    fn the_built_in_spec_is_correct() {
        let spec = concept::parse_one(FILE_NAME, SPEC).unwrap();
        assert_eq!(&*spec.name, REQUESTING);
        assert!(is_declared_in(&[source()]));
        assert!(!is_declared_in(&[SourceFile::new(FILE_NAME, "concept Other\n")]));
    }

    #[test]
    fn copy_with_other_layout_and_prose_is_accepted() {
        assert_eq!(codes(SPEC), Vec::<&str>::new());
        assert_eq!(codes(released()), Vec::<&str>::new());
        let laid_out = SPEC
            .replace("    ", "  ")
            .replace('\n', "\r\n")
            .replace("answers out", "responses out")
            .replace("// The edge", "// This edge");
        assert_ne!(laid_out, SPEC);
        assert_eq!(codes(&laid_out), Vec::<&str>::new());
    }

    #[test]
    fn copy_with_other_signatures_is_rejected() {
        for (from, to) in [
            ("status?: Number", "status?: String"),
            ("(path: String, ...)", "(path: String)"),
            ("body: Any", "body: String"),
            ("        effects a request is open until it has been answered\n", ""),
            ("actions\n", "actions\n    cancel (request: Request) : ()\n"),
        ] {
            let changed = SPEC.replace(from, to);
            assert_ne!(changed, SPEC);
            assert_eq!(codes(&changed), ["C0409"], "{from}");
        }
        let with_query = format!("{SPEC}queries\n    _open () : (request: Request)*\n");
        assert_eq!(codes(&with_query), ["C0409"]);
    }

    #[test]
    fn stored_texts_with_another_spec_stay_readable() {
        let other = SPEC.replace("status?: Number", "status?: Number, reason?: String");
        assert_ne!(other, SPEC);
        let texts = Texts { concepts: vec![SourceFile::new(FILE_NAME, other)], syncs: Vec::new() };
        assert!(texts.compile().is_ok());
    }
}
