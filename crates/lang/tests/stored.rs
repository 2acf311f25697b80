//! Stored texts of active rules stay readable and keep their version.

use concert_lang::Texts;

/// The value of `rules.a93df77d26455ada` as release 0.1.0 stores it.
const RELEASED: &str = include_str!("stored/rules.a93df77d26455ada.json");

#[test]
fn texts_that_the_release_stored_compile_to_the_same_version() {
    let texts: Texts = serde_json::from_str(RELEASED).unwrap();
    assert_eq!(texts.compile().unwrap().version, "a93df77d26455ada");
    assert_eq!(serde_json::to_string(&texts).unwrap(), RELEASED);
}
