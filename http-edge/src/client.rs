//! The client of a request, as a keyed hash of its address (a tag).
//!
//! The address is that of the socket. If the peer is a trusted proxy, it is the nearest address in
//! the forwarding header that is not a trusted proxy; the client itself may have written the rest.
//! IPv6 addresses count by their first 64 bits, because a client controls the others.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_wire::client::ClientTag;
use concert_wire::keyring::{Key, LiveKeyring};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Reverse proxies before the edge: a part of the section `[http]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClientArgs {
    /// IP addresses or CIDR ranges of trusted reverse proxies, such as 10.0.0.0/8.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<Proxies>,
    /// Header in which the proxies name the client. They must set it themselves, not pass on what
    /// the client sent.
    pub forwarded_header: ForwardedHeader,
}

/// A network of proxies, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Proxies(IpNet);

/// A header with the hops between the client and the edge, the nearest last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239)
    Forwarded,
}

impl FromStr for Proxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| {
            "a trusted proxy is an IP address or a network, such as 192.0.2.7 or 10.0.0.0/8"
                .to_owned()
        })
    }
}

impl TryFrom<String> for Proxies {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Proxies> for String {
    fn from(proxies: Proxies) -> Self {
        proxies.0.to_string()
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers by which a proxy names its client.
const FORWARDING_HEADERS: [HeaderName; 2] = [X_FORWARDED_FOR, header::FORWARDED];

/// Identifies the clients of requests.
pub(crate) struct Clients {
    args: ClientArgs,
    keys: LiveKeyring,
    /// True once an untrusted proxy is logged.
    warned: AtomicBool,
}

impl Clients {
    pub(crate) fn new(args: &ClientArgs, keys: impl Into<LiveKeyring>) -> Self {
        Self { args: args.clone(), keys: keys.into(), warned: AtomicBool::new(false) }
    }

    /// Client that sent a request. Logs once if a proxy that is not trusted sent it.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Holder {
        let is_forwarded = || FORWARDING_HEADERS.iter().any(|name| headers.contains_key(name));
        if !self.warned.load(Ordering::Relaxed)
            && is_forwarded()
            && !self.is_trusted(peer.ip().to_canonical())
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %peer,
                "a proxy that is not in http.trusted_proxies sends requests, so all its clients \
                 count as one; if it is yours, add its address"
            );
        }
        Holder::of(self.address(peer, headers))
    }

    /// Tag of a client, under the current key.
    pub(crate) fn tag(&self, client: Holder) -> Option<ClientTag> {
        tag_under(self.keys.now().current(), client)
    }

    /// True if a tag is of this client, under any key.
    pub(crate) fn is_tag_of(&self, tag: &str, client: Holder) -> bool {
        let keys = self.keys.now();
        keys.keys().filter_map(|key| tag_under(key, client)).any(|known| known.as_str() == tag)
    }

    /// Holder of a connection; `None` for a trusted proxy, which connects for many clients.
    pub(crate) fn holder(&self, peer: SocketAddr) -> Option<Holder> {
        let address = peer.ip().to_canonical();
        (!self.is_trusted(address)).then(|| Holder::of(address))
    }

    fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.ip().to_canonical();
        for hop in self.hops(headers).into_iter().rev() {
            if !self.is_trusted(address) {
                break;
            }
            // The proxy does not name its client.
            let Some(hop) = hop else { break };
            address = hop.to_canonical();
        }
        address
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.args.trusted_proxies.iter().any(|proxies| proxies.0.contains(&address))
    }

    /// Hops in the header, the nearest last; `None` for a hop without an address.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.args.forwarded_header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            ForwardedHeader::Forwarded => (header::FORWARDED, forwarded_for),
        };
        let lines = headers.get_all(name).iter();
        lines.flat_map(|line| line.to_str().unwrap_or("unreadable").split(',')).map(read).collect()
    }
}

/// The part of an address that identifies a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The /64 network of an IPv6 address.
    V6([u8; 8]),
}

impl Holder {
    /// Holder of an address in canonical form.
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

fn tag_under(key: &Key, client: Holder) -> Option<ClientTag> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).ok()?;
    mac.update(b"client\0");
    mac.update(client.bytes());
    let digest = mac.finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(digest.get(..16)?).parse().ok()
}

/// Value of `for` of one hop in `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case("for").then(|| node(value.trim().trim_matches('"')))?
    })
}

/// An address, with or without brackets and port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use concert_wire::keyring::Keyring;

    use super::*;

    fn clients(trusted: &[&str], forwarded_header: ForwardedHeader) -> Clients {
        let args = ClientArgs {
            trusted_proxies: trusted.iter().map(|text| text.parse().unwrap()).collect(),
            forwarded_header,
        };
        Clients::new(&args, Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap())
    }

    fn check(clients: &Clients, peer: &str, lines: &[(&'static str, &str)], expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_str(line).unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        assert_eq!(clients.address(peer, &headers).to_string(), expected, "{peer} {lines:?}");
    }

    #[test]
    fn client_is_the_nearest_untrusted_hop() {
        let clients = clients(&["10.0.0.0/8", "192.0.2.7", "::1"], ForwardedHeader::XForwardedFor);
        let header = "x-forwarded-for";
        check(&clients, "198.51.100.1", &[(header, "203.0.113.9")], "198.51.100.1");
        check(&clients, "10.1.1.1", &[], "10.1.1.1");
        check(&clients, "10.1.1.1", &[(header, "203.0.113.9")], "203.0.113.9");
        check(&clients, "::ffff:10.1.1.1", &[(header, "203.0.113.9")], "203.0.113.9");
        // Hops beyond the first untrusted one are ignored.
        check(&clients, "10.1.1.1", &[(header, "1.1.1.1, 203.0.113.9 , 192.0.2.7")], "203.0.113.9");
        check(&clients, "10.1.1.1", &[(header, "1.1.1.1"), (header, "203.0.113.9")], "203.0.113.9");
        check(&clients, "10.1.1.1", &[(header, "10.2.2.2, 10.3.3.3")], "10.2.2.2");
        check(&clients, "10.1.1.1", &[(header, "203.0.113.9, unknown")], "10.1.1.1");
        check(&clients, "10.1.1.1", &[(header, "203.0.113.9, nonsense, 10.3.3.3")], "10.3.3.3");
        check(&clients, "::1", &[(header, "[2001:db8::1]:443")], "2001:db8::1");
        // Only the configured header counts.
        check(&clients, "10.1.1.1", &[("forwarded", "for=203.0.113.9")], "10.1.1.1");
    }

    #[test]
    fn forwarded_header_is_read_if_configured() {
        let clients = clients(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
        for (line, expected) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("proto=https;For=\"203.0.113.9:80\";by=10.0.0.1", "203.0.113.9"),
            ("for=1.1.1.1, for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=1.1.1.1, for=10.0.0.2", "1.1.1.1"),
            ("for=203.0.113.9, for=_hidden", "10.1.1.1"),
            ("for=203.0.113.9, proto=https", "10.1.1.1"),
        ] {
            check(
                &clients,
                "10.1.1.1",
                &[("forwarded", line), ("x-forwarded-for", "9.9.9.9")],
                expected,
            );
        }
    }

    #[test]
    fn connection_of_a_trusted_proxy_has_no_holder() {
        let clients = clients(&["10.0.0.0/8", "2001:db8:7::/48"], ForwardedHeader::XForwardedFor);
        let held = |peer: &str| clients.holder(SocketAddr::new(peer.parse().unwrap(), 1));
        assert_eq!(held("203.0.113.9"), Some(Holder::V4([203, 0, 113, 9])));
        assert_eq!(held("::ffff:203.0.113.9"), held("203.0.113.9"));
        assert_eq!(held("2001:db8::1"), held("2001:db8::ffff:1:2:3"));
        assert_ne!(held("2001:db8::1"), held("2001:db8:0:1::1"));
        for proxy in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:7:1::1"] {
            assert_eq!(held(proxy), None, "{proxy}");
        }
    }

    #[test]
    fn tags_differ_by_ipv4_address_and_ipv6_network() {
        let clients = clients(&[], ForwardedHeader::XForwardedFor);
        let tag = |peer: &str| {
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            clients.tag(clients.client(peer, &HeaderMap::new())).unwrap()
        };
        assert_eq!(tag("192.0.2.1"), tag("::ffff:192.0.2.1"));
        assert_ne!(tag("192.0.2.1"), tag("192.0.2.2"));
        assert_eq!(tag("2001:db8:1:2::1"), tag("2001:db8:1:2:ffff::9"));
        assert_ne!(tag("2001:db8:1:2::1"), tag("2001:db8:1:3::1"));
        let other = Clients::new(
            &clients.args,
            Keyring::parse(&Key::new("k1", [2; 64]).to_line()).unwrap(),
        );
        let same = Holder::V4([192, 0, 2, 1]);
        assert_ne!(other.tag(same), clients.tag(same));
    }

    #[test]
    fn tag_of_an_older_key_is_recognized() {
        let one = Holder::V4([192, 0, 2, 1]);
        let before = clients(&[], ForwardedHeader::XForwardedFor).tag(one).unwrap();
        let lines = [("k2", [2; 64]), ("k1", [1; 64])].map(|(id, key)| Key::new(id, key).to_line());
        let keys = Keyring::parse(&lines.map(|line| line.to_string()).concat()).unwrap();
        let rotated = Clients::new(&ClientArgs::default(), keys);
        assert_ne!(rotated.tag(one), Some(before.clone()));
        assert!(rotated.is_tag_of(before.as_str(), one));
        assert!(!rotated.is_tag_of(before.as_str(), Holder::V4([192, 0, 2, 2])));
    }

    #[test]
    fn untrusted_proxy_is_noticed_once() {
        let clients = clients(&["10.0.0.0/8"], ForwardedHeader::XForwardedFor);
        let is_noticed = |peer: &str, header: HeaderName| {
            let headers = HeaderMap::from_iter([(header, HeaderValue::from_static("192.0.2.1"))]);
            clients.client(SocketAddr::new(peer.parse().unwrap(), 1), &headers);
            clients.warned.load(Ordering::Relaxed)
        };
        assert!(!is_noticed("10.1.1.1", X_FORWARDED_FOR));
        assert!(!is_noticed("172.17.0.1", header::ACCEPT));
        assert!(is_noticed("172.17.0.1", X_FORWARDED_FOR));
    }

    #[test]
    fn trusted_proxy_is_an_address_or_a_network() {
        assert_eq!("192.0.2.7".parse(), Ok::<_, String>(Proxies("192.0.2.7/32".parse().unwrap())));
        for wrong in ["", "proxy.example", "10.0.0.0/33", "10.0.0.0/8/8"] {
            assert!(wrong.parse::<Proxies>().is_err(), "{wrong}");
        }
    }
}
