//! Tests of the explanations of paths. `CONCERT_BLESS=1` rewrites the expected files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read its files fails")]

#[path = "../../lang/tests/files/project.rs"]
mod project;
#[path = "../../lang/tests/files/specs.rs"]
mod specs;

use std::path::Path;

use concert_analysis::explore::explain;
use concert_lang::compile;
use concert_lang::program::Program;
use concert_lang::source::SourceFile;

use crate::project::files;
use crate::specs::specs;

fn compiled(syncs: &[SourceFile]) -> Program {
    let concepts = [specs(), files("crates/analysis/tests/golden/program", "concept")].concat();
    let compiled = compile(&concepts, syncs);
    compiled.unwrap_or_else(|report| panic!("{report}")).0
}

fn explained(program: &Program) -> String {
    let paths = program.routes.routes.keys();
    let stories: Vec<String> = paths.map(|path| explain(program, path, "/api").unwrap()).collect();
    stories.join("\n")
}

#[track_caller]
fn check(file: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain").join(file);
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&file).unwrap_or_default());
}

#[test]
fn project_paths_are_explained() {
    check("project.txt", &explained(&compiled(&files("syncs", "sync"))));
}

#[test]
fn correct_programs_are_explained() {
    let cases = files("crates/analysis/tests/golden/correct", "sync");
    let stories: Vec<String> =
        cases.iter().map(|case| explained(&compiled(std::slice::from_ref(case)))).collect();
    check("correct.txt", &stories.join("\n"));
}

#[test]
fn programs_with_errors_are_explained() {
    let wrong = ["twice-logout-answered-beside", "unanswered-range-with-a-hole", "too-many-runs"];
    let cases = files("crates/analysis/tests/golden/program", "sync");
    let cases = cases.iter().filter(|case| wrong.iter().any(|wrong| case.name.contains(wrong)));
    let stories: Vec<String> =
        cases.map(|case| explained(&compiled(std::slice::from_ref(case)))).collect();
    check("wrong.txt", &stories.join("\n"));
}

#[test]
fn unknown_path_is_rejected_with_a_suggestion() {
    let program = compiled(&files("syncs", "sync"));
    let error = explain(&program, "/auth/logn", "/api").unwrap_err().to_string();
    assert_eq!(error, "no rule handles the path `/auth/logn`; did you mean `/auth/login`?");
}
