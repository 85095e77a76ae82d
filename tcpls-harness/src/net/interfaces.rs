//! The interfaces and routes of this host, from the operating system.
//!
//! On Linux, routes come from `/proc/net`, which has those of the main table; what rules prefer, the kernel says for each
//! destination. On other systems it says for each interface whether a route leads from there to a destination.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use getifaddrs::{InterfaceFlags, getifaddrs};

use crate::dial::{Device, Path};
use crate::links::{Host, Interface, Kind, Route, Server, choose};
use crate::net::socket::to_device;

/// Returns the paths from this host to a server, over each interface that leads there: see [`choose`].
///
/// Reads the state of the system, and sends nothing. What cannot be read is left to the operating system's routes, and so
/// is everything where sockets can't be bound to interfaces (Linux before 5.7, without privileges).
pub fn paths_to(addresses: &[SocketAddr]) -> Vec<Path> {
    let servers: Vec<Server> =
        addresses.iter().map(|address| Server { address: *address, source: source(*address) }).collect();
    match host(addresses) {
        Ok(host) if can_bind() => choose(&host, &servers),
        _ => Path::pairs(addresses, &[]),
    }
}

/// Reads the interfaces of this host, and its routes, at least those to `addresses`.
///
/// # Errors
/// The operating system does not say.
pub fn host(addresses: &[SocketAddr]) -> io::Result<Host> {
    let interfaces = interfaces()?;
    let routes = routes(&interfaces, addresses);
    Ok(Host::new(interfaces, routes))
}

/// Returns whether the kernel drops IPv4 packets that arrive over `device` from addresses to which another route is better
/// (`rp_filter` = 1): then nothing that is sent over it is answered, unless its route is the best.
pub fn has_strict_filter(device: Device) -> bool {
    strictest(|conf| fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter")).ok(), device) == Some(1)
}

/// The kernel applies the larger of two settings (Documentation/networking/ip-sysctl.rst).
fn strictest(read: impl Fn(&str) -> Option<String>, device: Device) -> Option<u8> {
    ["all", device.name()].into_iter().filter_map(|conf| read(conf)?.trim().parse().ok()).max()
}

/// The interfaces of this host.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for found in getifaddrs()? {
        let Some(device) = device(&found.name, found.index) else { continue };
        let at = interfaces.iter().position(|other| other.device == device).unwrap_or_else(|| {
            let kind = if found.flags.contains(InterfaceFlags::LOOPBACK) { Kind::Loopback } else { kind_of(&found) };
            let mut interface = Interface::new(device, kind);
            interface.up = found.flags.contains(InterfaceFlags::UP | InterfaceFlags::RUNNING);
            interfaces.push(interface);
            interfaces.len() - 1
        });
        interfaces[at].addresses.extend(found.address.ip_addr());
    }
    Ok(interfaces)
}

/// Windows binds sockets by numbers alone.
fn device(name: &str, index: Option<u32>) -> Option<Device> {
    if cfg!(windows) { Device::new(&index?.to_string()) } else { Device::new(name) }
}

#[cfg(windows)]
fn kind_of(interface: &getifaddrs::Interface) -> Kind {
    const TUNNELS: [&str; 6] = ["vpn", "wireguard", "wintun", "tap-", "tunnel", "tailscale"];
    const INTERNAL: [&str; 3] = ["hyper-v", "virtualbox", "vmware"];
    let description = interface.description.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| description.contains(word));
    if has(&TUNNELS) {
        Kind::Tunnel
    } else if has(&INTERNAL) {
        Kind::Internal
    } else {
        Kind::of_name(&interface.name)
    }
}

/// By what `/sys` has about it, where there is one, because tunnels may have any name; then by the name.
#[cfg(not(windows))]
fn kind_of(interface: &getifaddrs::Interface) -> Kind {
    let kind = Kind::of_name(&interface.name);
    let file = |file: &str| fs::read_to_string(format!("/sys/class/net/{}/{file}", interface.name));
    let is_wireguard = || file("uevent").is_ok_and(|event| event.contains("DEVTYPE=wireguard"));
    // include/uapi/linux/if_arp.h: PPP, IP in IP and its variants, GRE.
    let tunnels = [512, 768, 769, 776, 778, 823];
    let is_tunnel =
        || file("type").is_ok_and(|number| number.trim().parse().is_ok_and(|number: u32| tunnels.contains(&number)));
    if kind == Kind::Link && (file("tun_flags").is_ok() || is_wireguard() || is_tunnel()) { Kind::Tunnel } else { kind }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn routes(_interfaces: &[Interface], _addresses: &[SocketAddr]) -> Vec<Route> {
    // Threads can be in other network namespaces than the process.
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let (v4, v6) = (read("route"), read("ipv6_route"));
    v4.lines().filter_map(table::v4).chain(v6.lines().filter_map(table::v6)).collect()
}

/// A socket that is bound to an interface connects where that has a route to.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn routes(interfaces: &[Interface], addresses: &[SocketAddr]) -> Vec<Route> {
    let mut routes = Vec::new();
    for address in addresses {
        for interface in interfaces.iter().filter(|interface| interface.up) {
            let leads_there = || {
                let socket = unspecific(*address)?;
                to_device(&socket, interface.device, address.is_ipv4())?;
                socket.connect(address)
            };
            if leads_there().is_ok() {
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                routes.push(Route::new(interface.device, address.ip(), prefix).by_router(0));
            }
        }
    }
    routes
}

/// The local address of a socket that is not bound. Nothing is sent.
fn source(address: SocketAddr) -> Option<IpAddr> {
    let socket = unspecific(address).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn unspecific(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    UdpSocket::bind((any, 0))
}

/// Whether sockets can be bound to interfaces.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn can_bind() -> bool {
    let socket = unspecific(SocketAddr::from(([127, 0, 0, 1], 1)));
    let lo = Device::new("lo").expect("it is short");
    socket.is_ok_and(|socket| to_device(&socket, lo, true).is_ok())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn can_bind() -> bool {
    cfg!(any(target_vendor = "apple", windows))
}

/// The tables of routes in `/proc/net`: one route on each line.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod table {
    use std::net::{IpAddr, Ipv4Addr};

    use crate::dial::Device;
    use crate::links::Route;

    /// include/uapi/linux/route.h.
    const UP: u32 = 0x1;
    const GATEWAY: u32 = 0x2;
    const REJECT: u32 = 0x200;

    fn hex(text: &str) -> Option<u32> {
        u32::from_str_radix(text, 16).ok()
    }

    fn route(device: &str, network: IpAddr, prefix: u8, flags: u32, metric: u32) -> Option<Route> {
        let route = Route::new(Device::new(device)?, network, prefix);
        let route = if flags & GATEWAY != 0 { route.by_router(metric) } else { Route { metric, ..route } };
        (flags & UP != 0 && flags & REJECT == 0).then_some(route)
    }

    /// Interface, destination, gateway, flags, references, uses, metric, mask. Addresses are in network byte order, printed as
    /// numbers of the host.
    pub(super) fn v4(line: &str) -> Option<Route> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, network, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let network = Ipv4Addr::from(hex(network)?.to_ne_bytes());
        route(device, network.into(), hex(mask)?.count_ones() as u8, hex(flags)?, metric.parse().ok()?)
    }

    /// Destination, prefix, source, prefix, next hop, metric, references, uses, flags, interface; all in hexadecimal digits.
    pub(super) fn v6(line: &str) -> Option<Route> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [network, prefix, _, _, _, metric, _, _, flags, device] = fields[..] else { return None };
        let network = std::net::Ipv6Addr::from(u128::from_str_radix(network, 16).ok()?);
        route(device, network.into(), hex(prefix)?.try_into().ok()?, hex(flags)?, hex(metric)?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lines_of_the_kernel_are_read_and_headers_are_not() {
            let device = |name| Device::new(name).unwrap();
            let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
            let default = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0";
            let network = "wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0";
            assert_eq!(v4(head), None);
            if cfg!(target_endian = "little") {
                let any = Route::new(device("wlan0"), [0; 4].into(), 0);
                assert_eq!(v4(default), Some(any.by_router(600)));
                let network = v4(network).unwrap();
                assert_eq!((network.network, network.prefix, network.gateway), ([192, 168, 1, 0].into(), 24, false));
            }
            let zeros = "00000000000000000000000000000000";
            let router = "fe800000000000000000000000000001";
            let line = format!("{zeros} 00 {zeros} 00 {router} 00000258 00000001 00000000 00000003    wlan0");
            assert_eq!(v6(&line), Some(Route::new(device("wlan0"), [0; 16].into(), 0).by_router(600)));
            // What the kernel prints where there is no default route.
            let rejected = format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo");
            assert_eq!(v6(&rejected), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_of_this_host_and_no_way_to_a_server() {
        let local = SocketAddr::from(([127, 0, 0, 1], 443));
        let host = host(&[local]).unwrap();
        let loopback = host.interfaces.iter().find(|interface| interface.kind == Kind::Loopback).unwrap();
        assert!(loopback.up && loopback.addresses.contains(&local.ip()), "{loopback:?}");
        assert_eq!(paths_to(&[local]), [Path::from(local)]);
        assert_eq!(source(local), Some(local.ip()));
    }

    #[test]
    fn loose_filter_of_an_interface_outweighs_a_strict_one_of_all() {
        let strictest = |all: &str, own: &str| {
            let values = [("all", all.to_owned()), ("usb0", own.to_owned())];
            let read = |conf: &str| values.iter().find(|(name, _)| *name == conf).map(|(_, value)| value.clone());
            strictest(read, Device::new("usb0").unwrap())
        };
        assert_eq!([strictest("0\n", "1\n"), strictest("1\n", "0\n")], [Some(1), Some(1)]);
        assert_eq!([strictest("1\n", "2\n"), strictest("0\n", "0\n"), strictest("", "")], [Some(2), Some(0), None]);
    }
}
