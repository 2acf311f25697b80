//! The command line as a whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the program has failed")]

use std::path::Path;
use std::process::{Command, Output};

fn concert(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_concert"))
        .args(args)
        .envs(environment.iter().copied())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Kubernetes sets this variable for a service named `concert-nats`.
const OF_KUBERNETES: [(&str, &str); 1] = [("CONCERT_NATS_PORT", "tcp://10.0.0.1:4222")];

#[test]
fn variables_of_kubernetes_are_ignored() {
    let shown = concert(&["config", "show"], &OF_KUBERNETES);
    assert!(shown.status.success(), "{}", error(&shown));
    assert!(shown.stderr.is_empty(), "{}", error(&shown));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let port = shown.lines().find(|line| line.starts_with("nats.port ")).unwrap();
    assert!(port.ends_with(" default"), "{port}");
}

#[test]
fn invalid_variable_of_up_does_not_affect_other_commands() {
    let bad = [("CONCERT_MONGODB__PORT", "none")];
    let described = concert(&["describe", "openapi"], &bad);
    assert!(described.status.success(), "{}", error(&described));
    let up = concert(&["up"], &bad);
    assert_eq!(up.status.code(), Some(1), "{}", error(&up));
    assert!(
        error(&up).contains("CONCERT_MONGODB__PORT: mongodb.port: a number from 0 to 65535"),
        "{}",
        error(&up)
    );
}

#[test]
fn flags_without_a_command_are_flags_of_up() {
    let refused = concert(&["--nats-port", "none"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        error(&refused).contains(
            "flag --nats-port: nats.port: a number from 0 to 65535 is expected, not `none`"
        ),
        "{}",
        error(&refused)
    );
}

#[test]
fn unknown_worker_is_an_error_that_lists_the_known_ones() {
    let refused = concert(&["worker", "Profil"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        error(&refused)
            .contains("this program has no worker of `Profil`; it has Profile, Sessioning"),
        "{}",
        error(&refused)
    );
}

#[test]
fn bench_prints_the_command_that_replaces_it() {
    let moved = concert(&["bench", "--only", "login", "--help"], &[]);
    assert_eq!(moved.status.code(), Some(1));
    assert!(
        error(&moved)
            .contains("`cargo run --release -p concert-benchmarks -- --only login --help`"),
        "{}",
        error(&moved)
    );
}
