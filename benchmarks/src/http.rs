//! A cheap HTTP client: one connection with one request at a time.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A keep-alive connection to the edge, or to a peer.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An HTTP response.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The response body.
    pub(crate) body: Vec<u8>,
}

/// The head of a response: its status, its length and the length of the body, in bytes.
struct Head {
    status: u16,
    head: usize,
    length: usize,
}

/// Minimum size of the buffer for a body that is discarded, in bytes.
const DISCARDED_BYTES: usize = 256 * 1024;
/// Maximum size of a part of a request that is copied, in bytes.
const COPIED_BYTES: usize = 64 * 1024;
const HEADERS_END: &[u8] = b"\r\n\r\n";

impl Connection {
    /// Connects to the server.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Posts a JSON body, and reads the whole response.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<Answer> {
        self.request("POST", path, &[body]).await
    }

    /// Sends a request with the parts of a body, and reads the whole response.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        body: &[&str],
    ) -> anyhow::Result<Answer> {
        let Head { status, head, length } = self.send(method, path, body).await?;
        let end = head + length;
        while self.buffer.len() < end {
            self.fill().await?;
        }
        Ok(Answer { status, body: self.buffer.get(head..end).unwrap_or_default().to_vec() })
    }

    /// Sends a request, and discards the body of the response. Returns its length, in bytes.
    pub(crate) async fn download(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<usize> {
        let Head { status, head, length } = self.send(method, path, &[body]).await?;
        if status != 200 {
            bail!("{path} returned {status}");
        }
        let mut received = self.buffer.len() - head;
        self.buffer.reserve(DISCARDED_BYTES);
        while received < length {
            self.buffer.clear();
            self.fill().await?;
            received += self.buffer.len();
        }
        Ok(length)
    }

    /// Sends a request, and reads the head of the response.
    async fn send(&mut self, method: &str, path: &str, body: &[&str]) -> anyhow::Result<Head> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let mut written = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        // A small request is one packet, and a large part is not copied.
        for part in body {
            if part.len() > COPIED_BYTES {
                self.stream.write_all(written.as_bytes()).await?;
                self.stream.write_all(part.as_bytes()).await?;
                written.clear();
            } else {
                written.push_str(part);
            }
        }
        self.stream.write_all(written.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            self.fill().await?;
            if let Some(at) =
                self.buffer.windows(HEADERS_END.len()).position(|window| window == HEADERS_END)
            {
                break at + HEADERS_END.len();
            }
        };
        let text =
            String::from_utf8_lossy(self.buffer.get(..head).unwrap_or_default()).to_lowercase();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .context("the response has no status")?;
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("the response has no content length")?;
        Ok(Head { status, head, length: length.trim().parse()? })
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}
