//! A link between one process and one server, that can be cut, held in one direction, or slowed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a link does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on.
    Pass,
    /// Ends every connection, and takes no new one.
    Cut,
    /// Keeps back what the process sends, until it passes again.
    HoldToServer,
    /// Keeps back what the server sends, until it passes again.
    HoldToProcess,
    /// Passes it on late, both ways.
    Slow,
}

/// By how much a slow link is late.
const LATE: Duration = Duration::from_millis(150);

/// A link; it goes when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Link {
    /// A link to a server on loopback.
    ///
    /// # Errors
    /// No port can be had.
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

    /// From now on.
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
    // A request and its answer are small; waiting for more would slow everything.
    if process.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_process, to_process) = process.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    // Whichever ends first ends the connection: both halves are dropped.
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
