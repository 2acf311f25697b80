//! Ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use crate::StartError;
use crate::binaries::Program;

/// The port to use: the one that was asked for, if it is free, or any free one.
pub(crate) fn choose(program: Program, wanted: u16, flag: &'static str) -> Result<u16, StartError> {
    let taken = |_| StartError::PortTaken {
        program,
        port: wanted,
        flag,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).map_err(taken)?;
    listener.local_addr().map(|address| address.port()).map_err(taken)
}
