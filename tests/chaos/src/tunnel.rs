//! A TCP tunnel to a local server, whose traffic follows a state that may change at any time.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// Behaviour of a connection in a state.
pub(crate) trait Traffic<S>: Copy {
    /// Returns whether the connection is closed, or rejected if it is new.
    fn is_cut(self, state: &S) -> bool;

    /// Returns whether data is held back in one direction.
    fn is_held(self, state: &S, to_server: bool) -> bool;

    /// The time by which data is late.
    fn delay(self, _state: &S) -> Duration {
        Duration::ZERO
    }
}

/// Carries data between a client and a server until one of them closes or the connection is cut.
pub(crate) async fn carry<S>(
    client: TcpStream,
    port: u16,
    traffic: impl Traffic<S>,
    state: watch::Receiver<S>,
) {
    if traffic.is_cut(&state.borrow()) {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    // Requests and responses are small; buffering would delay everything.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = state.clone();
    // The first end that closes ends the connection, because both halves are dropped.
    tokio::select! {
        _ = cut.wait_for(|state| traffic.is_cut(state)) => {}
        _ = pump(from_client, to_server, traffic, true, state.clone()) => {}
        _ = pump(from_server, to_client, traffic, false, state) => {}
    }
}

async fn pump<S>(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    traffic: impl Traffic<S>,
    to_server: bool,
    mut state: watch::Receiver<S>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if state.wait_for(|state| !traffic.is_held(state, to_server)).await.is_err() {
            return Ok(());
        }
        let delay = traffic.delay(&state.borrow());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}
