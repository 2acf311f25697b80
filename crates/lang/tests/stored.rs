//! Stored texts of active rules stay readable and keep their version.

use concert_lang::Texts;

/// Value of `rules.a93df77d26455ada` as stored by release 0.1.0.
const RELEASED: &str = include_str!("stored/rules.a93df77d26455ada.json");

#[test]
fn stored_texts_of_the_release_keep_their_version() {
    let texts: Texts = serde_json::from_str(RELEASED).unwrap();
    assert_eq!(texts.compile().unwrap().version, "a93df77d26455ada");
    assert_eq!(serde_json::to_string(&texts).unwrap(), RELEASED);
}
