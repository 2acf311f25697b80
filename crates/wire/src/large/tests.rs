use serde_json::json;

use super::blob::{
    BlobError, CHUNK_BYTES, Manifest, Message, WriteError, Writer, escaped, escaped_bytes,
};
use super::*;

const PLACE: Place = Place::new([7; 16]);

/// Stores a text; returns the chunks, the manifest and the reference.
fn store(place: Place, text: &[u8]) -> (Vec<Message>, Message, Reference) {
    let mut writer = Writer::new(place);
    let chunks = text.chunks(CHUNK_BYTES).map(|chunk| writer.chunk(chunk).unwrap()).collect();
    let (manifest, reference) = writer.finish();
    (chunks, manifest, reference)
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect()
}

#[test]
fn place_depends_on_the_key_and_on_the_borders_of_its_parts() {
    let place = |byte, parts: &[&[u8]]| Place::derived(&Key::new("k1", [byte; 64]), parts);
    let first = place(1, &[b"ab", b"c"]);
    assert!(first == place(1, &[b"ab", b"c"]));
    for other in [place(2, &[b"ab", b"c"]), place(1, &[b"a", b"bc"]), place(1, &[b"abc"])] {
        assert!(first != other);
    }
    assert_eq!(format!("{first:?}"), "Place");
}

#[test]
fn stored_value_is_read_back() {
    for bytes in [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
        let text = text(bytes);
        let (chunks, manifest, reference) = store(PLACE, &text);
        assert_eq!(manifest.subject, Manifest::subject(&reference));
        let manifest = Manifest::open(&reference, &manifest.body).unwrap();
        assert_eq!(manifest.chunks(), chunks.len());
        let mut read = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(manifest.chunk_subject(index).as_ref(), Some(&chunk.subject));
            read.extend(manifest.open_chunk(index, &chunk.body).unwrap());
        }
        assert!(read == text, "{bytes}");
        assert_eq!(manifest.chunk_subject(chunks.len()), None);
    }
}

#[test]
fn equal_values_at_two_places_share_only_their_digest() {
    let text = text(CHUNK_BYTES + 1);
    let (chunks, manifest, reference) = store(PLACE, &text);
    let (other_chunks, other_manifest, other) = store(Place::new([8; 16]), &text);
    assert!(reference.is_same_value(&other) && reference != other);
    let all = || chunks.iter().chain([&manifest]);
    for message in other_chunks.iter().chain([&other_manifest]) {
        assert!(all().all(|own| own.subject != message.subject && own.body != message.body));
    }
    assert!(!reference.is_same_value(&store(PLACE, &text[1..]).2));
    assert_eq!(Manifest::open(&other, &manifest.body), Err(BlobError::Broken));
}

#[test]
fn equal_chunks_of_a_value_differ_when_stored() {
    let (chunks, ..) = store(PLACE, &vec![b'x'; 2 * CHUNK_BYTES]);
    assert!(chunks[0].subject != chunks[1].subject && chunks[0].body != chunks[1].body);
}

#[test]
fn altered_or_exchanged_parts_are_rejected() {
    let (chunks, manifest, reference) = store(PLACE, &text(2 * CHUNK_BYTES));
    let opened = Manifest::open(&reference, &manifest.body).unwrap();
    let altered = |body: &[u8]| {
        let mut body = body.to_vec();
        body[20] ^= 1;
        body
    };
    for body in [altered(&chunks[0].body), chunks[1].body.clone(), Vec::new()] {
        assert_eq!(opened.open_chunk(0, &body), Err(BlobError::Broken));
    }
    assert_eq!(Manifest::open(&reference, &altered(&manifest.body)), Err(BlobError::Broken));
    // A reference with another length and the right digest.
    for bytes in [2 * CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
        let wrong = Reference { bytes: bytes as u64, ..reference };
        let read = Manifest::open(&wrong, &manifest.body);
        let read = read.and_then(|manifest| manifest.open_chunk(1, &chunks[1].body));
        assert_eq!(read, Err(BlobError::Broken), "{bytes}");
    }
}

#[test]
fn only_the_last_chunk_may_be_short_and_values_have_a_limit() {
    let mut writer = Writer::new(PLACE);
    assert_eq!(writer.chunk(b""), Err(WriteError::Length));
    assert_eq!(writer.chunk(&vec![0; CHUNK_BYTES + 1]), Err(WriteError::Length));
    writer.chunk(b"the last one").unwrap();
    assert_eq!(writer.chunk(b"another"), Err(WriteError::Length));

    let mut writer = Writer::new(PLACE);
    writer.bytes = VALUE_MAX_BYTES - 1;
    assert_eq!(writer.chunk(b"ab"), Err(WriteError::TooLarge));
    assert!(writer.chunk(b"a").is_ok());
}

#[test]
fn only_the_exact_form_is_a_reference() {
    let reference = store(PLACE, &text(40_000)).2;
    let right = reference.to_string();
    assert_eq!(right.parse(), Ok(reference));
    let digest = reference.digest().to_string();
    let place = right.split(':').nth(1).unwrap();
    for wrong in [
        String::new(),
        "large:".to_owned(),
        "large: a house".to_owned(),
        right.to_uppercase(),
        format!(" {right}"),
        format!("{right}:"),
        format!("large:{place}:+40000:{digest}"),
        format!("large:{place}:040000:{digest}"),
        format!("large:{place}:{INLINE_MAX_BYTES}:{digest}"),
        format!("large:{place}:{}:{digest}", VALUE_MAX_BYTES + 1),
        format!("large:{place}:40000:{}", digest.to_uppercase()),
        format!("large:{place}:40000:{}é", &digest[2..]),
        format!("large:{place}:40000:{}", &digest[1..]),
        format!("large:{}:40000:{digest}", &place[1..]),
        // The unused bits of the last character are not zero.
        format!("large:{}x:40000:{digest}", &place[1..]),
    ] {
        assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        assert!(!holds_reference(&json!(wrong)), "{wrong}");
    }
    assert!(holds_reference(&json!({"list": [{ "deep": [right] }]})));
    assert_eq!(Reference::of(&json!(right)), Some(reference));
}

#[test]
fn escaped_length_is_that_of_serde_json() {
    let text: String = (0..0x250).filter_map(char::from_u32).chain(['\u{2028}', '😀']).collect();
    let quoted = serde_json::to_string(&text).unwrap();
    assert_eq!(escaped_bytes(text.as_bytes()), quoted.len() as u64 - 2);
    let (left, right) = text.as_bytes().split_at(0x81);
    assert!(std::str::from_utf8(left).is_err());
    assert_eq!(escaped_bytes(left) + escaped_bytes(right), quoted.len() as u64 - 2);
    let (_, manifest, reference) = store(PLACE, text.as_bytes());
    let manifest = Manifest::open(&reference, &manifest.body).unwrap();
    assert_eq!(manifest.json_bytes(), quoted.len() as u64 - 2);
}

#[test]
fn parts_of_a_text_are_escaped_as_serde_json_does() {
    let text: String = ('\0'..='\u{250}').chain("€𝄆\u{2028}".chars()).collect();
    let whole = serde_json::to_string(&text).unwrap();
    for length in 1..=text.len() {
        let parts = text.as_bytes().chunks(length);
        let escaped: Vec<u8> = parts.flat_map(|part| escaped(part).into_owned()).collect();
        assert_eq!(escaped.len() as u64, escaped_bytes(text.as_bytes()));
        assert_eq!(str::from_utf8(&escaped), Ok(whole.trim_matches('"')));
    }
}
