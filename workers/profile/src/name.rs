//! Usernames.

use unicode_normalization::UnicodeNormalization as _;

/// The longest username, in characters.
pub(crate) const MAX_CHARS: usize = 64;

/// A username that an account can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Username(String);

/// Not a username that an account can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadUsername;

impl Username {
    pub(crate) fn parse(text: &str) -> Result<Self, BadUsername> {
        let ok = (1..=MAX_CHARS).contains(&text.chars().take(MAX_CHARS + 1).count())
            && !text.chars().any(char::is_control)
            && text.trim() == text
            && !key(text).is_empty();
        if ok { Ok(Self(text.to_owned())) } else { Err(BadUsername) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which usernames are unique.
    pub(crate) fn key(&self) -> String {
        key(&self.0)
    }
}

/// Compatibility forms and cases of a name are one name.
pub(crate) fn key(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_one_name() {
        for (a, b) in [("Ada", "ada"), ("ﬁn", "fin"), ("e\u{301}", "é"), ("ＡＤＡ", "ada")] {
            assert_eq!(
                Username::parse(a).unwrap().key(),
                Username::parse(b).unwrap().key(),
                "{a} {b}"
            );
        }
        assert_ne!(Username::parse("ada").unwrap().key(), Username::parse("adá").unwrap().key());
    }

    #[test]
    fn what_cannot_be_read_aloud_is_no_name() {
        for wrong in
            ["", " ada", "ada ", "a\u{0}b", "a\nb", "\u{7f}", &"x".repeat(65), &"x".repeat(10_000)]
        {
            assert_eq!(Username::parse(wrong), Err(BadUsername), "{wrong:?}");
        }
        assert!(Username::parse(&"é".repeat(64)).is_ok());
        assert!(Username::parse("Ada Lovelace 🎉").is_ok());
    }
}
