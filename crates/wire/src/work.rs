//! How long an action took at its worker, and what of it: the header `Concert-Work` of a
//! completion. It is for people; nothing depends on it.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The work on an action, from when its worker took it up to when it told the outcome.
///
/// As text `<µs>`, and for each part ` <name>@<µs since the work began>+<µs>`: `17340
/// argon2id@210+16800`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// All of it, in microseconds.
    pub took_us: u64,
    /// What somebody else did meanwhile, in the order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A part of the work that was waited for: a question to a concept, an operation of the database, a
/// hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Who did it and, behind a dot, what: `mongodb.find`.
    pub name: String,
    /// When it began, in microseconds since the work did.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

impl Part {
    /// The concept that was asked and the query, `("Sessioning", "_getUser")`, where the part is a
    /// question. What stands behind it is what the worker that answered it waited for.
    pub fn question(&self) -> Option<(&str, &str)> {
        self.name.split_once('.').filter(|(_, query)| query.starts_with('_'))
    }
}

/// A time as it is told: in microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Parts that are told at most; the first are.
pub const MAX_PARTS: usize = 16;
/// The longest name of a part, in bytes: that of a concept and that of a query, with a dot between.
const NAME_MAX_BYTES: usize = 2 * crate::name::NAME_MAX_BYTES + 1;

/// The text is no [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work on an action is told as `17340 mongodb.find@210+1680`, in microseconds")]
pub struct BadWork;

impl Display for Work {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.took_us)?;
        for part in self.parts.iter().take(MAX_PARTS) {
            write!(f, " {}@{}+{}", part.name, part.at_us, part.took_us)?;
        }
        Ok(())
    }
}

impl FromStr for Work {
    type Err = BadWork;

    fn from_str(text: &str) -> Result<Self, BadWork> {
        let mut words = text.split(' ');
        let took_us = number(words.next().ok_or(BadWork)?)?;
        let parts = words.map(str::parse).collect::<Result<Vec<Part>, BadWork>>()?;
        if parts.len() > MAX_PARTS {
            return Err(BadWork);
        }
        Ok(Self { took_us, parts })
    }
}

impl FromStr for Part {
    type Err = BadWork;

    fn from_str(text: &str) -> Result<Self, BadWork> {
        let (name, times) = text.split_once('@').ok_or(BadWork)?;
        let (at, took) = times.split_once('+').ok_or(BadWork)?;
        let is_name = (1..=NAME_MAX_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_name {
            return Err(BadWork);
        }
        Ok(Self { name: name.to_owned(), at_us: number(at)?, took_us: number(took)? })
    }
}

/// Digits only: the numbers of Rust may have a sign.
fn number(text: &str) -> Result<u64, BadWork> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadWork)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let part = |name: &str, at_us, took_us| Part { name: name.to_owned(), at_us, took_us };
        let work = Work {
            took_us: 17340,
            parts: vec![part("mongodb.find", 20, 300), part("argon2id", 410, 16800)],
        };
        let text = work.to_string();
        assert_eq!(text, "17340 mongodb.find@20+300 argon2id@410+16800");
        assert_eq!(text.parse(), Ok(work));
        assert_eq!("0".parse(), Ok(Work::default()));
        let many = "1".to_owned() + &" a@1+1".repeat(MAX_PARTS + 1);
        for wrong in [
            "", "a", "+1", "1 ", "1 a", "1 a@1", "1 @1+1", "1 a@+1+1", "1 ä@1+1", "1  a@1+1", &many,
        ] {
            assert_eq!(wrong.parse::<Work>(), Err(BadWork), "{wrong}");
        }
        let longest = "x".repeat(NAME_MAX_BYTES);
        assert!(format!("1 {longest}@1+1").parse::<Work>().is_ok());
        assert_eq!(format!("1 x{longest}@1+1").parse::<Work>(), Err(BadWork));
        let long = Work { took_us: 1, parts: vec![part("a", 1, 1); 2 * MAX_PARTS] };
        assert_eq!(long.to_string().parse::<Work>().map(|work| work.parts.len()), Ok(MAX_PARTS));
    }
}
