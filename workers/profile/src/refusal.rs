//! Reasons for refusing an action on an account.

use std::time::Duration;

use concert_worker::{Stop, refused, throttled};

use crate::accounts::{PASSWORD_MAX_BYTES, PASSWORD_MIN_CHARS};
use crate::name::{BadUsername, MAX_CHARS};
use crate::password_rules::BadPassword;

/// A refusal; the texts are responses to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Username '{0}' already exists.")]
    NameTaken(String),
    #[error(
        "Username must have 1 to {MAX_CHARS} characters, none of them a control character, \
         and no space at its ends."
    )]
    NameUnusable,
    #[error(
        "Username must consist of letters, digits and ASCII symbols, with single spaces between \
         words, and no word may mix writing directions."
    )]
    NameCharacters,
    #[error("Username looks too similar to an existing one.")]
    NameConfusable,
    #[error("Password must be at least {PASSWORD_MIN_CHARS} characters long.")]
    PasswordShort,
    #[error("Password must be at most {PASSWORD_MAX_BYTES} bytes long.")]
    PasswordLong,
    #[error("Invalid username or password.")]
    Unrecognised,
    #[error("User '{0}' not found.")]
    NoUser(String),
    #[error("Incorrect old password.")]
    OldPasswordWrong,
    #[error("New password must be at least {PASSWORD_MIN_CHARS} characters long.")]
    NewPasswordShort,
    #[error("New password must be at most {PASSWORD_MAX_BYTES} bytes long.")]
    NewPasswordLong,
    #[error("New password cannot be the same as the old password.")]
    NewPasswordSame,
    #[error("This password is too common.")]
    PasswordCommon,
    #[error("Password must not contain control characters or invisible characters.")]
    PasswordCharacters,
    #[error("This password is too easy to guess.")]
    PasswordWeak,
    #[error("Incorrect password.")]
    PasswordWrong,
    #[error("This account is disabled.")]
    Disabled,
    /// With the time until another attempt is possible.
    #[error("Too many attempts have failed. Try again later.")]
    Throttled(Duration),
    #[error("Too many accounts were created. Try again later.")]
    TooManyAccounts(Duration),
}

impl From<BadUsername> for Refusal {
    fn from(bad: BadUsername) -> Self {
        match bad {
            BadUsername::Unusable => Self::NameUnusable,
            BadUsername::Outdated => Self::NameCharacters,
        }
    }
}

impl Refusal {
    /// A refusal of the password of a new account.
    pub(crate) fn of_password(bad: BadPassword) -> Self {
        match bad {
            BadPassword::Short => Self::PasswordShort,
            BadPassword::Long => Self::PasswordLong,
            BadPassword::Character => Self::PasswordCharacters,
            BadPassword::Common => Self::PasswordCommon,
            BadPassword::Weak => Self::PasswordWeak,
        }
    }

    /// A refusal of the new password of an existing account.
    pub(crate) fn of_new_password(bad: BadPassword) -> Self {
        match bad {
            BadPassword::Short => Self::NewPasswordShort,
            BadPassword::Long => Self::NewPasswordLong,
            bad => Self::of_password(bad),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Throttled(wait) | Refusal::TooManyAccounts(wait) => {
                throttled(refusal.to_string(), wait)
            }
            refusal => refused(refusal.to_string()),
        }
    }
}
