//! Runs `concert check` as a process.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the program has failed")]

use std::path::Path;
use std::process::{Command, Output};

fn check(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_concert"))
        .arg("check")
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory with these rules, to be checked with the project's specs.
fn rules(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("syncs")).unwrap();
    std::fs::write(dir.path().join("syncs/a.sync"), text).unwrap();
    dir
}

fn check_rules(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.display().to_string();
    check(&[&[dir.as_str(), "--concepts", "concepts"], more].concat())
}

const BROKEN: &str =
    "sync Broken\nwhen\n    Profle.authenticate ()\nthen\n    Sessioning.create (usr: 5)\n";
const DOUBTFUL: &str = "sync Doubtful\nwhen\n    Requesting.request (path: \"/a\", b?) : (request)\nthen\n    Requesting.respond (request)\n";

#[test]
fn rules_of_the_project_have_no_errors() {
    let output = check(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).starts_with("no errors: "), "{output:?}");
}

#[test]
fn all_errors_are_reported_without_colours_in_a_pipe() {
    let dir = rules(BROKEN);
    let output = check_rules(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for part in
        ["C0201", "did you mean `Profile`?", "C0203", "C0204", "a.sync:3:5", "errors, 0 warnings"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\x1b'));
    assert!(stdout(&check_rules(dir.path(), &["--color", "always"])).contains("\x1b["));
}

#[test]
fn deny_warnings_turns_warnings_into_failure() {
    let dir = rules(DOUBTFUL);
    let output = check_rules(dir.path(), &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("0 errors, 1 warning: 1 rule"), "{output:?}");
    let denied = check_rules(dir.path(), &["--deny-warnings"]);
    assert_eq!(denied.status.code(), Some(1));
}

#[test]
fn json_format_contains_code_position_and_page() {
    let dir = rules(BROKEN);
    let output = check_rules(dir.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &document["diagnostics"][0];
    assert_eq!(first["code"], "C0201");
    assert_eq!(first["severity"], "error");
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &5.into()));
    assert_eq!((&first["end_line"], &first["end_column"]), (&3.into(), &11.into()));
    assert_eq!(first["help"], "did you mean `Profile`?");
    assert_eq!(first["page"], "docs/codes/C0201.md");
    assert_eq!(document["errors"], document["diagnostics"].as_array().unwrap().len());
}

#[test]
fn github_format_is_annotations() {
    let dir = rules(BROKEN);
    let output = check_rules(dir.path(), &["--format", "github"]);
    let text = stdout(&output);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("::error file="), "{first}");
    assert!(
        first.ends_with(",line=3,col=5,endLine=3,endColumn=11,title=C0201::unknown concept `Profle`%0Ahelp: did you mean `Profile`?"),
        "{first}"
    );
}

#[test]
fn application_directory_is_found_from_a_directory_below() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/codes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_concert"));
    let output = command.arg("check").current_dir(docs).output().unwrap();
    assert!(stdout(&output).starts_with("no errors: "), "{output:?}");
}

#[test]
fn missing_or_empty_directory_is_an_error() {
    let missing = check(&["/nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot read /nowhere/syncs"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("syncs")).unwrap();
    let empty = check_rules(dir.path(), &[]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("has no file that ends with .sync"));
}

#[test]
fn settings_of_the_application_name_the_directories() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(dir.path().join("rules/a.sync"), DOUBTFUL).unwrap();
    // There is no directory of specs.
    std::fs::write(dir.path().join("concert.toml"), "[rules]\nsyncs = \"rules\"\n").unwrap();
    let output = check(&[&dir.path().display().to_string()]);
    assert!(stdout(&output).contains("1 rule"), "{output:?}");
    let formatted = |dir: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_concert"));
        command.args(["fmt", "--check"]).current_dir(dir).output().unwrap()
    };
    assert!(formatted(dir.path()).status.success());
    std::fs::write(dir.path().join("rules/a.sync"), format!("{DOUBTFUL}\n\n")).unwrap();
    assert!(stdout(&formatted(dir.path())).contains("rules/a.sync"));
    std::fs::write(dir.path().join("concert.toml"), "[rules]\nsync = \"rules\"\n").unwrap();
    let output = check(&[&dir.path().display().to_string()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean"), "{output:?}");
}

#[test]
fn subdirectories_are_checked_and_hidden_files_skipped() {
    let dir = rules(DOUBTFUL);
    let syncs = dir.path().join("syncs");
    std::fs::write(syncs.join(".#a.sync"), BROKEN).unwrap();
    std::fs::write(syncs.join("._a.sync"), BROKEN).unwrap();
    assert!(check_rules(dir.path(), &[]).status.success());
    std::fs::create_dir(syncs.join("admin")).unwrap();
    std::fs::write(syncs.join("admin/b.sync"), BROKEN).unwrap();
    let output = check_rules(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("syncs/admin/b.sync:3:5"), "{output:?}");
}

#[test]
fn concept_without_a_worker_causes_a_warning() {
    let dir = rules(
        "sync Greets\nwhen\n    Requesting.request (path: \"/greet\", x) : (request)\nthen\n    Greeting.greet (x)\n    Requesting.respond (request)\n",
    );
    let spec = "concept Greeting\npurpose to greet\nactions\n    greet (x: String) : (x: String)\n";
    std::fs::create_dir(dir.path().join("concepts")).unwrap();
    std::fs::write(dir.path().join("concepts/Greeting.concept"), spec).unwrap();
    let output = check(&[&dir.path().display().to_string(), "--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(
        warned.contains(
            "the rules use the concept `Greeting`, and this program has no worker for it"
        ),
        "{warned}"
    );
    assert!(check(&[]).stderr.is_empty(), "the project has all of its workers");
    let external = "[workers.Greeting]\nexternal = true\n";
    std::fs::write(dir.path().join("concert.toml"), external).unwrap();
    let output = check(&[&dir.path().display().to_string()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
