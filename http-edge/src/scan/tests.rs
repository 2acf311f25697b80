use concert_wire::large::Place;
use concert_wire::large::blob::{CHUNK_BYTES, Writer};
use concert_wire::routes::Field;
use concert_wire::value;
use serde_json::{Value, json};

use super::*;

const PLACE: Place = Place::new([7; 16]);
const LIMITS: ScanLimits = ScanLimits { rest: 100_000, large: 1_000_000 };

/// Keeps what is stored.
#[derive(Default)]
struct Kept {
    current: Vec<u8>,
    stored: Vec<String>,
}

fn reference(text: &str) -> Reference {
    let mut writer = Writer::new(PLACE);
    text.as_bytes().chunks(CHUNK_BYTES).for_each(|chunk| drop(writer.chunk(chunk).unwrap()));
    writer.finish().1
}

impl Store for Kept {
    fn push(&mut self, bytes: &[u8]) -> Result<(), EdgeError> {
        self.current.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<Reference, EdgeError> {
        let text = String::from_utf8(std::mem::take(&mut self.current)).unwrap();
        let reference = reference(&text);
        self.stored.push(text);
        Ok(reference)
    }
}

/// A body that arrives in parts of this many bytes.
struct Parts<'a>(&'a [u8], usize);

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.0[..self.1.min(self.0.len())])
    }

    fn consume(&mut self, length: usize) {
        self.0 = &self.0[length..];
    }
}

fn route() -> Route {
    let key = |kind: Type| RouteKey { required: false, secret: kind.is_secret(), kind };
    let keys = [("a", Type::Any), ("b", Type::Any), ("secret", Type::Secret)];
    Route { keys: keys.into_iter().map(|(name, kind)| (name.to_owned(), key(kind))).collect() }
}

fn scanned(body: &[u8], part: usize, limits: ScanLimits) -> Result<(Value, Kept), EdgeError> {
    let mut kept = Kept::default();
    let text = scan(Parts(body, part), Some(&route()), limits, &mut kept)?;
    let body = value::object(&text).map_err(|error| EdgeError::BadRequest(error.to_string()))?;
    Ok((Value::Object(body), kept))
}

#[track_caller]
fn refused(body: &str) -> String {
    scanned(body.as_bytes(), 1000, LIMITS).err().unwrap().to_string()
}

#[test]
fn small_body_is_copied_whatever_its_parts() {
    let text =
        r#" {"a": [1, -2.5e3, true, null, {"x": "é\n\u0041\ud834\udd1e𝄆\"\\\/"}], "b" : "" } "#;
    let expected: Value = serde_json::from_str(text).unwrap();
    for part in 1..text.len() {
        let (body, kept) = scanned(text.as_bytes(), part, LIMITS).unwrap();
        assert_eq!(body, expected);
        assert!(kept.stored.is_empty());
    }
}

#[test]
fn large_strings_are_stored_at_any_depth() {
    let inline = "x".repeat(usize::try_from(INLINE_MAX_BYTES).unwrap());
    let large = [format!("{inline}y"), format!("\n{inline}\u{1f600}\"é")];
    let body = json!({
        "a": { "deep": [inline, large[0]] },
        "b": large[1],
    });
    for part in [1, 7, 4096, 1_000_000] {
        let (found, kept) = scanned(body.to_string().as_bytes(), part, LIMITS).unwrap();
        let stored = large.each_ref().map(|text| reference(text).to_string());
        assert_eq!(found, json!({ "a": { "deep": [inline, stored[0]] }, "b": stored[1] }));
        assert_eq!(kept.stored, large);
    }
}

/// Every escape and character at every position around the border between inline and large.
#[test]
fn escapes_are_decoded_at_every_border() {
    let escapes = r#"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud834\udd1eé€𝄆"#;
    let decoded: String = serde_json::from_str(&format!("\"{escapes}\"")).unwrap();
    let border = usize::try_from(INLINE_MAX_BYTES).unwrap();
    for before in border - decoded.len() - 1..=border + 1 {
        let filler = "x".repeat(before);
        let body = format!(r#"{{"a":"{filler}{escapes}"}}"#);
        let (found, kept) = scanned(body.as_bytes(), 8192, LIMITS).unwrap();
        let text = format!("{filler}{decoded}");
        if text.len() > border {
            assert_eq!(found, json!({ "a": reference(&text).to_string() }));
            assert_eq!(kept.stored, [text]);
        } else {
            assert_eq!(found, json!({ "a": text }));
        }
    }
}

/// Characters that the reader decodes, at every position after text that is taken out before.
#[test]
fn escapes_are_decoded_anywhere_in_a_large_string() {
    let escapes = r#"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud834\udd1eé€𝄆"#;
    let decoded: String = serde_json::from_str(&format!("\"{escapes}\"")).unwrap();
    let inline = "é".repeat(20_000);
    for filler in [0, 1, 62, 63, 64, 65, 127, PART_BYTES - 1, PART_BYTES, 3 * PART_BYTES] {
        let filler = "y".repeat(filler);
        let body = format!(r#"{{"b":"{inline}{filler}{escapes}{filler}{escapes}","a":1}}"#);
        for part in [1, 3, 63, 64, 1000, 1_000_000] {
            let (found, kept) = scanned(body.as_bytes(), part, LIMITS).unwrap();
            let text = format!("{inline}{filler}{decoded}{filler}{decoded}");
            assert_eq!(found, json!({ "b": reference(&text).to_string(), "a": 1 }));
            assert_eq!(kept.stored, [text]);
        }
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let long = "x".repeat(40_000);
    for wrong in [
        "",
        "{",
        "[]",
        r#""a""#,
        r#"{"a":1} x"#,
        r#"{"a":1,}"#,
        r#"{"a":01}"#,
        r#"{"a":"\ud800"}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":1,"a":2}"#,
        r#"{"unknown":1,"unknown":2}"#,
        r#"{"a":9007199254740993}"#,
        &format!(r#"{{"a":"{long}"#),
        &format!(r#"{{"a":"{long}\ud800"}}"#),
        &format!(r#"{{"a":"{long}\x"}}"#),
        &format!("{{\"a\":\"{long}\u{1}\"}}"),
        &format!(r#"{{"a":"{long}","a":1}}"#),
    ] {
        assert!(scanned(wrong.as_bytes(), 1000, LIMITS).is_err(), "{:.60}", wrong);
    }
    for wrong in [b"\xff".as_slice(), b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80"] {
        let invalid = [b"{\"a\":\"".as_slice(), long.as_bytes(), wrong, b"zz\"}"].concat();
        assert!(scanned(&invalid, 1000, LIMITS).is_err());
    }
    let late = format!(r#"{{"a":"{long}{long}","b":tru}}"#);
    let error = scanned(late.as_bytes(), 1000, LIMITS).err().unwrap().to_string();
    assert!(error.ends_with(" bytes of large strings"), "{error}");
}

#[test]
fn large_values_may_be_anywhere_in_a_value() {
    let body = Field { name: "body".into(), optional: false, kind: Type::String };
    let list = |of| Type::Seq(Box::new(of));
    for (kind, expected) in [
        (list(Type::Record(vec![body])), true),
        (Type::BoundedString(8193), true),
        (Type::BoundedString(8192), false),
        (list(Type::Id("User".into())), false),
        (Type::Secret, false),
    ] {
        assert_eq!(accepts_large(&kind), expected, "{kind:?}");
    }
}

#[test]
fn unknown_keys_are_skipped_and_not_stored() {
    let long = "x".repeat(200_000);
    let body = format!(r#"{{"unknown":{{"a":"{long}"}},"b":1}}"#);
    let (found, kept) = scanned(body.as_bytes(), 1000, LIMITS).unwrap();
    assert_eq!(found, json!({ "unknown": null, "b": 1 }));
    assert!(kept.stored.is_empty());
}

#[test]
fn route_with_all_keys_stores_the_large_strings_of_each() {
    let long = "x".repeat(40_000);
    let body = json!({ "unknown": [long], "b.c": 1 }).to_string();
    let mut kept = Kept::default();
    let text = scan(Parts(body.as_bytes(), 1000), None, LIMITS, &mut kept).unwrap();
    let expected = json!({ "unknown": [reference(&long).to_string()], "b.c": 1 });
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
    assert_eq!(kept.stored, [long]);
}

#[test]
fn limits_are_those_of_the_rest_and_of_each_value() {
    let limits = ScanLimits { rest: 40_000, large: 50_000 };
    let check = |body: Value, expected: Option<EdgeError>| {
        let found = scanned(body.to_string().as_bytes(), 1000, limits).map(drop).err();
        assert_eq!(found, expected);
    };
    check(json!({ "a": vec!["x".repeat(50_000); 10], "b": "y".repeat(50_000) }), None);
    let too_large = EdgeError::LargeValue("b".to_owned(), 50_000);
    check(json!({ "a": 1, "b": ["y".repeat(50_001)] }), Some(too_large));
    let many = vec!["x".repeat(100); 500];
    check(json!({ "a": many }), Some(EdgeError::TooLarge(40_000)));
    check(json!({ "x".repeat(50_000): 1 }), Some(EdgeError::TooLarge(40_000)));
}

#[test]
fn secrets_must_be_small_and_texts_must_not_look_like_references() {
    let look_alike = reference(&"x".repeat(40_000)).to_string();
    let body = json!({ "secret": "x".repeat(40_000) }).to_string();
    assert_eq!(refused(&body), "`secret` must be a secret of at most 32768 bytes");
    let expected = "`a` must not have the form of a reference to a large value";
    assert_eq!(refused(&json!({ "a": [{ "b": look_alike }] }).to_string()), expected);
    assert!(scanned(json!({ "c": look_alike }).to_string().as_bytes(), 1000, LIMITS).is_ok());
}

#[test]
fn large_string_in_a_nested_key_is_stored() {
    let key = |kind: Type| RouteKey { required: true, secret: false, kind };
    let keys = [("a.b.text", key(Type::String)), ("a.n", key(Type::Number))];
    let route = Route { keys: keys.map(|(name, key)| (name.to_owned(), key)).into() };
    let long = "x".repeat(40_000);
    let body = json!({
        "a": { "b": { "text": long, "more": long }, "n": 1, "more": [long] },
        "a.n": 2,
        "b": { "text": long },
    });
    let mut kept = Kept::default();
    let text = body.to_string();
    let scanned = scan(text.as_bytes(), Some(&route), LIMITS, &mut kept).unwrap();
    assert_eq!(kept.stored, std::slice::from_ref(&long));
    let large = reference(&long).to_string();
    let expected = json!({
        "a": { "b": { "text": large, "more": null }, "n": 1, "more": null },
        "a.n": null,
        "b": null,
    });
    assert_eq!(serde_json::from_slice::<Value>(&scanned).unwrap(), expected);
}
