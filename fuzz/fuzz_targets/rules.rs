//! Any bytes as rules and as a spec: nothing panics, every diagnostic lies within its text, and
//! formatting is idempotent and preserves the meaning.

#![no_main]

use concert_lang::diagnostics::{Diagnostic, Style, render_in};
use concert_lang::requesting;
use concert_lang::source::SourceFile;
use concert_lang::{compile, format};
use libfuzzer_sys::fuzz_target;

const SPECS: [(&str, &str); 2] = [
    ("Profile.concept", include_str!("../../concepts/Profile.concept")),
    ("Sessioning.concept", include_str!("../../concepts/Sessioning.concept")),
];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut specs: Vec<SourceFile> = SPECS.map(|(name, text)| SourceFile::new(name, text)).into();
    specs.push(requesting::source());
    let rules = SourceFile::new("fuzz.sync", text.as_str());
    judge(&specs, &[rules.clone()]);
    judge(&[SourceFile::new("Fuzz.concept", text.as_str())], &[]);

    if let Ok(laid_out) = format(&rules) {
        let again = format(&SourceFile::new("fuzz.sync", laid_out.as_str()));
        assert_eq!(again.as_ref(), Ok(&laid_out), "formatting is not idempotent");
        let before = compile(&specs, &[rules]).map(|(program, _)| program);
        let formatted = SourceFile::new("fuzz.sync", laid_out);
        let after = compile(&specs, &[formatted]).map(|(program, _)| program);
        match (before, after) {
            (Ok(before), Ok(after)) => {
                assert_eq!(before.syncs, after.syncs, "formatting changed the meaning");
            }
            (Err(_), Err(_)) => {}
            (before, after) => panic!("formatting changed whether it compiles: {before:?} {after:?}"),
        }
    }
});

fn judge(concepts: &[SourceFile], syncs: &[SourceFile]) {
    let sources: Vec<SourceFile> = concepts.iter().chain(syncs).cloned().collect();
    let found = match compile(concepts, syncs) {
        Ok((_, warnings)) => warnings,
        Err(report) => report.diagnostics,
    };
    for style in [Style::Plain, Style::Ansi] {
        render_in(style, &found, &sources);
    }
    for diagnostic in &found {
        assert!(lies_within(diagnostic, &sources), "{diagnostic:?}");
    }
}

fn lies_within(diagnostic: &Diagnostic, sources: &[SourceFile]) -> bool {
    let related = diagnostic.related.iter().map(|(span, _)| *span);
    std::iter::once(diagnostic.span).chain(related).all(|span| {
        let text = sources.get(span.file).map(|source| source.text.get(span.start..span.end));
        matches!(text, Some(Some(_)))
    })
}
