//! Common passwords, which attackers try first.
//!
//! There are no composition rules (NIST SP 800-63B-4, 3.1.1.2). Refused are passwords on the list,
//! and those that contain little more than the username or a word of the application.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::name::key;
use crate::settings::Settings;

/// The most common passwords of sufficient length, one per line. The file LICENSE next to them
/// names their source.
const COMMON: &str = include_str!("../blocklist/common.txt");

/// Reason why the list cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the password blocklist {path}: {source}; correct password_blocklists",
    path = .path.display()
)]
pub(crate) struct BlocklistError {
    path: PathBuf,
    source: std::io::Error,
}

/// The refused passwords.
pub(crate) struct Blocklist {
    common: HashSet<Box<str>>,
    words: Vec<String>,
}

impl Blocklist {
    /// Loads the common passwords and those of the files.
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

    /// Returns whether a password is too common in general, or for this user. Ignores case and
    /// compatibility forms.
    pub(crate) fn refuses(&self, password: &str, username_key: &str) -> bool {
        let password = key(password);
        let names = std::iter::once(username_key).chain(self.words.iter().map(String::as_str));
        self.common.contains(&*password)
            || names
                .filter(|name| !name.is_empty())
                .any(|name| is_hardly_more_than(&password, name))
    }
}

/// Returns whether a password consists of repetitions of a name, with only digits and signs around
/// them.
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
    fn list_is_long_enough_and_folded() {
        // OWASP ASVS 5, 6.2.4: at least the 3000 most common passwords of sufficient length.
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
        // A name of only digits is refused unchanged, and does not cause other refusals.
        assert!(list.refuses("98431275", "98431275"));
        assert!(!list.refuses("98431275039", "7"));
    }

    #[test]
    fn file_extends_the_list_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("more.txt");
        std::fs::write(&path, "Correct Horse\n\n").unwrap();
        let more = list(vec![path]).unwrap();
        assert!(more.refuses("correct horse", "ada") && more.refuses("password", "ada"));
        let missing = list(vec![dir.path().join("none.txt")]).err().unwrap();
        assert!(missing.to_string().contains("none.txt"), "{missing}");
    }
}
