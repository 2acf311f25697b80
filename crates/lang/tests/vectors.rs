//! Compares specs with the test vectors of the worker protocol, which the SDKs also read.

use concert_lang::concept::parse_one;
use serde_json::Value;

#[test]
fn signatures_and_hashes_of_specs_equal_the_vectors() {
    let text = include_str!("../../../docs/protocol/vectors.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let specs = vectors["specs"].as_array().unwrap();
    assert!(!specs.is_empty());
    for of in specs {
        let spec = parse_one("Spec.concept", of["text"].as_str().unwrap()).unwrap();
        assert_eq!(spec.signature(), of["signature"]);
        assert_eq!(spec.hash(), of["hash"].as_str().unwrap());
    }
}
