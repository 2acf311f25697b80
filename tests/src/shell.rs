//! Command lines of the documentation, split as a shell does.

use anyhow::{Context as _, ensure};

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
