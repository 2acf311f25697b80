use clap::ValueEnum as _;
use concert_lang::Texts;

use super::*;

/// A checkout with the directories of the SDKs.
fn sdk() -> SdkArgs {
    SdkArgs { sdk_path: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")) }
}

fn created(lang: Language) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("My App");
    new(&NewArgs { dir: dir.clone(), lang, sdk: sdk() }).unwrap();
    (root, dir)
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn new_application_has_no_warnings_and_needs_no_formatting() {
    for &lang in Language::value_variants() {
        let (_root, dir) = created(lang);
        let settings = config::of_rules(Some(&dir), &[]).unwrap();
        let Texts { concepts, syncs } = concert_sync_router::read(&settings.rules).unwrap();
        let (program, warnings) = concert_analysis::verify(&concepts, &syncs).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(program.routes.routes.len(), 3);
        for source in syncs {
            assert_eq!(concert_lang::format(&source).unwrap(), source.text);
        }
        assert!(text(&dir, FILE).contains("name = \"my-app\""));
        let readme = text(&dir, "README.md");
        assert!(readme.starts_with("# my-app\n"));
        for path in walk(&dir) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                !text.contains('@')
                    || path.extension().is_some_and(|of| of == "json" || of == "txt" || of == "py"),
                "{}",
                path.display()
            );
            for marker in ["@APP@", "@SDK@", "@INSTALL@", "@TEST@", "@WORKERS@", "@IGNORE@"] {
                assert!(!text.contains(marker), "{}: {marker}", path.display());
            }
        }
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn directory_that_is_not_empty_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "").unwrap();
    let args = NewArgs { dir: dir.path().to_owned(), lang: Language::Python, sdk: sdk() };
    let error = new(&args).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    let args = NewArgs {
        dir: dir.path().join("b"),
        sdk: SdkArgs { sdk_path: Some(dir.path().to_owned()) },
        ..args
    };
    let error = new(&args).unwrap_err().to_string();
    assert!(error.contains("no directory sdk/python") && error.contains("--sdk-path"), "{error}");
}

#[test]
fn sdk_for_typescript_is_built_once() {
    let dir = tempfile::tempdir().unwrap();
    let commands = Language::TypeScript.build_of_sdk(dir.path());
    assert!(commands[0].ends_with("sdk/typescript && npm ci && npm run build)"), "{commands:?}");
    fs::create_dir_all(dir.path().join("sdk/typescript/dist")).unwrap();
    assert!(Language::TypeScript.build_of_sdk(dir.path()).is_empty());
    assert!(Language::Python.build_of_sdk(&dir.path().join("missing")).is_empty());
}

#[test]
fn worker_section_keeps_comments_and_layout() {
    let before = "# A comment.\n[app]\nname   =  \"a\" # name\n\n[workers]\nattempts = 3\n";
    let name: ConceptName = "FocusStats".parse().unwrap();
    let after = with_worker(before, &name, Language::Python).unwrap();
    let expected = "\n[workers.FocusStats]\n\
        command = [\".venv/bin/python\", \"workers/focus_stats.py\"]\n\
        watch = [\"workers/focus_stats.py\", \"requirements.txt\"]\n";
    assert_eq!(after, format!("{before}{expected}"));
    let error = with_worker(&after, &name, Language::Python).unwrap_err().to_string();
    assert!(error.contains("`workers.FocusStats` exists"), "{error}");
    let empty = with_worker("", &name, Language::Rust).unwrap();
    assert!(empty.starts_with("[workers.FocusStats]\n"), "{empty}");
}

#[test]
fn templates_are_renamed_to_any_concept() {
    for (name, file) in [
        ("Comment", "comment"),
        ("FocusStats", "focus-stats"),
        ("URL", "url"),
        ("Footnote", "footnote"),
    ] {
        let name: ConceptName = name.parse().unwrap();
        let dir = Path::new("");
        let files = of_concept(dir, dir, dir, &name, Language::TypeScript).unwrap();
        let paths: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
        let expected = [
            format!("{name}.concept"),
            format!("{file}.sync"),
            format!("workers/{file}.ts"),
            format!("tests/{file}.test.ts"),
        ];
        assert_eq!(paths, expected);
        for file in &files {
            let text = file.text.to_lowercase().replace("footnote", "");
            assert!(!text.contains("note"), "{text}");
        }
        let source = |file: &NewFile| SourceFile::new(file.path.display().to_string(), &*file.text);
        let concepts = [concert_lang::requesting::source(), source(&files[0])];
        let (_, warnings) = concert_analysis::verify(&concepts, &[source(&files[1])]).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn names_are_split_into_words() {
    for (name, expected) in [("Note", "note"), ("FocusStats", "focus stats"), ("URLs2", "urls2")] {
        assert_eq!(words(name).join(" "), expected);
    }
}
