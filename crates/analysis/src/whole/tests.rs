//! Tests of the third stage with the project's rules, with both schedules, and with a thousand
//! rules.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use super::*;
use concert_lang::source::SourceFile;

fn read(dir: &str, extension: &str) -> Vec<SourceFile> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
    let mut files: Vec<SourceFile> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            SourceFile::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// The project's specs and the built-in one.
fn specs() -> Vec<SourceFile> {
    let mut specs = read("concepts", "concept");
    specs.push(concert_lang::requesting::source());
    specs
}

fn compile(concepts: &[SourceFile], syncs: &[SourceFile]) -> Program {
    let compiled = concert_lang::compile(concepts, syncs);
    compiled.unwrap_or_else(|report| panic!("{report}")).0
}

fn specs_with_a_shop() -> Vec<SourceFile> {
    [specs(), read("crates/analysis/tests/golden/program", "concept")].concat()
}

/// Responses, fired rules and completed actions of all runs of all paths.
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
fn order_of_completions_does_not_change_the_results() {
    let cases = ["syncs", "crates/analysis/tests/golden/correct"];
    for syncs in cases.iter().flat_map(|dir| read(dir, "sync")) {
        let program = compile(&specs_with_a_shop(), std::slice::from_ref(&syncs));
        let (first, last) = (Schedule::FirstInFirstOut, Schedule::LastInFirstOut);
        assert_eq!(verdicts(&program, first), verdicts(&program, last), "{}", syncs.name);
    }
}

/// Diagnostics of rules, with a `Sessioning.create` that may fail.
fn reported(syncs: &str) -> String {
    let mut concepts = specs();
    for concept in &mut concepts {
        let create = "    create (user: User) : (session: Secret)\n";
        concept.text = concept
            .text
            .replace(create, &format!("{create}    create (user: User) : (error: String)\n"));
    }
    let syncs = [SourceFile::new("seed.sync", syncs)];
    let found = crate::verify(&concepts, &syncs);
    let (diagnostics, sources) = match found {
        Ok((_, warnings)) => (warnings, concepts.into_iter().chain(syncs).collect()),
        Err(report) => (report.diagnostics, report.sources),
    };
    concert_lang::diagnostics::render(&diagnostics, &sources)
}

const LOGIN: &str = r#"
sync HandleLoginRequest
when
    Requesting.request (path: "/auth/login", username, password) : (request)
then
    Profile.authenticate (username, password)

sync CreateSessionOnSuccessfulAuthentication
when
    Requesting.request (path: "/auth/login") : (request)
    Profile.authenticate () : (user)
then
    Sessioning.create (user) : (session)
    Requesting.respond (request, user, session)
"#;

const RESPOND_TO_FAILED_AUTHENTICATION: &str = r#"
sync RespondToFailedAuthentication
when
    Requesting.request (path: "/auth/login") : (request)
    Profile.authenticate () : (error)
then
    Requesting.respond (request, error)
"#;

#[test]
fn unhandled_failure_of_create_is_reported() {
    let found = reported(&format!("{LOGIN}{RESPOND_TO_FAILED_AUTHENTICATION}"));
    assert_eq!(found.matches("[C0").count(), 1, "{found}");
    assert!(found.contains("[C0501]") && found.contains("`Sessioning.create` fails"), "{found}");
    let found = reported(&format!(
        "{LOGIN}else (error)\n    Requesting.respond (request, error)\n{RESPOND_TO_FAILED_AUTHENTICATION}"
    ));
    assert_eq!(found, "");
}

#[test]
fn unhandled_wrong_password_is_reported() {
    let found =
        reported(&format!("{LOGIN}else (error)\n    Requesting.respond (request, error)\n"));
    assert_eq!(found.matches("[C0").count(), 1, "{found}");
    assert!(found.contains("`Profile.authenticate` fails\n"), "{found}");
}

#[test]
fn response_in_parallel_to_a_failing_action_is_reported() {
    let found = reported(
        r#"
sync HandleLogoutRequest
when
    Requesting.request (path: "/auth/logout", session) : (request)
then
    Sessioning.delete (session)

sync RespondToLogout
when
    Requesting.request (path: "/auth/logout") : (request)
then
    Requesting.respond (request, message: "Logged out successfully")

sync RespondToFailedLogout
when
    Requesting.request (path: "/auth/logout") : (request)
    Sessioning.delete () : (error)
then
    Requesting.respond (request, error)
"#,
    );
    assert_eq!(found.matches("[C0").count(), 1, "{found}");
    assert!(found.contains("[C0502]") && found.contains("`Sessioning.delete` fails"), "{found}");
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

/// Prints the time; it depends on the machine.
fn measure(name: &str, program: &Program) {
    let start = Instant::now();
    let mut diagnostics = Vec::new();
    judge(program, &[], &mut diagnostics);
    let took = start.elapsed();
    let (runs, actions) = runs(program);
    println!("{name}: {} rules, {runs} runs, {actions} actions, {took:?}", program.syncs.len());
    assert_eq!(diagnostics, []);
}

#[test]
fn a_thousand_rules_can_be_checked() {
    measure("the project", &compile(&specs(), &read("syncs", "sync")));
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
