//! Ports on loopback.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::binaries::Program;
use crate::error::StartError;

/// Where a free port is looked for, unless systems hand these out to outgoing connections: such a
/// connection could take the port between our look and the server's start, or while a server that
/// was killed is started again.
const FREE: Range<u16> = 15_000..32_000;
/// The first port that anybody may listen at.
const UNPRIVILEGED: u16 = 1024;
/// Where Linux tells the range that it hands out.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
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

    /// A port where nothing listens, and that no other process is given as long as this value
    /// lives. `None` if there is none.
    pub fn free() -> Option<Self> {
        let free = free_range(&std::fs::read_to_string(OUTGOING).unwrap_or_default());
        let span = free.end - free.start;
        let first = (RandomState::new().hash_one(std::process::id()) % u64::from(span)) as u16;
        (0..LOOKS).map(|step| free.start + (first + step) % span).find_map(Self::claim)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port, if nothing listens there and no other process of Concert has it.
    fn claim(number: u16) -> Option<Self> {
        let claim = Claim::new(number)?;
        is_free(number).then_some(Self { number, _claim: Some(claim) })
    }
}

/// The part of [`FREE`] that is not handed out, or of what lies above or below where hardly any of
/// it is left; as Linux tells what it hands out.
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
    let roomy = |range: &Range<u16>| range.len() >= usize::from(LOOKS);
    candidates.into_iter().find(roomy).unwrap_or(FREE)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The word of one process to the others that it uses a port: a socket whose name only one process
/// can have, that leaves no file and ends with the process.
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

/// Other systems have no such socket; there two processes that choose at the same moment may choose
/// the same.
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
    use crate::binaries::Program;
    use crate::error::StartError;

    #[test]
    fn a_port_is_chosen_once_until_it_is_given_back() {
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
    fn what_the_system_hands_out_is_left_to_it() {
        for (outgoing, free) in [
            ("32768\t60999\n", FREE),
            ("", FREE),
            ("20000 60999", 15_000..20_000),
            ("10000 20000", 20_001..32_000),
            ("10000 40000", 40_001..u16::MAX),
            ("10000 65535", 1024..10_000),
            // Everything is.
            ("1024 65535", FREE),
        ] {
            assert_eq!(free_range(outgoing), free, "{outgoing}");
        }
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
