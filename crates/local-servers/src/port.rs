//! Ports on loopback.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::StartError;
use crate::binaries::Program;

/// Where a free port is looked for: below what systems hand out to outgoing connections, since such a connection could take the
/// port between our look and the server's start, or while a server that was killed is started again.
const FREE: Range<u16> = 15_000..32_000;
/// How many ports are looked at.
const LOOKS: u16 = 1_000;

/// A port on loopback that is this process's to give to a server.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Kept for as long as the server may be started on it.
    _claim: Option<Claim>,
}

impl Port {
    /// The port that was asked for, if it is free, or with 0 any free one.
    pub(crate) fn choose(program: Program, wanted: u16, flag: &'static str) -> Result<Self, StartError> {
        let taken = StartError::PortTaken {
            program,
            port: wanted,
            flag,
        };
        if wanted != 0 {
            let port = Self {
                number: wanted,
                _claim: None,
            };
            return if is_free(wanted) { Ok(port) } else { Err(taken) };
        }
        Self::free().ok_or(taken)
    }

    /// A port where nothing listens, and that no other process is given as long as this value lives. `None` if there is none.
    pub fn free() -> Option<Self> {
        let span = FREE.end - FREE.start;
        let first = (RandomState::new().hash_one(std::process::id()) % u64::from(span)) as u16;
        (0..LOOKS)
            .map(|step| FREE.start + (first + step) % span)
            .find_map(Self::claim)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port, if nothing listens there and no other process of Concert has it.
    fn claim(number: u16) -> Option<Self> {
        let claim = Claim::new(number)?;
        is_free(number).then_some(Self {
            number,
            _claim: Some(claim),
        })
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The word of one process to the others that it uses a port: a socket whose name only one process can have, that leaves no file
/// and ends with the process.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Claim {
    _socket: std::os::unix::net::UnixListener,
}

#[cfg(target_os = "linux")]
impl Claim {
    fn new(port: u16) -> Option<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener};

        let name = SocketAddr::from_abstract_name(format!("concert-port-{port}")).ok()?;
        UnixListener::bind_addr(&name).ok().map(|_socket| Self { _socket })
    }
}

/// Other systems have no such socket; there two processes that choose at the same moment may choose the same.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Claim;

#[cfg(not(target_os = "linux"))]
impl Claim {
    fn new(_: u16) -> Option<Self> {
        Some(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::{FREE, Port, is_free};
    use crate::StartError;
    use crate::binaries::Program;

    #[test]
    fn a_port_is_chosen_once_until_it_is_given_back() {
        let chosen: Vec<Port> = (0..200)
            .map(|_| Port::choose(Program::Mongod, 0, "--mongo-port").unwrap())
            .collect();
        let mut numbers: Vec<u16> = chosen.iter().map(Port::number).collect();
        assert!(numbers.iter().all(|number| FREE.contains(number)), "{numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), chosen.len());
    }

    #[test]
    fn a_port_that_is_in_use_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        let refused = Port::choose(Program::Mongod, port, "--mongo-port").unwrap_err();
        assert!(matches!(refused, StartError::PortTaken { port: told, .. } if told == port));
    }
}
