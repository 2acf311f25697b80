//! Rules and specs with errors, one pair of files per case: input and expected diagnostics.
//! `CONCERT_BLESS=1` rewrites the expected files.
//!
//! A case is a `.sync` file, checked with the project's specs, or a `.concept` file, checked alone.
//! `golden/program` has programs with errors of the whole program, and `golden/correct` has correct
//! ones; both also use the concept `Shop`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files fails")]

#[path = "../../lang/tests/files/project.rs"]
mod project;
#[path = "../../lang/tests/files/specs.rs"]
mod specs;

use std::path::{Path, PathBuf};

use concert_analysis::verify;
use concert_lang::compile;
use concert_lang::diagnostics::render;
use concert_lang::source::SourceFile;
use concert_wire::routes::{RouteKey, ValueType};

use crate::project::{files, paths, read, root};
use crate::specs::specs;

const GOLDEN: &str = "crates/analysis/tests/golden";
const PROGRAMS: &str = "crates/analysis/tests/golden/program";
const CORRECT: &str = "crates/analysis/tests/golden/correct";

/// All diagnostics of a case, as text.
fn rendered(case: &Path, specs: Vec<SourceFile>) -> String {
    let (concepts, syncs) = match case.extension().and_then(|extension| extension.to_str()) {
        Some("concept") => (vec![read(case)], vec![]),
        _ => (specs, vec![read(case)]),
    };
    match verify(&concepts, &syncs) {
        Ok((_, warnings)) => {
            let sources: Vec<SourceFile> = concepts.into_iter().chain(syncs).collect();
            render(&warnings, &sources)
        }
        Err(report) => report.to_string(),
    }
}

fn specs_with_a_shop() -> Vec<SourceFile> {
    let shop = files(PROGRAMS, "concept");
    specs().into_iter().chain(shop).collect()
}

#[test]
fn broken_files_are_reported_as_expected() {
    let cases = [paths(GOLDEN, "sync"), paths(GOLDEN, "concept")].concat();
    assert!(cases.len() >= 45, "{}", cases.len());
    check_all(cases, &specs());
}

#[test]
fn broken_programs_are_reported_with_a_run() {
    let cases = paths(PROGRAMS, "sync");
    assert!(cases.len() >= 25, "{}", cases.len());
    check_all(cases, &specs_with_a_shop());
}

#[test]
fn correct_programs_raise_nothing() {
    let cases = paths(CORRECT, "sync");
    assert!(cases.len() >= 15, "{}", cases.len());
    let found: Vec<String> = cases.iter().map(|case| rendered(case, specs_with_a_shop())).collect();
    assert_eq!(found.concat(), "");
}

fn check_all(cases: Vec<PathBuf>, specs: &[SourceFile]) {
    let mut different = Vec::new();
    for case in cases {
        let found = rendered(&case, specs.to_vec());
        assert!(!found.is_empty(), "{} raises nothing", case.display());
        let expected_file = case
            .with_extension(format!("{}.expected", case.extension().unwrap().to_string_lossy()));
        if std::env::var_os("CONCERT_BLESS").is_some() {
            std::fs::write(&expected_file, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if found != expected {
            different.push(format!("{}:\n{found}", case.display()));
        }
    }
    assert!(different.is_empty(), "not as expected:\n{}", different.join("\n"));
}

#[test]
fn project_rules_raise_nothing() {
    let mut syncs: Vec<SourceFile> = files("syncs", "sync");
    let verified =
        |syncs: &[SourceFile]| verify(&specs(), syncs).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(verified(&syncs).1, []);
    // The rules of accounts and sessions do not depend on the others.
    syncs.retain(|file| file.name.ends_with("auth.sync") || file.name.ends_with("sessions.sync"));
    let (program, warnings) = verified(&syncs);
    assert_eq!(warnings, []);
    let names: Vec<&str> = program.syncs.iter().map(|sync| &*sync.name).collect();
    assert_eq!(
        names,
        [
            "ChangePassword",
            "CreateSessionOnSuccessfulAuthentication",
            "DeleteAccount",
            "EndSession",
            "EndSessionsOfDeletedAccount",
            "HandleCreateAccountRequest",
            "HandleLoginRequest",
            "HandleLogoutRequest",
            "ListSessions",
            "LogoutEverywhere",
            "RespondToFailedAuthentication",
            "RespondToFailedLogout",
            "RespondToNameTakenMeanwhile",
            "RespondToRefusedAccount",
            "WhoAmI"
        ]
    );
    let secret = |chars: u32| RouteKey {
        required: true,
        secret: true,
        kind: ValueType::BoundedSecret(chars),
    };
    let (password, session) = (secret(2048), secret(43));
    let text = |chars: u32| RouteKey {
        required: true,
        secret: false,
        kind: ValueType::BoundedString(chars),
    };
    let name = text(255);
    let id = RouteKey { required: true, secret: false, kind: ValueType::Id("Session".to_owned()) };
    let after = RouteKey { required: false, ..text(64) };
    let routes: Vec<(&str, Vec<(&str, &RouteKey)>)> = program
        .routes
        .routes
        .iter()
        .map(|(path, route)| {
            (path.as_str(), route.keys.iter().map(|(name, key)| (name.as_str(), key)).collect())
        })
        .collect();
    assert_eq!(
        routes,
        [
            (
                "/auth/changePassword",
                vec![("newPassword", &password), ("oldPassword", &password), ("session", &session)]
            ),
            ("/auth/createAccount", vec![("password", &password), ("username", &name)]),
            ("/auth/deleteAccount", vec![("password", &password), ("session", &session)]),
            ("/auth/endSession", vec![("id", &id), ("session", &session)]),
            ("/auth/login", vec![("password", &password), ("username", &name)]),
            ("/auth/logout", vec![("session", &session)]),
            ("/auth/logoutEverywhere", vec![("session", &session)]),
            ("/auth/sessions", vec![("after", &after), ("session", &session)]),
            ("/auth/whoami", vec![("session", &session)]),
        ]
    );
}

#[test]
fn version_depends_on_texts_but_not_on_their_order() {
    let mut specs = specs();
    let rule = |path: &str| {
        SourceFile::new(
            "r.sync",
            format!(
                "sync R\nwhen\n    Requesting.request (path: \"{path}\") : (request)\nthen\n    Requesting.respond (request)\n"
            ),
        )
    };
    let version = |specs: &[SourceFile], path: &str| {
        compile(specs, &[rule(path)]).map(|(program, _)| program.version).unwrap()
    };
    let before = version(&specs, "/a");
    specs.reverse();
    assert_eq!(version(&specs, "/a"), before);
    assert_ne!(version(&specs, "/b"), before);
}

/// Code blocks of a language in a document.
fn examples(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn documented_examples_are_correct() {
    let rules = examples("docs/rules.md", "sync");
    assert!(rules.len() >= 6);
    let own = examples("docs/rules.md", "concept").into_iter();
    let specs: Vec<SourceFile> =
        specs().into_iter().chain(own.map(|spec| SourceFile::new("docs/rules.md", spec))).collect();
    for rule in &rules {
        let compiled = verify(&specs, &[SourceFile::new("docs/rules.md", rule.as_str())]);
        let (_, warnings) = compiled.unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(warnings, []);
    }
    let specs = examples("docs/rules.md", "concept");
    assert_eq!(specs.len(), 1);
    for spec in &specs {
        let parsed = concert_lang::concept::parse_one("docs/rules.md", spec)
            .unwrap_or_else(|report| panic!("{report}"));
        let effects: Vec<(&str, bool)> =
            parsed.actions.iter().map(|action| (&*action.name, action.has_effects)).collect();
        assert_eq!(effects, [("shelve", true), ("count", false)]);
    }
    // The rule in the README is the project's own.
    let shown =
        examples("README.md", "").into_iter().find(|block| block.starts_with("sync ")).unwrap();
    let own = std::fs::read_to_string(root().join("syncs/auth.sync")).unwrap();
    assert!(own.contains(shown.trim()));
}
