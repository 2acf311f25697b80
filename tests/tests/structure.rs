//! What must not exist, as ARCHITECTURE.md says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the project has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use concert_tests::binaries::{cargo, root};
use serde_json::Value;

/// Each package of the project with what it depends on directly, outside tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = cargo()
        .into_std()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    packages
        .iter()
        .map(|package| {
            let direct = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (
                text(&package["name"]),
                direct.map(|dependency| text(&dependency["name"])).collect(),
            )
        })
        .collect()
}

#[test]
fn the_pure_crates_know_no_io() {
    let all = dependencies();
    for pure in ["concert-wire", "concert-rules"] {
        for impure in [
            "tokio",
            "async-nats",
            "mongodb",
            "axum",
            "getrandom",
            "rand",
            "concert-runtime",
            "tracing",
            "clap",
        ] {
            assert!(!all[pure].contains(impure), "{pure} depends on {impure}");
        }
    }
    for file in sources("crates/wire/src")
        .into_iter()
        .chain(sources("crates/rules/src"))
    {
        let text = std::fs::read_to_string(&file).unwrap();
        for banned in [
            "SystemTime",
            "Instant::now",
            "std::fs",
            "std::net",
            "std::env",
            "now_v7",
            "new_v4",
        ] {
            let is_test = file
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            assert!(is_test || !text.contains(banned), "{} uses {banned}", file.display());
        }
    }
}

#[test]
fn only_its_owner_uses_a_library() {
    let owners: [(&str, &[&str]); 5] = [
        ("async-nats", &["concert-runtime", "concert-tests", "concert-chaos"]),
        (
            "mongodb",
            &[
                "concert-archive",
                "concert-runtime",
                "concert-worker",
                "concert-profile",
                "concert-sessioning",
                "concert-local-servers",
                "concert-tests",
                "concert-chaos",
            ],
        ),
        (
            "axum",
            &["concert-runtime", "concert-http-edge", "concert", "concert-tests"],
        ),
        ("hyper", &["concert-http-edge"]),
        ("argon2", &["concert-profile"]),
    ];
    for (package, direct) in dependencies() {
        for (library, allowed) in owners {
            assert!(
                !direct.contains(library) || allowed.contains(&package.as_str()),
                "{package} depends on {library}"
            );
        }
    }
}

#[test]
fn no_part_depends_on_another_part() {
    let parts = [
        "concert-archive",
        "concert-http-edge",
        "concert-sync-router",
        "concert-profile",
        "concert-sessioning",
        "concert-workers",
        "concert",
    ];
    for (package, direct) in dependencies() {
        let allowed: &[&str] = match package.as_str() {
            "concert" => &parts,
            "concert-workers" => &["concert-profile", "concert-sessioning"],
            _ => &[],
        };
        for part in parts {
            assert!(
                !direct.contains(part) || allowed.contains(&part),
                "{package} depends on {part}"
            );
        }
    }
}

#[test]
fn the_edge_knows_no_route_of_the_application() {
    for file in sources("http-edge/src") {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["auth", "login", "logout", "Profile", "Sessioning", "username"] {
            let lines: Vec<&str> = code
                .lines()
                .filter(|line| line.contains(word) && !line.trim_start().starts_with("//"))
                .collect();
            assert_eq!(lines, Vec::<&str>::new(), "{} knows `{word}`", file.display());
        }
    }
}

#[test]
fn files_are_named_after_what_they_hold_and_stay_comfortable() {
    let mut count = 0;
    for file in sources(".") {
        count += 1;
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            !["mod.rs", "utils.rs", "common.rs", "helpers.rs", "manager.rs"].contains(&name.as_str()),
            "{}",
            file.display()
        );
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.display());
    }
    assert!(count > 60, "{count}");
}

/// The Rust files below a directory of the project.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(dir)];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
