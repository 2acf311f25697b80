use super::*;

/// Compares generated types with files that the tests of the SDKs compile. `CONCERT_BLESS=1`
/// rewrites the files.
fn check(spec: &str, language: Language, expected: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let types = of_file(&root.join(spec), language).unwrap();
    let expected = root.join(expected);
    if std::env::var_os("CONCERT_BLESS").is_some() {
        fs::write(&expected, &types).unwrap();
    }
    let file = expected.display();
    let found = fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(found, types, "{file} differs; run the test with CONCERT_BLESS=1 to rewrite it");
}

#[test]
fn types_of_all_kinds() {
    let spec = "sdk/tests/types/Everything.concept";
    check(spec, Language::TypeScript, "sdk/typescript/tests/everything-types.ts");
    check(spec, Language::Python, "sdk/python/tests/everything_types.py");
}

#[test]
fn types_of_a_worker() {
    let spec = "sdk/tests/counters/concepts/Counter.concept";
    check(spec, Language::TypeScript, "sdk/typescript/tests/counter-types.ts");
    check(spec, Language::Python, "sdk/python/tests/counter_types.py");
}

#[test]
fn missing_or_invalid_spec_is_an_error() {
    let error = of_file(Path::new("Absent.concept"), Language::Python).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the spec Absent.concept; `concert gen` reads `rules.concepts`"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Note.concept");
    fs::write(&path, "concept Note\nactions\n    create (a:) : ()\n").unwrap();
    let error = of_file(&path, Language::TypeScript).unwrap_err();
    assert!(error.to_string().contains("Note.concept:3"), "{error}");
}
