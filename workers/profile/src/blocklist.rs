//! Passwords that everybody guesses first.
//!
//! There are no rules of composition (NIST SP 800-63B-4, 3.1.1.2): what is refused is what stands
//! on the list, what is hardly more than the user's name, and what is hardly more than a word of
//! the application's own.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::name::key;
use crate::settings::Settings;

/// The most common passwords that are long enough, a line each. Where they come from stands beside
/// them.
const COMMON: &str = include_str!("../blocklist/common.txt");

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("the password blocklist {path} cannot be read: {source}", path = .path.display())]
pub(crate) struct BlocklistError {
    path: PathBuf,
    source: std::io::Error,
}

/// The passwords that are refused.
pub(crate) struct Blocklist {
    common: HashSet<Box<str>>,
    words: Vec<String>,
}

impl Blocklist {
    /// The common ones, and what the files hold beside them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn read(settings: &Settings) -> Result<Self, BlocklistError> {
        let mut common: HashSet<Box<str>> = COMMON.lines().map(Box::from).collect();
        for path in &settings.password_blocklists {
            let text = std::fs::read_to_string(path)
                .map_err(|source| BlocklistError { path: path.clone(), source })?;
            common
                .extend(text.lines().filter(|line| !line.is_empty()).map(|line| key(line).into()));
        }
        let words = settings.password_words.iter().map(|word| key(word)).collect();
        Ok(Self { common, words })
    }

    /// Whether a password is too common for anyone, or for this user. Cases and compatibility forms
    /// do not count.
    pub(crate) fn refuses(&self, password: &str, username_key: &str) -> bool {
        let password = key(password);
        let names = std::iter::once(username_key).chain(self.words.iter().map(String::as_str));
        self.common.contains(&*password)
            || names
                .filter(|name| !name.is_empty())
                .any(|name| is_hardly_more_than(&password, name))
    }
}

/// Whether a password is a name, once or several times, with nothing but digits and signs around
/// it.
fn is_hardly_more_than(password: &str, name: &str) -> bool {
    let rest = password.replace(name, "");
    let has_letters = |text: &str| text.chars().any(char::is_alphabetic);
    rest.is_empty() || (rest.len() < password.len() && has_letters(name) && !has_letters(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: Vec<PathBuf>) -> Result<Blocklist, BlocklistError> {
        Blocklist::read(&Settings { password_blocklists: files, ..Settings::default() })
    }

    #[test]
    fn the_list_is_long_enough_and_folded() {
        // OWASP ASVS 5, 6.2.4: at least the 3000 most common ones that are long enough.
        assert!(COMMON.lines().count() >= 3000);
        for line in COMMON.lines() {
            assert!(line.chars().count() >= 8 && key(line) == line, "{line}");
        }
    }

    #[test]
    fn common_passwords_names_and_words_are_refused_in_any_case() {
        let list = list(Vec::new()).unwrap();
        for common in [
            "password",
            "PassWord1",
            "ｐａｓｓｗｏｒｄ",
            "12345678",
            "qwertyuiop",
            "Ada Lovelace",
            "adalovelace99",
            "!!ada lovelace!!",
            "ada lovelaceada lovelace",
            "concert1",
            "Concert2026!",
            "concertconcert",
        ] {
            let refused = ["ada lovelace", "adalovelace"].map(|name| list.refuses(common, name));
            assert!(refused.contains(&true), "{common}");
        }
        for fine in [
            "correct horse battery",
            "password of my own",
            "in concert with ada",
            "ada lovelace wrote notes",
            "98431275039",
        ] {
            assert!(!list.refuses(fine, "ada lovelace"), "{fine}");
        }
        // A name of digits alone is refused as it is, and does not refuse everything.
        assert!(list.refuses("98431275", "98431275"));
        assert!(!list.refuses("98431275039", "7"));
    }

    #[test]
    fn a_file_adds_to_the_list_and_one_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("more.txt");
        std::fs::write(&path, "Correct Horse\n\n").unwrap();
        let more = list(vec![path]).unwrap();
        assert!(more.refuses("correct horse", "ada") && more.refuses("password", "ada"));
        let missing = list(vec![dir.path().join("none.txt")]).err().unwrap();
        assert!(missing.to_string().contains("none.txt"), "{missing}");
    }
}
