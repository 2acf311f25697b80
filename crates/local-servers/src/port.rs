//! Chooses ports on loopback.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::error::StartError;
use crate::program::Program;

/// Range of free ports, unless the system uses it for outgoing connections: such a connection could
/// use the port before the server starts, or while a killed server is restarted.
const FREE: Range<u16> = 15_000..32_000;
/// First unprivileged port.
const UNPRIVILEGED: u16 = 1024;
/// File in which Linux reports its range of outgoing ports.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Maximum number of ports to try.
const MAX_TRIES: u16 = 1_000;

/// A loopback port that this process has reserved for a server.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Held while the server may be started on the port.
    _claim: Option<Claim>,
}

impl Port {
    /// The requested port, if it is free; 0 picks a free port.
    pub(crate) fn choose(
        program: Program,
        wanted: u16,
        flag: &'static str,
    ) -> Result<Self, StartError> {
        let taken = StartError::PortTaken { program, port: wanted, flag };
        if wanted != 0 {
            let port = Self { number: wanted, _claim: None };
            return if is_free(wanted) { Ok(port) } else { Err(taken) };
        }
        Self::free().ok_or(taken)
    }

    /// A port on which nothing listens, reserved against other Concert processes while this value
    /// lives. `None` if there is none.
    pub fn free() -> Option<Self> {
        let free = free_range(&std::fs::read_to_string(OUTGOING).unwrap_or_default());
        let span = free.end - free.start;
        let first = (RandomState::new().hash_one(std::process::id()) % u64::from(span)) as u16;
        (0..MAX_TRIES).map(|step| free.start + (first + step) % span).find_map(Self::claim)
    }

    /// Port number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Reserves the port, if nothing listens there and no other Concert process has reserved it.
    fn claim(number: u16) -> Option<Self> {
        let claim = Claim::new(number)?;
        is_free(number).then_some(Self { number, _claim: Some(claim) })
    }
}

/// The part of [`FREE`] that the system does not use for outgoing connections. If that part is too
/// small, a range below or above. `outgoing` is in the format of Linux.
fn free_range(outgoing: &str) -> Range<u16> {
    let mut bounds = outgoing.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        return FREE;
    };
    let candidates = [
        FREE.start..FREE.end.min(first),
        FREE.start.max(last.saturating_add(1))..FREE.end,
        last.saturating_add(1)..u16::MAX,
        UNPRIVILEGED..first,
    ];
    let roomy = |range: &Range<u16>| range.len() >= usize::from(MAX_TRIES);
    candidates.into_iter().find(roomy).unwrap_or(FREE)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Reserves a port among Concert processes: an abstract socket, whose name only one process can
/// bind. It leaves no file and closes with the process.
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

/// Other systems have no abstract sockets. There, two processes that choose concurrently may choose
/// the same port.
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
    use super::{FREE, OUTGOING, Port, free_range, is_free};
    use crate::error::StartError;
    use crate::program::Program;

    #[test]
    fn port_is_chosen_once_until_it_is_released() {
        let chosen: Vec<Port> =
            (0..200).map(|_| Port::choose(Program::Mongod, 0, "--mongo-port").unwrap()).collect();
        let mut numbers: Vec<u16> = chosen.iter().map(Port::number).collect();
        let free = free_range(&std::fs::read_to_string(OUTGOING).unwrap_or_default());
        assert!(numbers.iter().all(|number| free.contains(number)), "{numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), chosen.len());
    }

    #[test]
    fn outgoing_port_range_is_avoided() {
        for (outgoing, free) in [
            ("32768\t60999\n", FREE),
            ("", FREE),
            ("20000 60999", 15_000..20_000),
            ("10000 20000", 20_001..32_000),
            ("10000 40000", 40_001..u16::MAX),
            ("10000 65535", 1024..10_000),
            // Everything is used for outgoing connections.
            ("1024 65535", FREE),
        ] {
            assert_eq!(free_range(outgoing), free, "{outgoing}");
        }
    }

    #[test]
    fn port_in_use_is_rejected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        let refused = Port::choose(Program::Mongod, port, "--mongo-port").unwrap_err();
        assert!(
            matches!(refused, StartError::PortTaken { port: rejected, .. } if rejected == port)
        );
    }
}
