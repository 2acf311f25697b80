//! Positions in the log.

use std::fmt;
use std::str::FromStr;

/// The positions in the log that an invocation follows from: sequences of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The root of the flow.
    pub root: u64,
    /// The completion or firing record that made the action due.
    pub cause: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.root, self.cause)
    }
}

/// The text is not two numbers, separated by a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not two positions, separated by a space")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (root, cause) = text.split_once(' ').ok_or(BadPosition)?;
        let number = |text: &str| text.parse().map_err(|_| BadPosition);
        Ok(Self { root: number(root)?, cause: number(cause)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_as_it_is_written() {
        let position = Position { root: 17, cause: 42 };
        assert_eq!(position.to_string(), "17 42");
        assert_eq!("17 42".parse(), Ok(position));
        for bad in ["", "17", "17  42", "17 -1", "17 x"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad}");
        }
    }
}
