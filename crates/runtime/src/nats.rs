//! Types of the NATS client that other crates use; this crate hides the rest.

pub use async_nats::HeaderMap;
pub use async_nats::jetstream::Message;
pub use async_nats::jetstream::kv;
pub use async_nats::service;
pub use async_nats::{Error, Message as CoreMessage, Request, Subscriber};

/// Maximum length of a text in a header, in characters.
const TEXT_MAX_CHARS: usize = 1000;

/// Converts a text to a header value. The text may quote a client's input, and the NATS client
/// panics on a line end in a value.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_text_is_one_line_of_limited_length() {
        assert_eq!(one_line("`a\r\nb` is not a parameter"), "`a  b` is not a parameter");
        assert_eq!(one_line(&"é".repeat(2000)).chars().count(), TEXT_MAX_CHARS);
    }
}
