//! Where servers listen, and which addresses they advertise.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
#[cfg(unix)]
use std::sync::Arc;

use super::paths::no_zone;
use super::{Outcome, qlog, systemd, trace_ring, zones};
use crate::net::{Listener, Network, ServerOptions};

/// Where a server listens, and where else clients reach it.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// Address and port to listen on; repeat it for several addresses. Port 0 selects a free port. "systemd": the sockets of
    /// the service's socket unit. Clients learn the other addresses that they can reach, and use them with
    /// --use-advertised
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub listen: Vec<ListenAt>,
    /// Another address at which clients reach this server, such as a public one in front of a NAT; repeat it for several.
    /// Clients learn it like those of --listen. Without a port, it is the one that the client came to
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub advertise: Vec<AdvertiseAs>,
    /// This server is one of several behind a load balancer, and clients reach it alone at this address, where they join
    /// further TCP connections; repeat it for several. They join at no other address then, because the balancer could
    /// select another server. Without a port, it is that of --listen
    #[arg(long, value_name = "ADDRESS[:PORT]", conflicts_with = "advertise")]
    pub direct: Vec<AdvertiseAs>,
    /// Network of load balancers that send a PROXY protocol header (version 1 or 2) with the client's address, for example
    /// 10.0.0.0/24; repeat it for several. From there a header is required, from elsewhere none is accepted. Every host
    /// in it can claim any address
    #[arg(long, value_name = "NETWORK")]
    pub proxy_protocol: Vec<Network>,
    /// Socket of tcpls bpf-helper: clients may choose a congestion control among its programs, and bring one if it has the
    /// key of its author
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    pub bpf_helper: Option<std::path::PathBuf>,
}

impl ListenArgs {
    /// All addresses to listen on, except those of systemd.
    fn addresses(&self) -> Vec<SocketAddr> {
        let on = |at: &ListenAt| match at {
            ListenAt::On(on) => on.0.clone(),
            ListenAt::Systemd => Vec::new(),
        };
        self.listen.iter().flat_map(on).collect()
    }

    /// Takes the sockets of systemd, if it is to listen on those. To be called once.
    pub(crate) fn prepare(&self) -> Outcome<Prepared> {
        if !self.listen.contains(&ListenAt::Systemd) {
            return Ok(Prepared { addresses: self.addresses(), sockets: None });
        }
        if self.listen.len() > 1 {
            return Err(
                "--listen systemd takes the sockets of the socket unit: write further addresses into that".into()
            );
        }
        let sockets = systemd::sockets()?;
        let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        Ok(Prepared { addresses, sockets: Some(sockets) })
    }

    /// Puts what clients learn into a server's options, and what is written about its sessions.
    pub(crate) fn apply(&self, options: &mut ServerOptions) {
        options.qlog = qlog::current();
        options.trace_ring = trace_ring::current();
        options.proxy_protocol.clone_from(&self.proxy_protocol);
        let addresses = |list: &[AdvertiseAs]| list.iter().map(|AdvertiseAs(address)| *address).collect();
        #[cfg(unix)]
        if let Some(socket) = &self.bpf_helper {
            let programs = Some(crate::programs::Helper::at(socket.clone()));
            options.peer_options = Arc::new((*options.peer_options).clone().with(|policy| policy.programs = programs));
        }
        (options.advertise, options.direct) = (addresses(&self.advertise), addresses(&self.direct));
    }
}

/// What a server is going to listen on.
#[derive(Debug)]
pub(crate) struct Prepared {
    addresses: Vec<SocketAddr>,
    /// From systemd.
    sockets: Option<Vec<TcpListener>>,
}

impl Prepared {
    /// The addresses; port 0 is not known yet.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Listens. To be called within a tokio runtime.
    pub(crate) fn bind(self, options: ServerOptions) -> Outcome<Listener> {
        Ok(match self.sockets {
            Some(sockets) => Listener::from_sockets(sockets, options)?,
            None => Listener::bind(&self.addresses, options)?,
        })
    }
}

/// Where a server gets its sockets from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// It listens on these addresses.
    On(ListenOn),
    /// systemd listens, and passes the sockets.
    Systemd,
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" { Ok(Self::Systemd) } else { text.parse().map(Self::On) }
    }
}

/// Where a server listens: an address, or all addresses of a name that this host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOn(Vec<SocketAddr>);

impl ListenOn {
    /// All addresses on a command line.
    pub(crate) fn all(list: &[Self]) -> Vec<SocketAddr> {
        list.iter().flat_map(|on| &on.0).copied().collect()
    }
}

impl FromStr for ListenOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(vec![address]));
        }
        let found = match zones::split(text) {
            Some(target) => target.to_socket_addrs().map_err(|error| no_zone(text, &error))?,
            None => text
                .to_socket_addrs()
                .map_err(|error| format!("{error}; write ADDRESS:PORT or NAME:PORT, for example 127.0.0.1:4433"))?,
        };
        // `localhost` often stands for ::1, even where there is no IPv6.
        let mut addresses: Vec<SocketAddr> = found.filter(|address| is_local(*address)).collect();
        addresses.sort();
        addresses.dedup();
        if addresses.is_empty() { Err("this host has no address of that name".to_owned()) } else { Ok(Self(addresses)) }
    }
}

/// Whether this host has the address.
fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    UdpSocket::bind(address).is_ok()
}

/// An address that clients learn. Port 0 stands for the one that the client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertiseAs(SocketAddr);

impl FromStr for AdvertiseAs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write ADDRESS or ADDRESS:PORT, for example 198.51.100.1:443 or [2001:db8::1]:443";
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = match (text.parse(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => address,
            (Err(_), Ok(address)) => SocketAddr::new(address, 0),
            (Err(_), Err(_)) => return Err(FORM),
        };
        match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                Err("a link-local address means nothing to clients on other links; name another")
            }
            _ if address.ip().is_unspecified() || address.ip().is_multicast() => Err("name an address of this server"),
            _ => Ok(Self(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_listen_on_names_too() {
        let address = "127.0.0.1:4433".parse().unwrap();
        assert_eq!("127.0.0.1:4433".parse(), Ok(ListenOn(vec![address])));
        assert!("localhost:4433".parse::<ListenOn>().unwrap().0.contains(&address));
        for bad in ["localhost", "localhost:x", ":4433", "127.0.0.1", "192.0.2.1:70000"] {
            assert!(bad.parse::<ListenOn>().is_err(), "{bad}");
        }
        assert!("[fe80::1%no-such-interface]:4433".parse::<ListenOn>().unwrap_err().contains("interface of this host"));
    }

    #[test]
    fn advertised_addresses_need_no_port() {
        for (text, expected) in [
            ("198.51.100.1", "198.51.100.1:0"),
            ("198.51.100.1:443", "198.51.100.1:443"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            assert_eq!(text.parse(), Ok(AdvertiseAs(expected.parse().unwrap())), "{text}");
        }
        for bad in
            ["", "a", "a:443", "198.51.100.1:", "0.0.0.0:443", "::", "[fe80::1]:443", "224.0.0.1", "[::1", "1.2.3.4]"]
        {
            assert!(bad.parse::<AdvertiseAs>().is_err(), "{bad}");
        }
    }
}
