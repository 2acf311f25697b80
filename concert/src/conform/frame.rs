//! Frames of the NATS client protocol, as a worker and the server exchange them.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// A line of the protocol, with the message that follows it.
pub(super) struct Frame {
    /// Everything, as it was received.
    pub(super) bytes: Vec<u8>,
    /// The content.
    pub(super) content: Content,
}

/// The content of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A message, in either direction.
    Message(Message),
    /// An error of the server.
    Error(String),
    /// Everything else, such as a subscription.
    Other,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// `true` if the worker sent it.
    pub(super) is_sent: bool,
    /// Its subject.
    pub(super) subject: String,
    /// The subject for a response.
    pub(super) reply: Option<String>,
    /// Its headers, as text.
    pub(super) headers: String,
    /// Its body.
    pub(super) body: Vec<u8>,
}

/// The first line of a message: subject, reply, and the sizes of the headers and of everything.
fn first_line(line: &str) -> Option<(bool, &str, Option<&str>, usize, usize)> {
    let tokens: Vec<&str> = line.split_ascii_whitespace().collect();
    let (is_sent, subject, reply, headers, total) = match *tokens.as_slice() {
        ["PUB", subject, total] => (true, subject, None, "0", total),
        ["PUB", subject, reply, total] => (true, subject, Some(reply), "0", total),
        ["HPUB", subject, headers, total] => (true, subject, None, headers, total),
        ["HPUB", subject, reply, headers, total] => (true, subject, Some(reply), headers, total),
        ["MSG", subject, _, total] => (false, subject, None, "0", total),
        ["MSG", subject, _, reply, total] => (false, subject, Some(reply), "0", total),
        ["HMSG", subject, _, headers, total] => (false, subject, None, headers, total),
        ["HMSG", subject, _, reply, headers, total] => {
            (false, subject, Some(reply), headers, total)
        }
        _ => return None,
    };
    Some((is_sent, subject, reply, headers.parse().ok()?, total.parse().ok()?))
}

/// Reads the next frame; `None` at the end of the connection.
///
/// # Errors
/// The connection fails.
pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Frame>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&bytes).into_owned();
    let Some((is_sent, subject, reply, headers, total)) = first_line(&line) else {
        let content = match line.strip_prefix("-ERR") {
            Some(error) => Content::Error(error.trim().trim_matches('\'').to_owned()),
            None => Content::Other,
        };
        return Ok(Some(Frame { bytes, content }));
    };
    let mut rest = Vec::new();
    from.take(total as u64 + 2).read_to_end(&mut rest).await?;
    bytes.extend_from_slice(&rest);
    rest.truncate(total);
    let body = rest.split_off(headers.min(rest.len()));
    let message = Message {
        is_sent,
        subject: subject.to_owned(),
        reply: reply.map(str::to_owned),
        headers: String::from_utf8_lossy(&rest).into_owned(),
        body,
    };
    Ok(Some(Frame { bytes, content: Content::Message(message) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_both_directions_are_read() {
        let text = concat!(
            "PING\r\n",
            "PUB a.b 2\r\nhi\r\n",
            "PUB a in.1 0\r\n\r\n",
            "HPUB a in.1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            "MSG a 7 2\r\nhi\r\n",
            "MSG a 7 ack.1 2\r\nhi\r\n",
            "HMSG a 7 12 13\r\nNATS/1.0\r\n\r\n!\r\n",
            "HMSG a 7 ack.1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
            "-ERR 'Permissions Violation'\r\n",
        );
        let mut from = text.as_bytes();
        let mut bytes = Vec::new();
        let mut found = Vec::new();
        while let Some(frame) = read(&mut from).await.unwrap() {
            bytes.extend(frame.bytes);
            found.push(match frame.content {
                Content::Message(Message { is_sent, subject, reply, headers, body }) => {
                    let (reply, body) = (reply.unwrap_or_default(), String::from_utf8(body));
                    format!("{is_sent} {subject} {reply} {} {}", headers.len(), body.unwrap())
                }
                Content::Error(error) => error,
                Content::Other => "other".to_owned(),
            });
        }
        // The worker and the server get exactly what the other one sent.
        assert_eq!(bytes, text.as_bytes());
        let expected = [
            "other",
            "true a.b  0 hi",
            "true a in.1 0 ",
            "true a in.1 12 hi",
            "false a  0 hi",
            "false a ack.1 0 hi",
            "false a  12 !",
            "false a ack.1 12 ",
            "Permissions Violation",
        ];
        assert_eq!(found, expected);
    }
}
