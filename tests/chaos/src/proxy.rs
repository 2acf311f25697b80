//! A link between one process and one server. It can be cut, slowed, or held in one direction.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::tunnel::{Traffic, carry};

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
                tokio::spawn(carry(stream, server, OfLink, seen.clone()));
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

/// The traffic of a link.
#[derive(Clone, Copy)]
struct OfLink;

impl Traffic<Mode> for OfLink {
    fn is_cut(self, mode: &Mode) -> bool {
        *mode == Mode::Cut
    }

    fn is_held(self, mode: &Mode, to_server: bool) -> bool {
        *mode == if to_server { Mode::HoldToServer } else { Mode::HoldToProcess }
    }

    fn delay(self, mode: &Mode) -> Duration {
        if *mode == Mode::Slow { LATE } else { Duration::ZERO }
    }
}
