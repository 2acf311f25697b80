//! The structural rules of ARCHITECTURE.md.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot read the project has failed"
)]

#[path = "structure/documents.rs"]
mod documents;
#[path = "structure/image.rs"]
mod image;
#[path = "structure/imports.rs"]
mod imports;
#[path = "structure/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use concert_tests::binaries::{cargo, root};
use serde_json::Value;

/// The crates in `crates/` without I/O, clock and randomness.
const PURE: [&str; 4] = ["wire", "lang", "engine", "analysis"];

/// Maximum number of files in an import cycle of a crate.
const MAX_CYCLE: usize = 5;

fn packages() -> Vec<Value> {
    let output = cargo()
        .into_std()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The direct dependencies of each package of the project, without those of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    packages()
        .iter()
        .map(|package| {
            let direct = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), direct.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

/// The folder of each package, relative to the root of the project.
fn folders() -> BTreeMap<String, String> {
    let project = root().canonicalize().unwrap();
    let folder = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap();
        folder.strip_prefix(&project).unwrap().display().to_string()
    };
    let packages = packages();
    packages.iter().map(|package| (text(&package["name"]), folder(package))).collect()
}

/// Returns whether a folder contains the worker of a concept.
fn is_worker(folder: &str) -> bool {
    folder.starts_with("workers/")
}

/// Returns whether a folder contains a part of the system, which uses the others only through
/// messages.
fn is_part(folder: &str) -> bool {
    is_worker(folder) || ["archive", "http-edge", "sync-router"].contains(&folder)
}

#[test]
fn pure_crates_do_no_io() {
    let all = dependencies();
    for pure in PURE {
        let package = format!("concert-{pure}");
        for impure in [
            "tokio",
            "futures-util",
            "async-nats",
            "mongodb",
            "axum",
            "getrandom",
            "rand",
            "fastrand",
            "nkeys",
            "concert-runtime",
            "tracing",
            "clap",
        ] {
            assert!(!all[&package].contains(impure), "{package} depends on {impure}");
        }
    }
    for file in PURE.iter().flat_map(|pure| sources(&format!("crates/{pure}/src"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        for banned in SURROUNDINGS {
            let is_test = file
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            assert!(is_test || !text.contains(banned), "{} uses {banned}", file.display());
        }
    }
}

/// Calls that make a source file depend on its environment.
const SURROUNDINGS: [&str; 7] =
    ["SystemTime", "Instant::now", "std::fs", "std::net", "std::env", "now_v7", "new_v4"];

/// All transitive runtime dependencies of a package.
fn tree(arguments: &[&str]) -> Vec<String> {
    let output = cargo()
        .into_std()
        .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_part_of_the_worker_does_no_io_and_runs_in_simulation() {
    let pure = tree(&["--package", "concert-worker", "--no-default-features"]);
    let simulation = tree(&["--package", "concert-simulation"]);
    for needed in ["concert-wire", "concert-lang"] {
        assert!(pure.iter().any(|package| package == needed), "{pure:?}");
    }
    assert!(simulation.iter().any(|package| package == "concert-worker"));
    for impure in ["tokio", "async-nats", "mongodb", "tracing", "concert-runtime"] {
        for packages in [&pure, &simulation] {
            assert!(packages.iter().all(|package| package != impure), "{impure}");
        }
    }
    let root = root().join("crates/worker/src");
    for name in ["intake.rs", "outcome.rs", "order.rs", "order/effects.rs", "sealing.rs"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for banned in SURROUNDINGS.iter().chain(&[
            "async fn",
            ".await",
            "tokio",
            "guard_disabled!",
            "chaos_point!",
        ]) {
            assert!(!text.contains(banned), "{name} uses {banned}");
        }
    }
}

#[test]
fn workers_depend_on_lang_but_not_on_engine() {
    let all = dependencies();
    let mut reached = BTreeSet::new();
    let mut waiting = vec!["concert-worker"];
    while let Some(package) = waiting.pop() {
        if reached.insert(package) {
            waiting.extend(all.get(package).into_iter().flatten().map(String::as_str));
        }
    }
    assert!(reached.contains("concert-lang"));
    for above in ["concert-engine", "concert-analysis"] {
        assert!(!reached.contains(above), "concert-worker depends on {above}");
    }
}

#[test]
fn import_cycles_stay_small() {
    let mut large = Vec::new();
    for package in packages() {
        let name = text(&package["name"]);
        for target in package["targets"].as_array().unwrap() {
            let kinds = target["kind"].as_array().unwrap();
            if kinds.iter().any(|kind| kind == "lib" || kind == "bin") {
                let cycles = imports::cycles(Path::new(&text(&target["src_path"])));
                let cycles = cycles.into_iter().filter(|cycle| cycle.len() > MAX_CYCLE);
                large.extend(cycles.map(|cycle| (name.clone(), cycle)));
            }
        }
    }
    assert!(large.is_empty(), "{large:#?}");
}

/// Checks the import cycles of a crate with these files.
#[track_caller]
fn check_cycles(files: &[(&str, &str)], expected: &[&[&str]]) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = imports::cycles(&dir.path().join("lib.rs"));
    let name =
        |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
    let found: Vec<Vec<String>> =
        found.iter().map(|cycle| cycle.iter().map(name).collect()).collect();
    assert_eq!(found, expected);
}

#[test]
fn import_cycle_is_found_for_every_import_syntax() {
    let lib = ("lib.rs", "mod a; mod b; mod c;");
    let c = ("c.rs", "pub struct C;");
    let back = ("b.rs", "use crate::a;");
    let cycle: &[&[&str]] = &[&["a.rs", "b.rs"]];
    for a in [
        "use crate::b;",
        "use super::{c::C, b::B as D};",
        "use super::b::*;",
        "fn f() { crate::b::g() }",
        "fn f() { use crate::b; }",
        "fn f() -> Vec<super::b::B> { Vec::new() }",
        "fn f() { assert!(1 == 1, \"{}\", crate::b::g()) }",
        "mod inner { fn f() { super::super::b::g() } }",
    ] {
        check_cycles(&[lib, ("a.rs", a), back, c], cycle);
    }
    check_cycles(
        &[
            ("lib.rs", "mod a; pub use a::f;"),
            ("a.rs", "mod b; pub fn f() { b::g() }"),
            ("a/b.rs", "use super::f;"),
        ],
        &[&["a/b.rs", "a.rs"]],
    );
}

#[test]
fn test_imports_and_re_exports_make_no_cycle() {
    let lib = ("lib.rs", "mod a; mod b; mod c; pub use c::C;");
    let c = ("c.rs", "pub struct C;");
    let back = ("b.rs", "use crate::a;");
    for a in [
        "#[cfg(test)] mod tests { use crate::b; }",
        "#[cfg(test)] mod tests;",
        "#[cfg(test)] use crate::b;",
        "use crate::C;",
        "/// See [`crate::b`].\npub struct A;",
    ] {
        check_cycles(&[lib, ("a.rs", a), back, c], &[]);
    }
}

#[test]
fn libraries_are_used_only_by_their_owners() {
    let owners: [(&str, &[&str]); 6] = [
        ("async-nats", &["concert-runtime", "concert-tests", "concert-chaos"]),
        (
            "mongodb",
            &[
                "concert-archive",
                "concert-runtime",
                "concert-worker",
                "concert-local-servers",
                "concert-tests",
                "concert-chaos",
            ],
        ),
        ("axum", &["concert-runtime", "concert-http-edge", "concert-benchmarks", "concert-tests"]),
        (
            "clap",
            &[
                "concert",
                "concert-profile",
                "concert-sessioning",
                "concert-chaos",
                "concert-faulty",
                "concert-benchmarks",
            ],
        ),
        ("hyper", &["concert-http-edge"]),
        ("argon2", &["concert-profile"]),
    ];
    for (package, direct) in dependencies() {
        for (library, allowed) in owners {
            assert!(
                allowed.contains(&package.as_str()) || !direct.contains(library),
                "{package} depends on {library}"
            );
        }
    }
}

#[test]
fn parts_do_not_depend_on_each_other() {
    let folders = folders();
    let is_part = |name: &String| {
        name == "concert" || folders.get(name).is_some_and(|folder| is_part(folder))
    };
    let mut parts = 0;
    for (name, direct) in dependencies() {
        parts += usize::from(is_part(&name));
        // The benchmark starts the whole program and measures single hashes and tokens. Chaos
        // starts it with other workers, the test worker reads its configuration, and an application
        // is built on it.
        let is_application =
            folders.get(&name).is_some_and(|folder| folder.starts_with("examples"));
        let of_the_project = ["concert", "concert-benchmarks", "concert-chaos", "concert-faulty"];
        if is_application || of_the_project.contains(&name.as_str()) {
            continue;
        }
        let others: Vec<&String> = direct.iter().filter(|other| is_part(other)).collect();
        assert_eq!(others, Vec::<&String>::new(), "{name} depends on them");
    }
    assert!(parts >= 6, "{parts}");
}

#[test]
fn concepts_depend_only_on_the_sdk_without_fault_injection() {
    let folders = folders();
    let mut workers = 0;
    for (name, direct) in dependencies() {
        if is_worker(&folders[&name]) {
            workers += 1;
            let ours: Vec<&String> =
                direct.iter().filter(|other| other.starts_with("concert")).collect();
            assert_eq!(ours, ["concert-worker"], "{name}");
        }
    }
    assert!(workers >= 2, "{workers}");
    for file in sources("workers") {
        let text = std::fs::read_to_string(&file).unwrap();
        for fault in ["guard_disabled!", "chaos_point!"] {
            assert!(!text.contains(fault), "{} uses {fault}", file.display());
        }
    }
}

#[test]
fn edge_contains_no_application_routes() {
    for file in sources("http-edge/src") {
        let text = std::fs::read_to_string(&file).unwrap();
        // The header of HTTP is not a route.
        let code = text.split("#[cfg(test)]").next().unwrap().replace("authorization", "");
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
fn cargo_runs_every_file_of_tests() {
    let tests = root().join("tests");
    let listed = ["Cargo.toml", "tests/main.rs"]
        .map(|file| std::fs::read_to_string(tests.join(file)).unwrap())
        .concat();
    let is_listed = |path: &PathBuf| {
        let name = path.strip_prefix(tests.join("tests")).unwrap().with_extension("");
        let name = name.to_str().unwrap();
        let module = name.strip_suffix("/main").unwrap_or(name);
        [format!("mod {module};"), format!("path = \"tests/{name}.rs\"")]
            .iter()
            .any(|line| listed.lines().any(|other| other == line))
    };
    let dirs = std::fs::read_dir(tests.join("tests")).unwrap();
    let files = dirs.map(|entry| entry.unwrap().path()).map(|path| match path.is_dir() {
        true => path.join("main.rs"),
        false => path,
    });
    let missing: Vec<PathBuf> = files.filter(|file| file.is_file() && !is_listed(file)).collect();
    assert!(missing.is_empty(), "add `mod NAME;` to tests/tests/main.rs: {missing:?}");
}

#[test]
fn files_have_specific_names_and_stay_below_the_size_limit() {
    let mut count = 0;
    for file in sources(".") {
        count += 1;
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            !["mod.rs", "utils.rs", "common.rs", "helpers.rs", "manager.rs"]
                .contains(&name.as_str()),
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
