//! Names of concepts, actions and queries: ASCII, without characters that are special in NATS
//! subjects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Maximum length of a name, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// A string that is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a concept's name.
    #[error(
        "a concept's name begins with an upper-case letter, followed by letters, digits and `_`"
    )]
    Concept,
    /// Not an action's or query's name.
    #[error(
        "an action's name begins with a lower-case letter, a query's name with `_`, followed by \
         letters, digits and `_`"
    )]
    Action,
}

/// The name of a concept, such as `Profile`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConceptName(Arc<str>);

/// The name of an action, such as `authenticate`, or of a query, such as `_getUser`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionName(Arc<str>);

fn continues(bytes: &[u8]) -> bool {
    bytes.len() <= NAME_MAX_BYTES && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

impl FromStr for ConceptName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = text.as_bytes();
        let ok = bytes.first().is_some_and(u8::is_ascii_uppercase) && continues(bytes);
        if ok { Ok(Self(text.into())) } else { Err(BadName::Concept) }
    }
}

impl FromStr for ActionName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = text.as_bytes();
        let ok =
            bytes.first().is_some_and(|b| b.is_ascii_lowercase() || *b == b'_') && continues(bytes);
        if ok { Ok(Self(text.into())) } else { Err(BadName::Action) }
    }
}

impl ActionName {
    /// Returns whether this is the name of a query.
    pub fn is_query(&self) -> bool {
        self.0.starts_with('_')
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text!(ConceptName);
text!(ActionName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_exclude_special_characters_of_subjects() {
        for wrong in ["", "profile", "Pro.file", "Pro file", "P*", "P>", "Prófil", "1P"] {
            assert!(wrong.parse::<ConceptName>().is_err(), "{wrong}");
        }
        assert!("Profile2_b".parse::<ConceptName>().is_ok());
        for wrong in ["", "Create", "cre.ate", "a b", "*", ">", "$x"] {
            assert!(wrong.parse::<ActionName>().is_err(), "{wrong}");
        }
        assert!("_getUser".parse::<ActionName>().is_ok_and(|name| name.is_query()));
        assert!("x".repeat(NAME_MAX_BYTES + 1).parse::<ActionName>().is_err());
    }
}
