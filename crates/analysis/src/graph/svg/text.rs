//! Width, wrapping and escaping of text in SVG.

/// Width of one column at 12px, the widest of the usual monospaced fonts.
pub(super) const CHAR_WIDTH: f64 = 7.23;
/// Height of a line.
pub(super) const LINE_HEIGHT: f64 = 16.0;
/// Columns of a line.
const LINE_COLUMNS: usize = 24;
/// Maximum lines of a node; the tooltip has the whole name.
const LINES: usize = 4;

/// Columns of a text; characters of other scripts may be twice as wide.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// Breaks a name before its words (`CreateSession`, `Concept.action`, `/a/path`), and anywhere
/// within a word that is too long.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let fits = |line: &String| columns(line) + columns(&word) <= LINE_COLUMNS;
        match lines.last_mut() {
            Some(line) if line.is_empty() || fits(line) => line.push_str(&word),
            _ => lines.push(word),
        }
    }
    for line in &mut lines {
        *line = line.trim().to_owned();
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            last.push('…');
        }
    }
    lines
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in text.chars() {
        let begins = (c.is_uppercase() && !before.is_uppercase())
            || c == '/'
            || before == '.'
            || before == ' ';
        match words.last_mut() {
            Some(word) if !begins && columns(word) + 2 <= LINE_COLUMNS => word.push(c),
            _ => words.push(c.to_string()),
        }
        before = c;
    }
    words
}

/// Escapes a text for XML, including attributes.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(wrapped(text), expected, "{text}");
    }

    #[test]
    fn long_names_are_broken_at_their_words() {
        check("Profile.authenticate", &["Profile.authenticate"]);
        check("TextSettings.createDocumentSettings", &["TextSettings.create", "DocumentSettings"]);
        check(
            "CreateSessionOnSuccessfulAuthentication",
            &["CreateSessionOn", "SuccessfulAuthentication"],
        );
        check("POST /Library/createDocument", &["POST /Library/create", "Document"]);
        check("", &[""]);
    }

    #[test]
    fn text_without_words_is_broken_anywhere_and_truncated() {
        let lines = wrapped(&"x".repeat(1000));
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|line| columns(line) <= LINE_COLUMNS + 2), "{lines:?}");
        assert!(lines[LINES - 1].ends_with('…'));
    }
}
