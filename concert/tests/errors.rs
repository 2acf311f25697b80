//! Reports of errors in specs and rules, by all commands.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the program has failed")]

use std::path::Path;
use std::process::{Command, Output};

const BROKEN_RULE: &str =
    "sync Broken\nwhen\n    Profle.authenticate ()\nthen\n    Sessioning.create (usr: 5)\n";

const SPEC: &str = "concept A\npurpose to be read\nactions\n    act (x: Flag) : (x: Flag)\n";

/// An application directory with these files.
fn application(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn concert(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concert"));
    command.args(args).current_dir(dir).output().unwrap()
}

/// Every command reports the error once, after its own line that says which step failed.
#[track_caller]
fn check(files: &[(&str, &str)], commands: &[&[&str]], report: &str) {
    let dir = application(files);
    for args in commands {
        let output = concert(dir.path(), args);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.lines().any(|line| line.starts_with(report)), "{args:?}: {text}");
        assert!(!text.contains("error: error"), "{args:?}: {text}");
    }
}

#[test]
fn error_in_a_rule_has_one_prefix() {
    let files = [("concepts/A.concept", SPEC), ("syncs/a.sync", BROKEN_RULE)];
    let commands: &[&[&str]] =
        &[&["up"], &["check"], &["graph"], &["explain", "/a"], &["describe", "openapi"]];
    check(&files, commands, "error[C0201]");
}

#[test]
fn error_in_a_spec_has_one_prefix() {
    let files = [("concepts/A.concept", "concept"), ("syncs/a.sync", BROKEN_RULE)];
    let commands: &[&[&str]] =
        &[&["up"], &["check"], &["graph"], &["setup"], &["keys", "--keys", "own", "list"]];
    check(&files, commands, "error[C0");
}

#[test]
fn syntax_error_in_fmt_has_one_prefix() {
    check(&[("syncs/a.sync", "sync")], &[&["fmt"], &["fmt", "--check"]], "error[C0");
}
