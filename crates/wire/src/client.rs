//! Identifies the client of a request without revealing its address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Length of a tag, in characters.
const LENGTH: usize = 22;

/// A keyed hash of a client's address: 128 bits as base64url. Equal addresses have equal tags. The
/// address cannot be derived without the edge's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTag(Arc<str>);

/// The string is not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client's tag is {LENGTH} characters of base64url")]
pub struct BadClientTag;

impl ClientTag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientTag {
    type Err = BadClientTag;

    fn from_str(text: &str) -> Result<Self, BadClientTag> {
        let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.len() == LENGTH && text.bytes().all(is_base64url) {
            Ok(Self(text.into()))
        } else {
            Err(BadClientTag)
        }
    }
}

impl fmt::Display for ClientTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_are_accepted() {
        assert_eq!(
            "0123456789abcdefghi-_Z".parse::<ClientTag>().unwrap().to_string(),
            "0123456789abcdefghi-_Z"
        );
        for wrong in [
            "",
            "192.0.2.1",
            "0123456789abcdefghi-_",
            "0123456789abcdefghi-_ZZ",
            "0123456789abcdefghi-.Z",
            "$123456789abcdefghi-_Z",
        ] {
            assert_eq!(wrong.parse::<ClientTag>(), Err(BadClientTag), "{wrong}");
        }
    }
}
