//! Partitions between the nodes of a cluster. Traffic between nodes passes through gates, which can
//! be closed around one node, in both directions or in one.
//!
//! Nodes know each other by the addresses of the gates. The kernel shows which process dialled: the
//! one that holds the other end of the connection. Client connections always pass, so clients reach
//! both sides of a partition.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::tunnel::{Traffic, carry};

/// Direction of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionMode {
    /// Connections are closed, and new ones are rejected.
    Ended,
    /// Nothing passes in either direction; connections stay open.
    Both,
    /// Data from the node is held back.
    FromNode,
    /// Data to the node is held back.
    ToNode,
}

/// All modes.
pub const MODES: [PartitionMode; 4] =
    [PartitionMode::Ended, PartitionMode::Both, PartitionMode::FromNode, PartitionMode::ToNode];

/// The isolated node and the mode.
type Closed = Option<(usize, PartitionMode)>;

/// The gates of one cluster.
#[derive(Debug)]
pub struct Partitions {
    /// The process ids of the nodes.
    pids: Arc<Mutex<Vec<u32>>>,
    closed: watch::Sender<Closed>,
    gates: Vec<JoinHandle<()>>,
}

impl Default for Partitions {
    fn default() -> Self {
        Self { pids: Arc::default(), closed: watch::Sender::new(None), gates: Vec::new() }
    }
}

impl Partitions {
    /// Opens a gate in front of the next node, which listens on `port`; returns the gate's port.
    ///
    /// # Errors
    /// No port is available.
    pub async fn gate(&mut self, port: u16) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (pids, closed, to) = (self.pids.clone(), self.closed.subscribe(), self.gates.len());
        self.gates.push(tokio::spawn(async move {
            while let Ok((stream, dialer)) = listener.accept().await {
                let (pids, closed) = (pids.clone(), closed.clone());
                tokio::spawn(async move {
                    let known = pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let from = tokio::task::spawn_blocking(move || holder(&known, dialer)).await;
                    let crossing = Crossing { from: from.ok().flatten(), to };
                    carry(stream, port, crossing, closed).await;
                });
            }
        }));
        Ok(address.port())
    }

    /// Sets the process ids of the nodes, in the order of their gates.
    pub fn nodes_are(&self, pids: Vec<u32>) {
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    /// Isolates one node.
    pub fn close(&self, node: usize, mode: PartitionMode) {
        self.closed.send_replace(Some((node, mode)));
    }

    /// Ends the partition.
    pub fn open(&self) {
        self.closed.send_replace(None);
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        for gate in &self.gates {
            gate.abort();
        }
    }
}

/// The process among these that holds one end of a loopback connection.
fn holder(pids: &[u32], address: SocketAddr) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!("0100007F:{:04X}", address.port());
    let inode = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == local).then(|| fields.nth(7).map(str::to_owned))?
    })?;
    let socket = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        open.flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&socket)))
    })
}

/// A connection to a node, from another node or from a client.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    from: Option<usize>,
    to: usize,
}

impl Traffic<Closed> for Crossing {
    fn is_cut(self, closed: &Closed) -> bool {
        closed.is_some_and(|(_, mode)| mode == PartitionMode::Ended) && self.is_held(closed, true)
    }

    fn is_held(self, closed: &Closed, to_server: bool) -> bool {
        let (Some(from), Some((node, mode))) = (self.from, *closed) else {
            return false;
        };
        let (speaker, hearer) = if to_server { (from, self.to) } else { (self.to, from) };
        (speaker == node) != (hearer == node)
            && match mode {
                PartitionMode::Ended | PartitionMode::Both => true,
                PartitionMode::FromNode => speaker == node,
                PartitionMode::ToNode => hearer == node,
            }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Returns whether data from one node reaches another, regardless of which one dialled.
    fn hears(hearer: usize, speaker: usize, closed: Closed) -> bool {
        let dialled = Crossing { from: Some(speaker), to: hearer };
        let called = Crossing { from: Some(hearer), to: speaker };
        assert_eq!(dialled.is_held(&closed, true), called.is_held(&closed, false));
        !dialled.is_held(&closed, true)
    }

    #[test]
    fn partition_isolates_one_node_only() {
        for (mode, from_node, to_node) in [
            (PartitionMode::Ended, false, false),
            (PartitionMode::Both, false, false),
            (PartitionMode::FromNode, false, true),
            (PartitionMode::ToNode, true, false),
        ] {
            let closed = Some((1, mode));
            for other in [0, 2] {
                assert_eq!(hears(other, 1, closed), from_node, "{mode:?}");
                assert_eq!(hears(1, other, closed), to_node, "{mode:?}");
            }
            assert!(hears(0, 2, closed) && hears(2, 0, closed) && hears(1, 1, closed));
            let client = Crossing { from: None, to: 1 };
            assert!(!client.is_held(&closed, true) && !client.is_held(&closed, false));
        }
    }

    #[tokio::test]
    async fn process_of_a_connection_is_found() -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let dialling = TcpStream::connect(listener.local_addr()?).await?;
        let (_, dialer) = listener.accept().await?;
        assert_eq!(holder(&[1, std::process::id()], dialer), Some(1));
        assert_eq!(holder(&[1], dialer), None);
        drop(dialling);
        Ok(())
    }
}
