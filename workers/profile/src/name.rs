//! Usernames, and the forms in which they are compared.

use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;

/// Maximum length of a username, in characters.
pub(crate) const MAX_CHARS: usize = 64;

/// A username and its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Username {
    text: String,
    /// The form in which the released version compares names.
    pub(crate) key: String,
    /// The form in which names are unique.
    pub(crate) folded: String,
    /// The form in which names that look alike are equal.
    pub(crate) look: String,
}

/// The reason why a text is not a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadUsername {
    /// No account has such a name.
    Unusable,
    /// Only accounts of the released version may have such a name.
    Outdated,
}

impl Username {
    /// Accepts every name that an account may have, including those of the released version.
    pub(crate) fn parse(text: &str) -> Result<Self, BadUsername> {
        let ok = (1..=MAX_CHARS).contains(&text.chars().take(MAX_CHARS + 1).count())
            && !text.chars().any(char::is_control)
            && text.trim() == text
            && !key(text).is_empty();
        if !ok {
            return Err(BadUsername::Unusable);
        }
        Ok(Self::of(text))
    }

    /// The forms of a stored name.
    pub(crate) fn of(text: &str) -> Self {
        let folded = fold(text);
        Self { text: text.to_owned(), key: key(text), look: look(&folded), folded }
    }

    /// Accepts the names of new accounts: one or more parts of the PRECIS profile
    /// `UsernameCaseMapped`, separated by single spaces (RFC 8265, 3.3 and 3.5).
    pub(crate) fn parse_new(text: &str) -> Result<Self, BadUsername> {
        let name = Self::parse(text)?;
        if text.split(' ').all(|part| UsernameCaseMapped::enforce(part).is_ok()) {
            Ok(name)
        } else {
            Err(BadUsername::Outdated)
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The normalisation of the released version, which still serves for passwords on lists.
pub(crate) fn key(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

/// Full case folding with compatibility forms. The three mappings turn `ß`, `ẞ` and `SS` into `ss`,
/// and every sigma into `σ`; one lower-case mapping does not.
pub(crate) fn fold(text: &str) -> String {
    let folded = text.nfkc().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    folded.flat_map(char::to_lowercase).nfkc().collect()
}

/// The skeleton of UTS 39, except that ASCII stays as it is: `ada1` and `adal` are different names.
fn look(folded: &str) -> String {
    let mut look = String::with_capacity(folded.len());
    for c in folded.nfd() {
        if c.is_ascii() {
            look.push(c);
        } else {
            look.extend(skeleton(c.encode_utf8(&mut [0; 4])));
        }
    }
    fold(&look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_have_one_folded_form() {
        for (a, b) in [
            ("Ada", "ada"),
            ("ﬁn", "fin"),
            ("e\u{301}", "é"),
            ("ＡＤＡ", "ada"),
            ("Νίκος", "ΝΊΚΟΣ"),
            ("ΣΑΣ", "σας"),
            ("STRASSE", "straße"),
            ("STRAẞE", "straße"),
        ] {
            let [a, b] = [a, b].map(|name| Username::parse(name).unwrap());
            assert_eq!(a.folded, b.folded);
        }
        assert_ne!(fold("ada"), fold("adá"));
    }

    #[test]
    fn names_that_look_alike_have_one_look() {
        for (a, b) in [("аdmin", "admin"), ("ΑDMIN", "admin"), ("раypal", "paypal")] {
            let [a, b] = [a, b].map(|name| Username::parse(name).unwrap());
            assert_ne!(a.folded, b.folded);
            assert_eq!(a.look, b.look, "{a:?}");
        }
        for (a, b) in [("ada1", "adal"), ("modern", "modem"), ("ada", "adá"), ("o'neil", "oneil")]
        {
            assert_ne!(look(a), look(b), "{a} {b}");
        }
        assert_eq!(look("ada lovelace-1815"), "ada lovelace-1815");
    }

    #[test]
    fn control_characters_edge_spaces_and_long_texts_are_unusable() {
        for wrong in
            ["", " ada", "ada ", "a\u{0}b", "a\nb", "\u{7f}", &"x".repeat(65), &"x".repeat(10_000)]
        {
            assert_eq!(Username::parse(wrong), Err(BadUsername::Unusable), "{wrong:?}");
            assert_eq!(Username::parse_new(wrong), Err(BadUsername::Unusable), "{wrong:?}");
        }
        assert!(Username::parse(&"é".repeat(64)).is_ok());
    }

    #[test]
    fn only_names_of_the_profile_are_accepted_for_new_accounts() {
        for name in [
            "ada",
            "Ada Lovelace",
            "ada.lovelace+1815@example.org",
            "Νίκος",
            "straße",
            "李小龍",
            "محمد",
            "דוד",
            "ＡＤＡ",
            "l·l",
        ] {
            assert!(Username::parse_new(name).is_ok(), "{name}");
        }
        for outdated in [
            "ad\u{200b}min",
            "ad\u{ad}min",
            "ad\u{200d}min",
            "\u{202e}nimda",
            "admin\u{2069}",
            "admin\u{fe0f}",
            "admin\u{e0041}",
            "\u{3164}admin",
            "Ada Lovelace 🎉",
            "ﬁn",
            "ada  lovelace",
            "ada\u{a0}lovelace",
            "adminד",
        ] {
            let name = Username::parse_new(outdated);
            assert_eq!(name, Err(BadUsername::Outdated), "{outdated:?}");
            assert!(Username::parse(outdated).is_ok(), "{outdated:?}");
        }
    }
}
