//! `docs/codes`: a page for each kind of mistake, whose wrong example raises it and whose right one
//! raises nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

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

/// What the checker says of an example: rules beside the project's specs, a spec alone.
fn found(language: &str, text: &str) -> Vec<Diagnostic> {
    let source = SourceFile::new(format!("example.{language}"), text);
    let compiled = match language {
        "sync" => verify(&specs(), &[source]),
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
fn every_kind_of_mistake_has_a_page_and_examples_that_show_it() {
    for kind in KINDS {
        let page = page(kind.code);
        let title = page.lines().next().unwrap();
        assert_eq!(title, format!("# {}: {}", kind.code, kind.title));
        if kind.code == "C0402" {
            two_specs_of_one_concept_are_found();
            continue;
        }
        let examples = examples(&page);
        let [(language, wrong), (same_language, right)] = examples[..] else {
            panic!("{}: {} examples", kind.code, examples.len());
        };
        assert_eq!(language, same_language);
        let codes: Vec<&str> = found(language, wrong).iter().map(|found| found.code).collect();
        assert!(codes.contains(&kind.code), "{}: {codes:?}", kind.code);
        assert_eq!(found(language, right), [], "{}", kind.code);
    }
}

/// It takes two files to have two specs of one concept, so the page shows none.
fn two_specs_of_one_concept_are_found() {
    let specs = ["a", "b"].map(|name| SourceFile::new(name, "concept A\npurpose\n    none\n"));
    let report = compile(&specs, &[]).unwrap_err();
    let codes: Vec<&str> = report.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["C0402"]);
}

#[test]
fn there_is_no_page_of_a_code_that_is_not_there_and_the_index_has_them_all() {
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
