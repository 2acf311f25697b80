//! Keywords, and the forms of names.

/// Keywords. They can be parameter names before a colon and fields after a dot, but not variables.
pub const KEYWORDS: &[&str] = &[
    "sync", "when", "where", "then", "optional", "some", "no", "each", "let", "collect", "as",
    "else", "in", "and", "or", "not", "true", "false", "null",
];

pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

pub(crate) fn is_upper(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
}

pub(crate) fn is_lower(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
}

pub(crate) fn is_query(word: &str) -> bool {
    word.starts_with('_')
}
