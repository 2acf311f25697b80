//! Tests of `docs/codes`: each kind of diagnostic has a page, whose wrong example raises it and
//! whose right one raises nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files fails")]

#[path = "../../lang/tests/files/project.rs"]
mod project;
#[path = "../../lang/tests/files/specs.rs"]
mod specs;

use concert_analysis::verify;
use concert_lang::compile;
use concert_lang::diagnostics::{Diagnostic, KINDS};
use concert_lang::source::SourceFile;

use crate::project::root;
use crate::specs::specs;

fn page(code: &str) -> String {
    let path = root().join(format!("docs/codes/{code}.md"));
    std::fs::read_to_string(&path).unwrap_or_default()
}

/// Diagnostics of an example: rules with the project's specs and a spec of the page, or only a
/// spec.
fn found(own: &[SourceFile], language: &str, text: &str) -> Vec<Diagnostic> {
    let source = SourceFile::new(format!("example.{language}"), text);
    let compiled = match language {
        "sync" => verify(&[&specs(), own].concat(), &[source]),
        _ => compile(&[source], &[]),
    };
    match compiled {
        Ok((_, warnings)) => warnings,
        Err(report) => report.diagnostics,
    }
}

/// The examples of a page, with their languages.
fn examples(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').unwrap()).collect()
}

#[test]
fn every_code_has_a_page_with_examples() {
    for kind in KINDS {
        let page = page(kind.code);
        let title = page.lines().next().unwrap();
        assert_eq!(title, format!("# {}: {}", kind.code, kind.title));
        if kind.code == "C0402" {
            duplicate_specs_are_reported();
            continue;
        }
        let examples = examples(&page);
        let (own, [(language, wrong), (same_language, right)]) = match examples[..] {
            [wrong, right] => (None, [wrong, right]),
            [("concept", spec), wrong, right] => (Some(spec), [wrong, right]),
            _ => panic!("{}: {} examples", kind.code, examples.len()),
        };
        let own: Vec<_> =
            own.map(|spec| SourceFile::new("own.concept", spec)).into_iter().collect();
        assert_eq!(language, same_language);
        let codes: Vec<&str> =
            found(&own, language, wrong).iter().map(|found| found.code).collect();
        assert!(codes.contains(&kind.code), "{}: {codes:?}", kind.code);
        assert_eq!(found(&own, language, right), [], "{}", kind.code);
    }
}

/// The page has no example, because this takes two files.
fn duplicate_specs_are_reported() {
    let specs = ["a", "b"].map(|name| SourceFile::new(name, "concept A\npurpose\n    none\n"));
    let report = compile(&specs, &[]).unwrap_err();
    let codes: Vec<&str> = report.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["C0402"]);
}

#[test]
fn every_page_has_a_code_and_the_index_is_complete() {
    let index = page("README");
    for file in std::fs::read_dir(root().join("docs/codes")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let code = name.trim_end_matches(".md");
        assert!(code == "README" || KINDS.iter().any(|kind| kind.code == code), "{name}");
    }
    for kind in KINDS {
        let line = format!("| [{0}]({0}.md) | {1} |", kind.code, kind.title);
        assert!(index.contains(&line), "{line}");
    }
}
