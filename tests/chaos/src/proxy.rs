//! A link between one process and one server. It can be cut, slowed, or held in one direction.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The mode of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards data.
    Pass,
    /// Closes every connection, and rejects new ones.
    Cut,
    /// Holds back data of the process until the mode changes.
    HoldToServer,
    /// Holds back data of the server until the mode changes.
    HoldToProcess,
    /// Forwards data with a delay, in both directions.
    Slow,
}

/// The delay of a slow link.
const LATE: Duration = Duration::from_millis(150);

/// A link; dropping it closes it.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Opens a link to a server on loopback.
    ///
    /// # Errors
    /// No port is available.
    pub async fn to(server: u16) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                if *seen.borrow() != Mode::Cut {
                    tokio::spawn(carry(stream, server, seen));
                }
            }
        });
        Ok(Arc::new(Self { address, mode, accepting }))
    }

    /// The port for the process.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the mode immediately.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(process: TcpStream, server: u16, mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        return;
    };
    // Requests and responses are small; buffering would delay everything.
    if process.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_process, to_process) = process.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    // The first end that closes ends the connection, because both halves are dropped.
    tokio::select! {
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
        _ = pump(from_process, to_server, mode.clone(), Mode::HoldToServer) => {}
        _ = pump(from_server, to_process, mode, Mode::HoldToProcess) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    hold: Mode,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if mode.wait_for(|mode| *mode != hold).await.is_err() {
            return Ok(());
        }
        if *mode.borrow() == Mode::Slow {
            tokio::time::sleep(LATE).await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}
