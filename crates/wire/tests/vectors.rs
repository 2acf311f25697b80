//! Compares this crate with the test vectors of the worker protocol, which the SDKs also read.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the vectors fails"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_wire::id::{ActionId, FiringId, FlowId, uuid_v5};
use concert_wire::keyring::Keyring;
use concert_wire::large::blob::{CHUNK_BYTES, Writer};
use concert_wire::large::{Place, holds_reference};
use concert_wire::routes::ValueType;
use concert_wire::seal::{SealError, Sealer};
use concert_wire::subject::{self, InvocationSubject};
use concert_wire::value::{canonical, equal, object, value};
use concert_wire::{header, name::ConceptName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn vectors(section: &str) -> Value {
    let text = include_str!("../../../docs/protocol/vectors.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    vectors[section].clone()
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty(), "a list of vectors is empty");
    list
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number<N: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value) -> N {
    value.as_u64().unwrap().try_into().unwrap()
}

fn flow(value: &Value) -> FlowId {
    text(value).parse().unwrap()
}

fn action(value: &Value) -> ActionId {
    text(value).parse().unwrap()
}

#[test]
fn ids_equal_the_vectors() {
    let ids = vectors("ids");
    for accepted in list(&ids["accepted"]) {
        assert_eq!(flow(accepted).to_string(), text(accepted));
    }
    for rejected in list(&ids["rejected"]) {
        assert!(text(rejected).parse::<FlowId>().is_err(), "{rejected}");
    }
    for of in list(&ids["uuidV5"]) {
        let id = uuid_v5(&flow(&of["namespace"]).uuid(), text(&of["name"]).as_bytes());
        assert_eq!(id.to_string(), text(&of["id"]));
    }
    let mut firings = Vec::new();
    for of in list(&ids["firings"]) {
        let causes = of["causes"].as_array().unwrap().iter().map(action);
        firings.push(FiringId::of(flow(&of["flow"]), text(&of["rule"]), causes));
        assert_eq!(firings.last().unwrap().to_string(), text(&of["id"]));
    }
    for of in list(&ids["calls"]) {
        let firing = text(&of["firing"]).parse().unwrap();
        let id = ActionId::of_call(firing, number(&of["frame"]), number(&of["position"]));
        assert!(firings.contains(&firing));
        assert_eq!(id, action(&of["id"]));
    }
    for of in list(&ids["injected"]) {
        let timestamp_ns = text(&of["timestampNs"]).parse().unwrap();
        let id = ActionId::injected(text(&of["stream"]), number(&of["sequence"]), timestamp_ns);
        assert_eq!(id, action(&of["id"]));
    }
    for of in list(&ids["createdBefore"]) {
        assert_eq!(json!(flow(&of["flow"]).created_before_ms()), of["ms"]);
    }
}

#[test]
fn seals_equal_the_vectors() {
    let seals = vectors("seals");
    let keys: Vec<&str> = list(&seals["keys"]).iter().map(text).collect();
    let sealer = Sealer::new(Keyring::parse(&keys.join("\n")).unwrap());
    for of in list(&seals["sealed"]) {
        let sealed = sealer.seal(flow(&seals["flow"]), text(&of["text"]));
        assert_eq!(sealed, text(&of["sealed"]));
        let opened = sealer.open(flow(&seals["flow"]), &sealed).unwrap();
        assert_eq!(opened.expose(), text(&of["text"]));
    }
    for of in list(&seals["opened"]) {
        let opened = sealer.open(flow(&of["flow"]), text(&of["sealed"])).unwrap();
        assert_eq!(opened.expose(), text(&of["text"]));
    }
    for of in list(&seals["notOpened"]) {
        let error = match sealer.open(flow(&of["flow"]), text(&of["sealed"])).unwrap_err() {
            SealError::UnknownKey => "unknownKey",
            SealError::Form | SealError::Broken => "notASeal",
        };
        assert_eq!(error, text(&of["error"]), "{of}");
    }
}

#[test]
fn values_equal_the_vectors() {
    let values = vectors("values");
    for of in list(&values["objects"]) {
        let read = Value::Object(object(text(&of["text"]).as_bytes()).unwrap());
        assert_eq!(canonical(&read), text(&of["canonical"]));
    }
    for rejected in list(&values["rejected"]) {
        assert!(object(text(rejected).as_bytes()).is_err(), "{rejected}");
    }
    let read = |of: &Value| value(text(of).as_bytes()).unwrap();
    for pair in list(&values["equal"]) {
        assert!(equal(&read(&pair[0]), &read(&pair[1])), "{pair}");
        assert_eq!(canonical(&read(&pair[0])), canonical(&read(&pair[1])));
    }
    for pair in list(&values["different"]) {
        assert!(!equal(&read(&pair[0]), &read(&pair[1])), "{pair}");
    }
}

#[test]
fn types_accept_and_reject_the_vectors() {
    let types = vectors("types");
    for of in list(&types) {
        let kind: ValueType = serde_json::from_value(of["type"].clone()).unwrap();
        for accepted in of["accepts"].as_array().unwrap() {
            assert!(kind.accepts(accepted), "{kind:?}: {accepted}");
        }
        for rejected in of["rejects"].as_array().unwrap() {
            assert!(!kind.accepts(rejected), "{kind:?}: {rejected}");
        }
    }
}

#[test]
fn subjects_and_headers_equal_the_vectors() {
    let subjects = vectors("subjects");
    let of = |key: &str| subjects[key].clone();
    let names = |of: &Value, second: &str| (of["concept"].clone(), of[second].clone());
    let (concept, name) = names(&of("invocation"), "action");
    let id = action(&of("invocation")["id"]);
    let (concept, name) = (text(&concept), text(&name));
    assert_eq!(subject::invocation(concept, name, id), text(&of("invocation")["subject"]));
    let completion = subject::completion(flow(&of("completion")["flow"]), concept, name, id);
    assert_eq!(completion, text(&of("completion")["subject"]));
    let concept: ConceptName = concept.parse().unwrap();
    for of in list(&of("dead")) {
        let action = of["action"].as_str().map(|name| name.parse().unwrap());
        assert_eq!(subject::dead(&concept, action.as_ref()), text(&of["subject"]));
    }
    let service = of("service");
    assert_eq!(
        subject::service(concept.as_str(), text(&service["name"])),
        text(&service["subject"])
    );
    let stream = json!({
        "concept": concept.as_str(),
        "stream": subject::actions_stream(&concept),
        "consumer": subject::WORKERS,
        "notes": subject::notes_bucket(concept.as_str()),
    });
    assert_eq!(stream, of("stream"));
    for of in list(&of("parsed")) {
        let parsed = InvocationSubject::parse(text(&of["subject"])).unwrap();
        assert_eq!(parsed.concept.as_str(), text(&of["concept"]));
        assert_eq!(parsed.action.as_str(), text(&of["action"]));
        assert_eq!(json!(parsed.id), of["id"]);
    }
    for malformed in list(&of("malformed")) {
        assert!(InvocationSubject::parse(text(malformed)).is_err(), "{malformed}");
    }
    let keeps: Vec<&str> = header::OF_CALL.into_iter().chain([header::DEADLINE]).collect();
    let headers = json!({
        "flow": header::FLOW,
        "reply": header::REPLY,
        "deadline": header::DEADLINE,
        "client": header::CLIENT,
        "device": header::DEVICE,
        "position": header::POSITION,
        "work": header::WORK,
        "reason": header::REASON,
        "action": header::ACTION,
        "attempts": header::ATTEMPTS,
        "subject": header::SUBJECT,
        "deadLetterKeeps": keeps,
        "expectedSequence": header::EXPECTED_LAST_SUBJECT_SEQUENCE,
    });
    assert_eq!(headers, vectors("headers"));
}

/// The format on the wire: another value here makes stored values unreadable.
#[test]
fn large_values_equal_the_vectors() {
    let vectors = vectors("largeValues");
    let bytes: usize = number(&vectors["bytes"]);
    let content: Vec<u8> = (0..bytes).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let mut writer = Writer::new(Place::new([7; 16]));
    for (chunk, expected) in content.chunks(CHUNK_BYTES).zip(list(&vectors["chunks"])) {
        let message = writer.chunk(chunk).unwrap();
        assert_eq!(message.subject, expected["subject"]);
        let digest: String =
            Sha256::digest(&message.body).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, expected["bodySha256"]);
    }
    let (manifest, reference) = writer.finish();
    assert_eq!(manifest.subject, vectors["manifest"]["subject"]);
    assert_eq!(URL_SAFE_NO_PAD.encode(manifest.body), vectors["manifest"]["body"]);
    let found = json!(reference.to_string());
    assert_eq!(found, vectors["reference"]);
    assert!(equal(&found, &vectors["same"]) && found != vectors["same"]);
    assert_eq!(canonical(&found), text(&vectors["canonical"]));
    for rejected in list(&vectors["rejected"]) {
        assert!(!holds_reference(rejected), "{rejected}");
    }
}
