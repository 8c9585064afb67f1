//! The client's address behind proxies.
//!
//! Each proxy appends the address that it was called from to `X-Forwarded-For`. What stands left of
//! the first address that is no proxy of ours was sent by the client itself, and may be anything:
//! so the list is read from the right, and only if a proxy sent it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The networks of the proxies whose headers are believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies(Vec<IpNet>);

/// Parses a network, or a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Proxies {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn are_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the client's address, given the peer's and the values of `X-Forwarded-For` in the
    /// order in which they were sent.
    pub(super) fn client(&self, peer: IpAddr, forwarded: &[&[u8]]) -> IpAddr {
        let mut client = peer.to_canonical();
        let values = forwarded.iter().rev();
        for address in values.flat_map(|value| value.rsplit(|byte| *byte == b',')) {
            if !self.are_trusted(client) {
                break;
            }
            // What a proxy of ours did not write as an address names nobody.
            let Some(address) = parse(address) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// Parses an address with or without a port.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = text.parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.or_else(|| {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"];
        let proxies = Proxies::new(networks.map(|text| network(text).unwrap()).into());
        let forwarded: Vec<_> = forwarded.iter().map(|value| value.as_bytes()).collect();
        let client = proxies.client(peer.parse().unwrap(), &forwarded);
        client.to_string()
    }

    #[test]
    fn client_is_the_first_address_from_the_right_that_is_no_proxy() {
        for (peer, forwarded, expected) in [
            // Nobody between.
            ("203.0.113.7", &[][..], "203.0.113.7"),
            // A stranger says that he is another.
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // He says so to the proxy, which appends him.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            (
                "10.0.0.1",
                &["198.51.100.1, 203.0.113.7 , 10.9.9.9"],
                "203.0.113.7",
            ),
            // All of them are proxies.
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["[2001:db9::1]:4711"], "2001:db9::1"),
            ("10.0.0.1", &["[2001:db9::1]"], "2001:db9::1"),
            ("2001:db8::5", &["2001:db9::1"], "2001:db9::1"),
            // As a socket for both families names an address of the older one.
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("127.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            // The proxy itself is the nearest that is known.
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, "], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn network_is_an_address_or_a_prefix() {
        for text in ["10.0.0.0/8", " 10.0.0.1 ", "::1", "2001:db8::/32"] {
            assert!(network(text).is_some(), "{text}");
        }
        for text in ["", "proxy.internal", "10.0.0.0/33", "10.0.0"] {
            assert!(network(text).is_none(), "{text}");
        }
    }
}
