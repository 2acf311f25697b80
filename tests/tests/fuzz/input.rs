//! Random input: JSON of every kind, and mutated bytes.

#![expect(clippy::indexing_slicing, reason = "random positions are within the bounds")]

use fastrand::Rng;

/// Texts that often break parsers.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\u{0}",
    "\u{202e}\u{feff}",
    "é\u{301}\u{301}",
    "\u{1f468}\u{200d}\u{1f469}",
    "$ne",
    "$where",
    "__proto__",
    "sealed:",
    "sealed:v1:k:AAAA",
    "../../etc/passwd",
    "%00%0a",
    "\r\nx: y",
    "done.>",
    "*",
    "null",
    "0199f0a0-0000-7000-8000-000000000001",
    "${jndi:ldap://127.0.0.1/a}",
];

/// Numbers at the limits of doubles and integers.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "1e308",
    "1e309",
    "-1e309",
    "1e-400",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551616",
    "1E+2",
    "01",
    "1.",
    "NaN",
    "Infinity",
];

/// One of several items.
pub(crate) fn one_of<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}

/// The JSON text of a random string.
fn text(rng: &mut Rng) -> String {
    let text = match rng.u8(..8) {
        0 => "x".repeat(rng.usize(..9_000)),
        1 => (0..rng.usize(..40)).map(|_| rng.char(..)).collect(),
        2 => return "\"\\ud800\"".to_owned(),
        _ => (*one_of(rng, TEXTS)).to_owned(),
    };
    serde_json::Value::from(text).to_string()
}

/// The text of a random JSON value; a few are invalid.
pub(crate) fn value(rng: &mut Rng, depth: u32) -> String {
    let kinds = if depth == 0 { 5 } else { 9 };
    match rng.u8(..kinds) {
        0 => "null".to_owned(),
        1 => rng.bool().to_string(),
        2 => (*one_of(rng, NUMBERS)).to_owned(),
        3 | 4 => text(rng),
        5 | 6 => {
            let items: Vec<String> = (0..rng.usize(..4)).map(|_| value(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        7 => {
            let keys: Vec<String> = (0..rng.usize(..4))
                .map(|_| format!("{}:{}", text(rng), value(rng, depth - 1)))
                .collect();
            format!("{{{}}}", keys.join(","))
        }
        _ => {
            let deep = rng.usize(1..300);
            format!("{}{}", "[".repeat(deep), "]".repeat(deep))
        }
    }
}

/// An object with these keys: valid, of other types, missing, duplicated, or with additional keys.
pub(crate) fn object(rng: &mut Rng, keys: &[(&str, String)]) -> Vec<u8> {
    let mut fields = Vec::new();
    for (key, usual) in keys {
        let given = match rng.u8(..10) {
            0 => continue,
            1 | 2 => value(rng, 3),
            _ => serde_json::Value::from(usual.as_str()).to_string(),
        };
        fields.push(format!("\"{key}\":{given}"));
    }
    if rng.u8(..4) == 0 {
        fields.push(format!("{}:{}", text(rng), value(rng, 2)));
    }
    if rng.u8(..12) == 0
        && let Some(again) = fields.first().cloned()
    {
        fields.push(again);
    }
    rng.shuffle(&mut fields);
    let mut bytes = format!("{{{}}}", fields.join(",")).into_bytes();
    if rng.u8(..6) == 0 {
        mutate(rng, &mut bytes);
    }
    bytes
}

/// Changes some bytes.
pub(crate) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
            continue;
        }
        let at = rng.usize(..bytes.len());
        let end = (at + rng.usize(1..16)).min(bytes.len());
        match rng.u8(..6) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.insert(at, rng.u8(..)),
        }
    }
}
