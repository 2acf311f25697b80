//! The third stage over the project's own rules, in both schedules, and over a thousand rules.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::source::SourceFile;

fn read(dir: &str, extension: &str) -> Vec<SourceFile> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
    let mut files: Vec<SourceFile> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| SourceFile::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn compile(concepts: &[SourceFile], syncs: &[SourceFile]) -> Program {
    let compiled = crate::compile(concepts, syncs);
    compiled.unwrap_or_else(|report| panic!("{report}")).0
}

fn specs_with_a_shop() -> Vec<SourceFile> {
    [
        read("concepts", "concept"),
        read("crates/rules/tests/golden/program", "concept"),
    ]
    .concat()
}

/// Which calls answer, and what ends how, in all runs of all paths.
fn verdicts(program: &Program, schedule: Schedule) -> BTreeSet<String> {
    let rules = Rules::new(program);
    let mut found = BTreeSet::new();
    for path in rules.paths() {
        let scope = rules.scope(path, &program.routes);
        explore(&scope, schedule, |mut run| {
            run.answers.sort_unstable();
            found.insert(format!("{path} {:?} {:?} {:?}", run.answers, run.fired, run.ended));
        });
    }
    found
}

#[test]
fn the_order_in_which_actions_end_makes_no_difference() {
    let cases = ["syncs", "crates/rules/tests/golden/correct"];
    for syncs in cases.iter().flat_map(|dir| read(dir, "sync")) {
        let program = compile(&specs_with_a_shop(), std::slice::from_ref(&syncs));
        let (first, last) = (Schedule::FirstInFirstOut, Schedule::LastInFirstOut);
        assert_eq!(verdicts(&program, first), verdicts(&program, last), "{}", syncs.name);
    }
}

fn runs(program: &Program) -> (usize, usize) {
    let rules = Rules::new(program);
    let (mut runs, mut actions) = (0, 0);
    for path in rules.paths() {
        explore(&rules.scope(path, &program.routes), Schedule::FirstInFirstOut, |run| {
            runs += 1;
            actions += run.actions;
        });
    }
    (runs, actions)
}

/// Prints how long it takes; what it takes depends on the machine.
fn measure(name: &str, program: &Program) {
    let start = Instant::now();
    let mut diagnostics = Vec::new();
    judge(program, &[], &mut diagnostics);
    let took = start.elapsed();
    let (runs, actions) = runs(program);
    println!(
        "{name}: {} rules, {runs} runs, {actions} actions, {took:?}",
        program.syncs.len()
    );
    assert_eq!(diagnostics, []);
}

#[test]
fn a_thousand_rules_can_be_looked_at() {
    measure(
        "the project",
        &compile(&read("concepts", "concept"), &read("syncs", "sync")),
    );
    let mut text = String::new();
    for path in 0..250 {
        write!(
            text,
            r#"
sync Buy{path}
when
    Requesting.request (path: "/buy/{path}", session, item, tag?) : (request)
where
    Sessioning._getUser (session) : (user)
        else Requesting.respond (request, error: "Session not found", status: 401)
    Shop._stock (item) : (count)
    count > 0 and (tag == null or count < 100)
        else Requesting.respond (request, error: "Sold out", status: 409)
then
    Shop.price (item) : (cents)
    Shop.sell (item, cents)

sync Sold{path}
when
    Requesting.request (path: "/buy/{path}") : (request)
    Shop.sell () : (sale)
then
    Shop.pack (sale) : (parcel)
    Requesting.respond (request, parcel)

sync NoPrice{path}
when
    Requesting.request (path: "/buy/{path}") : (request)
    Shop.price () : (error)
then
    Requesting.respond (request, error, status: 404)

sync NotSold{path}
when
    Requesting.request (path: "/buy/{path}") : (request)
    Shop.sell () : (error)
then
    Requesting.respond (request, error, status: 409)
"#
        )
        .unwrap();
    }
    measure(
        "generated",
        &compile(&specs_with_a_shop(), &[SourceFile::new("generated.sync", text)]),
    );
}
