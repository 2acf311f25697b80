//! Command lines of the documentation, split as a shell does, and the responses that it shows.

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Marks a value that differs each time; the page shows only its beginning.
const CUT: char = '…';

/// Splits a line into words, up to a comment, and replaces `$NAME` in double quotes.
///
/// # Errors
/// A quote is unclosed, or a name is unknown.
pub fn words(line: &str, names: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, left) = match rest.chars().next() {
            Some('\'') => {
                let end = rest[1..].find('\'').context("an unclosed quote")? + 1;
                (rest[1..end].to_owned(), &rest[end + 1..])
            }
            Some('"') => {
                let end = rest
                    .char_indices()
                    .skip(1)
                    .find(|(at, c)| *c == '"' && !rest[..*at].ends_with('\\'))
                    .context("an unclosed quote")?
                    .0;
                let mut word = rest[1..end].replace("\\\"", "\"");
                for (name, value) in names {
                    word = word.replace(&format!("${name}"), value);
                }
                ensure!(!word.contains('$'), "{word}");
                (word, &rest[end + 1..])
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = left.trim_start();
    }
    Ok(words)
}

/// Returns whether a response matches the page: the same keys, and the same values except
/// abbreviated ones.
pub fn is_as_shown(shown: &Value, answer: &Value) -> bool {
    let (Some(shown), Some(answer)) = (shown.as_object(), answer.as_object()) else {
        return false;
    };
    let is_alike = |(key, shown): (&String, &Value)| match (shown.as_str(), answer.get(key)) {
        (Some(text), Some(given)) if text.ends_with(CUT) => given.is_string(),
        (_, given) => given == Some(shown),
    };
    shown.len() == answer.len() && shown.iter().all(is_alike)
}
