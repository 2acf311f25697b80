//! Rules for new passwords.

use concert_worker::Secret;

use crate::accounts::{PASSWORD_MAX_BYTES, PASSWORD_MIN_CHARS};
use crate::blocklist::{Blocklist, BlocklistError};
use crate::name::Username;
use crate::settings::Settings;
use crate::{opaque, strength};

/// The reason why a password cannot be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPassword {
    Short,
    Long,
    Character,
    Common,
    Weak,
}

/// Rules of an application for new passwords.
pub(crate) struct PasswordRules {
    blocklist: Blocklist,
    words: Vec<String>,
    min_score: u8,
}

impl PasswordRules {
    /// Reads the blocklists.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn read(settings: &Settings) -> Result<Self, BlocklistError> {
        Ok(Self {
            blocklist: Blocklist::read(settings)?,
            words: settings.password_words.clone(),
            min_score: settings.password_min_score,
        })
    }

    /// Refuses passwords that are common, little more than the name, or easy to guess.
    pub(crate) fn check(&self, form: &Secret, name: &Username) -> Result<(), BadPassword> {
        if self.blocklist.refuses(form.expose(), &name.key) {
            return Err(BadPassword::Common);
        }
        let words = self.words.iter().map(String::as_str);
        let first_tries: Vec<&str> = name.as_str().split(' ').chain(words).collect();
        if strength::is_below(self.min_score, form.expose(), &first_tries) {
            return Err(BadPassword::Weak);
        }
        Ok(())
    }
}

/// The form in which a new password is compared and hashed.
pub(crate) fn form(password: &Secret) -> Result<Secret, BadPassword> {
    let is_short = |text: &str| text.chars().count() < PASSWORD_MIN_CHARS;
    let text = password.expose();
    if is_short(text) {
        return Err(BadPassword::Short);
    }
    if text.len() > PASSWORD_MAX_BYTES {
        return Err(BadPassword::Long);
    }
    let form = opaque::form(text).ok_or(BadPassword::Character)?;
    if is_short(&form) { Err(BadPassword::Short) } else { Ok(Secret::new(form)) }
}
