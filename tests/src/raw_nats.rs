//! A client of the NATS protocol for messages that no client library would send.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A connection that publishes arbitrary bytes.
pub struct RawNats {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl RawNats {
    /// Connects to `nats://host:port` with the seed of a user's key.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn connect(url: &str, seed: &str) -> anyhow::Result<Self> {
        let address = url.strip_prefix("nats://").context("not a NATS URL")?;
        let (from, to) = TcpStream::connect(address).await?.into_split();
        let mut client = Self { from: BufReader::new(from), to };
        let mut greeting = String::new();
        client.from.read_line(&mut greeting).await?;
        let info: Value = serde_json::from_str(greeting.trim_start_matches("INFO").trim())?;
        let nonce = info.get("nonce").and_then(Value::as_str).context("no nonce")?;
        let pair = nkeys::KeyPair::from_seed(seed.trim())?;
        let hello = json!({
            "verbose": false,
            "headers": true,
            "no_responders": false,
            "nkey": pair.public_key(),
            "sig": URL_SAFE_NO_PAD.encode(pair.sign(nonce.as_bytes())?),
        });
        let hello = format!("CONNECT {hello}\r\n");
        client.to.write_all(hello.as_bytes()).await?;
        client.round_trip().await?;
        Ok(client)
    }

    /// Waits until the server has processed everything sent so far.
    ///
    /// # Errors
    /// The server reports an error other than a missing permission.
    pub async fn round_trip(&mut self) -> anyhow::Result<()> {
        self.to.write_all(b"PING\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.from.read_line(&mut line).await? == 0 {
                bail!("the server closed the connection");
            }
            match line.trim_end() {
                "PONG" => return Ok(()),
                "PING" => self.to.write_all(b"PONG\r\n").await?,
                // A missing permission is a valid outcome.
                other if other.starts_with("-ERR") && !other.contains("Permissions") => {
                    bail!("{other}")
                }
                _ => {}
            }
        }
    }

    /// Publishes; the headers are a block of bytes that should begin with `NATS/1.0`.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn publish(
        &mut self,
        subject: &str,
        headers: Option<&[u8]>,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let command = match headers {
            Some(headers) => {
                format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + body.len())
            }
            None => format!("PUB {subject} {}\r\n", body.len()),
        };
        for part in [command.as_bytes(), headers.unwrap_or_default(), body, b"\r\n"] {
            self.to.write_all(part).await?;
        }
        Ok(())
    }
}
