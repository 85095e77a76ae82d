//! Chooses the interfaces of a host over which a client reaches its server: functions without sockets.
//!
//! [`choose`] decides, from a [`Host`]: its interfaces and routes. With the feature `interfaces`, `net::interfaces` reads
//! them from the operating system.

mod kind;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use self::kind::Kind;
use crate::dial::local::is_link_local;
use crate::dial::{Device, Local, Path};

/// A network interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Which.
    pub device: Device,
    /// What it is.
    pub kind: Kind,
    /// Whether it is up, with a carrier.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// An interface that is up, without addresses.
    pub fn new(device: Device, kind: Kind) -> Self {
        Self { device, kind, up: true, addresses: Vec::new() }
    }
}

/// A route of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The interface that it leads to.
    pub device: Device,
    /// The first address of the network that it leads to.
    pub network: IpAddr,
    /// The length of the network's prefix: 0 for a default route.
    pub prefix: u8,
    /// Whether a router is next, and not the destination.
    pub gateway: bool,
    /// The lower, the better.
    pub metric: u32,
}

impl Route {
    /// A route to a network on the link.
    pub fn new(device: Device, network: IpAddr, prefix: u8) -> Self {
        Self { device, network, prefix, gateway: false, metric: 0 }
    }

    /// The same by way of a router.
    #[must_use]
    pub fn by_router(self, metric: u32) -> Self {
        Self { gateway: true, metric, ..self }
    }

    fn leads_to(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let differ = bits(self.network) ^ bits(address);
        self.network.is_ipv4() == address.is_ipv4() && differ.leading_zeros() >= self.prefix.into()
    }

    /// Whether the destination is a neighbour. A default route to a link without routers (mobile networks) does not say so.
    fn is_on_link(&self) -> bool {
        !self.gateway && self.prefix > 0
    }
}

/// The network of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Its routes. Those in other tables than the main one can be left out.
    pub routes: Vec<Route>,
}

impl Host {
    /// A host with these interfaces and routes.
    pub fn new(interfaces: Vec<Interface>, routes: Vec<Route>) -> Self {
        Self { interfaces, routes }
    }

    fn interface(&self, device: Device) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.device == device)
    }

    pub(crate) fn with_address(&self, address: IpAddr) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.addresses.contains(&address))
    }
}

/// An address of the server, and the address that the operating system's routes select to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The server's address.
    pub address: SocketAddr,
    /// The local address that a socket gets which is not bound, if there is a route.
    pub source: Option<IpAddr>,
}

/// Returns the paths over which to reach a server, in the order of dials.
///
/// Where at least two interfaces lead to the server, each path begins at one of them. Otherwise there is no choice, and
/// the operating system's routes decide. The interfaces through which a route leads to an address are chosen, with these
/// exceptions:
///
/// - If the routes prefer a VPN or tunnel, only that leads there. Other tunnels are never chosen: what they carry goes
///   through an interface that is chosen itself.
/// - If the address is on a network that the host is connected to, only the interfaces of that network lead there.
/// - Loopback, and the networks of containers and virtual machines, are never chosen, nor is any interface for an address
///   of the host itself: there, the routes decide.
pub fn choose(host: &Host, servers: &[Server]) -> Vec<Path> {
    let ways: Vec<Vec<Device>> = servers.iter().map(|server| ways(host, server)).collect();
    let mut locals: Vec<Local> = Vec::new();
    for device in ways.iter().flatten() {
        if !locals.iter().any(|local| local.device == Some(*device)) {
            locals.push(Local::from(*device));
        }
    }
    let all: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    if locals.len() < 2 {
        return Path::pairs(&all, &[]);
    }
    let is_way = |path: &Path| {
        let mut to = servers.iter().zip(&ways).filter(|(server, _)| server.address == path.remote);
        to.any(|(_, ways)| path.device.is_some_and(|device| ways.contains(&device)))
    };
    let is_reached = |address: &SocketAddr| {
        servers.iter().zip(&ways).any(|(server, ways)| server.address == *address && !ways.is_empty())
    };
    let (reached, left_to_routes): (Vec<SocketAddr>, Vec<SocketAddr>) = all.into_iter().partition(is_reached);
    let mut paths = Path::pairs(&reached, &locals);
    paths.retain(is_way);
    paths.extend(left_to_routes.into_iter().map(Path::from));
    paths
}

/// The local ends at which `paths` begin.
pub fn locals(paths: &[Path]) -> Vec<Local> {
    let mut locals: Vec<Local> = Vec::new();
    for local in paths.iter().map(Local::of) {
        if local != Local::default() && !locals.contains(&local) {
            locals.push(local);
        }
    }
    locals
}

/// The interfaces that lead to one address, the preferred one first.
fn ways(host: &Host, server: &Server) -> Vec<Device> {
    let address = server.address.ip().to_canonical();
    // A server at a link-local address is named with its interface.
    if address.is_loopback() || is_link_local(address) || host.with_address(address).is_some() {
        return Vec::new();
    }
    let mut routes: Vec<&Route> = host.routes.iter().filter(|route| route.leads_to(address)).collect();
    if routes.iter().any(|route| route.is_on_link()) {
        routes.retain(|route| route.is_on_link());
    }
    routes.sort_by_key(|route| (u8::MAX - route.prefix, route.metric));
    let by_source = server.source.and_then(|source| host.with_address(source));
    let by_source = by_source.filter(|interface| interface.kind != Kind::Loopback);
    let preferred = by_source.map(|interface| interface.device).or_else(|| routes.first().map(|route| route.device));
    let kind = |device: Device| host.interface(device).filter(|interface| interface.up).map(|interface| interface.kind);
    match preferred.map(|device| (device, kind(device))) {
        Some((tunnel, Some(Kind::Tunnel))) => return vec![tunnel],
        Some((_, Some(Kind::Internal | Kind::Loopback))) => return Vec::new(),
        _ => {}
    }
    let mut devices: Vec<Device> = Vec::new();
    for device in preferred.into_iter().chain(routes.into_iter().map(|route| route.device)) {
        if kind(device) == Some(Kind::Link) && !devices.contains(&device) {
            devices.push(device);
        }
    }
    devices
}
