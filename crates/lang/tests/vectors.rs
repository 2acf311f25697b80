//! Compares specs with the test vectors of the worker protocol, which the SDKs also read.

use concert_lang::concept::parse_one;
use concert_lang::spec::check_input;
use serde_json::Value;

#[expect(clippy::unwrap_used, reason = "invalid vectors fail the tests")]
fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/protocol/vectors.json")).unwrap()
}

#[test]
fn null_and_missing_keys_are_checked_as_in_the_vectors() {
    let vectors = vectors();
    for list in vectors["parameters"].as_array().unwrap() {
        let text = list["text"].as_str().unwrap();
        let spec = format!("concept Of\nactions\n    take {text} : ()\n");
        let spec = parse_one("Of.concept", &spec).unwrap();
        for check in list["checks"].as_array().unwrap() {
            let value = check["value"].as_object().unwrap();
            let found = check_input(&spec.actions[0].input, value);
            let found = found.err().map(|mistakes| mistakes.to_string());
            assert_eq!(found.as_deref(), check["mistakes"].as_str(), "{text} {value:?}");
        }
    }
}

#[test]
fn signatures_and_hashes_of_specs_equal_the_vectors() {
    let vectors = vectors();
    let specs = vectors["specs"].as_array().unwrap();
    assert!(!specs.is_empty());
    for of in specs {
        let spec = parse_one("Spec.concept", of["text"].as_str().unwrap()).unwrap();
        assert_eq!(spec.signature(), of["signature"]);
        assert_eq!(spec.hash(), of["hash"].as_str().unwrap());
    }
}
