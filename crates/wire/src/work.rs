//! The header `Concert-Work` of a completion: how long the worker took, and for which operations.
//! It is informational only.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Processing time of an action, from receipt by the worker to publication of its outcome.
///
/// As text `<µs>`, and for each part ` <name>@<µs since the work began>+<µs>`: `17340
/// argon2id@210+16800`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// Total time, in microseconds.
    pub took_us: u64,
    /// Operations that the worker waited for, in order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// An operation that the worker waited for: a query, a database operation, a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Name of the component and, after a dot, of the operation: `mongodb.find`.
    pub name: String,
    /// Start, in microseconds since the work began.
    pub at_us: u64,
    /// Duration, in microseconds.
    pub took_us: u64,
}

impl Part {
    /// Name of the part for a query. One with several inputs has their number after a hyphen:
    /// `Profile._getUserDetails-20`.
    pub fn query_name(concept: &str, query: &str, inputs: usize) -> String {
        if inputs == 1 {
            format!("{concept}.{query}")
        } else {
            format!("{concept}.{query}-{inputs}")
        }
    }

    /// The query, if the part is one. The parts after it are the operations of the worker that
    /// answered it.
    pub fn query(&self) -> Option<QueryPart<'_>> {
        let (concept, query) = self.name.split_once('.')?;
        let (query, inputs) = match query.split_once('-') {
            Some((query, inputs)) => (query, inputs.parse().ok()?),
            None => (query, 1),
        };
        query.starts_with('_').then_some(QueryPart { concept, query, inputs })
    }
}

/// A part that is a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryPart<'a> {
    /// The concept.
    pub concept: &'a str,
    /// The query.
    pub query: &'a str,
    /// Number of inputs that one message contained.
    pub inputs: usize,
}

/// A duration in microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Maximum number of reported parts; further ones are omitted.
pub const MAX_PARTS: usize = 16;
/// Maximum length of a part's name, in bytes: a concept, a dot, a query, and a number of inputs.
const NAME_MAX_BYTES: usize = 2 * crate::name::NAME_MAX_BYTES + 6;

/// The text is not a [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the processing time of an action has the form `17340 mongodb.find@210+1680`, in microseconds"
)]
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

/// Digits only: Rust's parser would accept a sign.
fn number(text: &str) -> Result<u64, BadWork> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadWork)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_written_form_is_parsed() {
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
        let query = part(&Part::query_name("Profile", "_getUserDetails", 20), 1, 1);
        let expected = QueryPart { concept: "Profile", query: "_getUserDetails", inputs: 20 };
        assert_eq!((&*query.name, query.query()), ("Profile._getUserDetails-20", Some(expected)));
        assert!(format!("1 {}@1+1", query.name).parse::<Work>().is_ok());
        assert_eq!(part("Profile._get", 1, 1).query().map(|query| query.inputs), Some(1));
        assert_eq!(part("mongodb.find", 1, 1).query(), None);
        let longest = "x".repeat(NAME_MAX_BYTES);
        assert!(format!("1 {longest}@1+1").parse::<Work>().is_ok());
        assert_eq!(format!("1 x{longest}@1+1").parse::<Work>(), Err(BadWork));
        let long = Work { took_us: 1, parts: vec![part("a", 1, 1); 2 * MAX_PARTS] };
        assert_eq!(long.to_string().parse::<Work>().map(|work| work.parts.len()), Ok(MAX_PARTS));
    }
}
