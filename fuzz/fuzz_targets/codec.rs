//! Any bytes as a message: decoding does not panic, and encoding a decoded message preserves it.

#![no_main]

use concert_wire::envelope::{Completion, encode};
use concert_wire::id::ActionId;
use concert_wire::subject::{self, CompletionSubject};
use concert_wire::value::{canonical, equal, value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = value(bytes) {
        let written = serde_json::to_vec(&read).unwrap();
        let again = value(&written).unwrap();
        assert!(equal(&read, &again), "{read} {again}");
        assert_eq!(canonical(&read), canonical(&again));
        // The canonical form is only for comparison. It writes a large double as an integer, which
        // a message may not contain.
        let in_canonical_form: serde_json::Value = serde_json::from_str(&canonical(&read)).unwrap();
        assert!(equal(&read, &in_canonical_form), "{read} {in_canonical_form}");
        assert_eq!(canonical(&in_canonical_form), canonical(&read));
    }
    if let Ok(read) = Completion::decode(bytes) {
        assert_eq!(Completion::decode(&encode(&read)).as_ref(), Ok(&read));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = CompletionSubject::parse(text) {
        let CompletionSubject { flow, concept, action, id, .. } = read;
        let written = subject::completion(flow, concept.as_str(), action.as_str(), id);
        assert_eq!(written, text, "one action, two subjects");
    }
    if let Ok(read) = text.parse::<ActionId>() {
        assert_eq!(read.to_string(), text, "one id, two forms");
    }
});
