//! Addresses to listen on and to connect to, in the notations that users write.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::net::{TcpListener, TcpStream, lookup_host};

/// A host and a port: `127.0.0.1:8000`, `[::1]:8000`, `localhost:8000`. `:8000` and `8000` are
/// ports of 127.0.0.1. A host name is resolved each time the address is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Error for a text that is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The port is missing.
    #[error("the port is missing, as in `localhost:8000`")]
    NoPort,
    /// The port is not a number from 0 to 65535.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// The host is neither an IP address nor a host name.
    #[error(
        "the host is neither an IP address nor a host name; IPv6 needs brackets, as in `[::1]:8000`"
    )]
    Host,
}

impl ListenAddress {
    /// Resolves the host name. IPv4 addresses come first, because most clients connect to
    /// `localhost` over IPv4.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name,
        };
        let mut found: Vec<SocketAddr> = lookup_host((name.as_str(), self.port)).await?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        Ok(found)
    }

    /// Binds the first resolved address that is available.
    ///
    /// # Errors
    /// No address can be bound, or the name cannot be resolved.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        TcpListener::bind(self.resolve().await?.as_slice()).await
    }

    /// Connects to the first resolved address that accepts.
    ///
    /// # Errors
    /// No address accepts, or the name cannot be resolved.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.resolve().await?.as_slice()).await
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, port) = match text.rsplit_once(':') {
            Some(("", port)) => (Host::Ip(Ipv4Addr::LOCALHOST.into()), port),
            Some((name, port)) if is_host_name(name) => (Host::Name(name.to_owned()), port),
            Some(_) => return Err(AddressError::Host),
            None if is_number(text) => (Host::Ip(Ipv4Addr::LOCALHOST.into()), text),
            None => return Err(AddressError::NoPort),
        };
        if !is_number(port) {
            return Err(AddressError::Port);
        }
        let port = port.parse().map_err(|_| AddressError::Port)?;
        Ok(Self { host, port })
    }
}

/// Checks for digits only: `u16::from_str` accepts a sign as well.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Checks for letters, digits, hyphens and dots. A last label of digits only is a mistyped IPv4
/// address.
fn is_host_name(text: &str) -> bool {
    let has_letters =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    has_letters && !text.rsplit('.').next().is_none_or(is_number)
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads a text, or a port as a number: files and variables may contain `8000` as a number.
struct Written;

impl Visitor<'_> for Written {
    type Value = ListenAddress;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as 127.0.0.1:8000, or a port")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ListenAddress, E> {
        text.parse().map_err(|error| E::custom(format_args!("`{text}` is not an address: {error}")))
    }

    fn visit_u64<E: serde::de::Error>(self, port: u64) -> Result<ListenAddress, E> {
        let port =
            u16::try_from(port).map_err(|_| E::invalid_value(Unexpected::Unsigned(port), &self))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
    }

    fn visit_i64<E: serde::de::Error>(self, port: i64) -> Result<ListenAddress, E> {
        let number =
            u64::try_from(port).map_err(|_| E::invalid_value(Unexpected::Signed(port), &self))?;
        self.visit_u64(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, AddressError>) {
        let parsed = text.parse::<ListenAddress>();
        assert_eq!(
            parsed.map(|address| address.to_string()),
            expected.map(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn address_parses_from_each_notation() {
        for (text, expected) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:8000", "[::1]:8000"),
            ("[::]:8000", "[::]:8000"),
            ("localhost:8000", "localhost:8000"),
            ("my-host_1.example.:65535", "my-host_1.example.:65535"),
            (":8000", "127.0.0.1:8000"),
            ("8000", "127.0.0.1:8000"),
            ("0", "127.0.0.1:0"),
        ] {
            check(text, Ok(expected));
            check(expected, Ok(expected));
        }
    }

    #[test]
    fn invalid_address_is_rejected_with_the_reason() {
        for (text, expected) in [
            ("", AddressError::NoPort),
            ("localhost", AddressError::NoPort),
            ("127.0.0.1", AddressError::NoPort),
            ("[::1]", AddressError::Host),
            ("::1:8000", AddressError::Host),
            ("http://localhost:8000", AddressError::Host),
            ("a b:8000", AddressError::Host),
            ("127.0.0.256:8000", AddressError::Host),
            ("localhost:", AddressError::Port),
            ("localhost:http", AddressError::Port),
            ("localhost:+80", AddressError::Port),
            (":65536", AddressError::Port),
            ("99999", AddressError::Port),
        ] {
            check(text, Err(expected));
        }
    }

    #[test]
    fn address_deserializes_from_text_or_number() {
        let read = |value| serde_json::from_value::<ListenAddress>(value);
        for (value, expected) in
            [(json!(8000), "127.0.0.1:8000"), (json!("localhost:1"), "localhost:1")]
        {
            assert_eq!(serde_json::to_value(read(value).unwrap()).unwrap(), expected);
        }
        for bad in [json!(65536), json!(-1), json!("x"), json!(null), json!([1])] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn host_name_is_resolved_on_use() {
        let any: ListenAddress = "localhost:0".parse().unwrap();
        let listener = any.bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let there: ListenAddress = format!("localhost:{port}").parse().unwrap();
        let stream = there.connect().await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }
}
