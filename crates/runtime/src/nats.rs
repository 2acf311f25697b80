//! The parts of the NATS client that processes touch themselves; everything else of it stays behind
//! this crate.

pub use async_nats::HeaderMap;
pub use async_nats::jetstream::Message;
pub use async_nats::jetstream::kv;
pub use async_nats::service;
pub use async_nats::{Error, Message as CoreMessage, Subscriber};

/// The longest text that is told in a header, in characters.
const TEXT_MAX_CHARS: usize = 1000;

/// A text as the value of a header. Such a text may quote what somebody sent, and the client panics
/// at a line end in a value.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_a_header_is_one_line_and_not_too_long() {
        assert_eq!(one_line("`a\r\nb` is not a parameter"), "`a  b` is not a parameter");
        assert_eq!(one_line(&"é".repeat(2000)).chars().count(), TEXT_MAX_CHARS);
    }
}
