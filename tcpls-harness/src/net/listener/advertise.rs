//! Which addresses a server advertises to a client. Without sockets.

use std::net::{IpAddr, SocketAddr};

use crate::net::reach::Reach;

/// Addresses that are advertised to one client. A peer accepts 16 at a time; the others are left to the application.
pub(super) const MAX_ADVERTISED: usize = 8;

/// What decides which addresses a client gets.
pub(super) struct Situation<'a> {
    /// The addresses that the server listens on.
    pub(super) listening: &'a [SocketAddr],
    /// The addresses that the operator named; port 0 stands for the port of `used`.
    pub(super) named: &'a [SocketAddr],
    /// Whether clients join at those alone: then the one in use must be among them, if joins may go there.
    pub(super) are_all: bool,
    /// The server's address that the client uses.
    pub(super) used: SocketAddr,
    /// The client's address.
    pub(super) client: IpAddr,
}

impl Situation<'_> {
    /// Returns the addresses, those that the operator named first. Of those that the server listens on, only the ones that the
    /// client can be expected to reach: link-local addresses need a zone, which is the client's own, and what a private or
    /// loopback address leads to depends on where the client is.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let at_port = |address: &SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), self.used.port()),
            port => SocketAddr::new(address.ip(), port),
        };
        let client = Reach::of(self.client);
        let reachable = |address: &SocketAddr| Reach::of(address.ip()).is_for(client);
        let listening = self.listening.iter().copied().filter(reachable).filter(|_| !self.are_all);
        let mut addresses = Vec::new();
        for address in self.named.iter().map(at_port).chain(listening) {
            let is_known = address == self.used && !self.are_all;
            if addresses.len() < MAX_ADVERTISED && !is_known && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// Puts each port at which a server listens in the place of port 0.
pub(super) fn at_ports(named: &[SocketAddr], listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut ports: Vec<u16> = listening.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let at = |address: &SocketAddr| match address.port() {
        0 => ports.iter().map(|port| SocketAddr::new(address.ip(), *port)).collect(),
        _ => vec![*address],
    };
    named.iter().flat_map(at).collect()
}

/// Puts addresses of this host in the place of unspecified ones, of the same family.
pub(super) fn expand(listening: &[SocketAddr], host: &[IpAddr]) -> Vec<SocketAddr> {
    let of_host = |at: SocketAddr| {
        let same_family = host.iter().filter(move |address| address.is_ipv4() == at.is_ipv4());
        same_family.map(move |address| SocketAddr::new(*address, at.port()))
    };
    let mut addresses = Vec::new();
    for at in listening {
        if at.ip().is_unspecified() { addresses.extend(of_host(*at)) } else { addresses.push(*at) }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_stand_for_those_of_the_host() {
        let host = ["127.0.0.1", "192.0.2.1", "10.0.0.1", "::1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let expanded = |listening: &[&str]| -> Vec<String> {
            expand(&addresses(listening), &host).iter().map(ToString::to_string).collect()
        };
        assert_eq!(expanded(&["0.0.0.0:443"]), ["127.0.0.1:443", "192.0.2.1:443", "10.0.0.1:443"]);
        assert_eq!(expanded(&["198.51.100.1:1", "[::]:2"]), ["198.51.100.1:1", "[::1]:2", "[2001:db8::1]:2"]);
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn advertised(listening: &[&str], named: &[&str], used: &str, client: &str) -> Vec<String> {
        let (listening, named) = (addresses(listening), addresses(named));
        let (used, client) = (used.parse().unwrap(), client.parse().unwrap());
        let situation = Situation { listening: &listening, named: &named, are_all: false, used, client };
        situation.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn client_gets_the_listening_addresses_that_it_can_reach() {
        let listening = ["203.0.113.1:443", "10.0.0.1:443", "127.0.0.1:443", "[2001:db8::1]:443", "[fe80::1%2]:443"];
        let for_client = |client: &str| advertised(&listening, &[], "203.0.113.1:443", client);
        assert_eq!(for_client("198.51.100.7"), ["[2001:db8::1]:443"]);
        assert_eq!(for_client("10.9.9.9"), ["10.0.0.1:443", "[2001:db8::1]:443"]);
        assert_eq!(for_client("fd00::9"), ["10.0.0.1:443", "[2001:db8::1]:443"]);
        assert_eq!(for_client("fe80::9"), ["10.0.0.1:443", "[2001:db8::1]:443"]);
        assert_eq!(for_client("127.0.0.1"), ["10.0.0.1:443", "127.0.0.1:443", "[2001:db8::1]:443"]);
        assert_eq!(for_client("::ffff:198.51.100.7"), ["[2001:db8::1]:443"]);
    }

    #[test]
    fn named_addresses_come_first_with_the_port_that_the_client_uses() {
        let named = ["198.51.100.1:0", "198.51.100.2:8443", "10.0.0.5:443"];
        let listening = ["10.0.0.5:443", "203.0.113.1:443"];
        // A public client of a server behind a NAT: what the operator named is not judged.
        assert_eq!(
            advertised(&listening, &named, "10.0.0.5:443", "192.0.2.9"),
            ["198.51.100.1:443", "198.51.100.2:8443", "203.0.113.1:443"]
        );
    }

    #[test]
    fn server_behind_a_balancer_advertises_its_own_addresses_even_the_one_in_use() {
        let listening = addresses(&["10.0.0.7:8443", "10.0.0.8:8443"]);
        let own = at_ports(&addresses(&["203.0.113.7:0", "203.0.113.8:443"]), &listening);
        let used = "203.0.113.7:8443".parse().unwrap();
        // The balancer is in the same network.
        let client = "10.0.0.1".parse().unwrap();
        let situation = Situation { listening: &listening, named: &own, are_all: true, used, client };
        assert_eq!(situation.addresses(), addresses(&["203.0.113.7:8443", "203.0.113.8:443"]));
        // The balancer's port, which a PROXY protocol header names, is another.
        let used = "192.0.2.1:443".parse().unwrap();
        assert_eq!(Situation { used, ..situation }.addresses(), addresses(&["203.0.113.7:8443", "203.0.113.8:443"]));
    }

    #[test]
    fn each_address_is_advertised_once_and_their_number_is_bounded() {
        let many: Vec<String> = (0..100).map(|n| format!("203.0.113.{n}:443")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let listening = [&many[..4], &many].concat();
        let found = advertised(&listening, &["203.0.113.1:0"], "203.0.113.0:443", "192.0.2.9");
        let expected: Vec<String> = (1..=MAX_ADVERTISED).map(|n| format!("203.0.113.{n}:443")).collect();
        assert_eq!(found, expected);
    }
}
