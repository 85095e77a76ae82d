//! Hosts as people have them, and the interfaces that are chosen there.

use super::*;

const SERVER: &str = "203.0.113.5";
const SERVER_V6: &str = "2001:db8:5::5";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn device(name: &str) -> Device {
    Device::new(name).unwrap()
}

/// Interfaces with an address each, of the kind that their names say.
fn host(interfaces: &[(&str, &str)], routes: Vec<Route>) -> Host {
    let mut host = Host::new(Vec::new(), routes);
    for (name, address) in interfaces {
        match host.interfaces.iter_mut().find(|interface| interface.device == device(name)) {
            Some(known) => known.addresses.push(ip(address)),
            None => host
                .interfaces
                .push(Interface { addresses: vec![ip(address)], ..Interface::new(device(name), Kind::of_name(name)) }),
        }
    }
    host
}

fn link(name: &str, network: &str, prefix: u8) -> Route {
    Route::new(device(name), ip(network), prefix)
}

fn default(name: &str, metric: u32) -> Route {
    link(name, "0.0.0.0", 0).by_router(metric)
}

fn default_v6(name: &str, metric: u32) -> Route {
    link(name, "::", 0).by_router(metric)
}

/// The names of the chosen interfaces for servers, each with the source address that the routes select.
fn chosen(host: &Host, servers: &[(&str, &str)]) -> Vec<String> {
    let servers = servers
        .iter()
        .map(|(address, source)| Server { address: SocketAddr::new(ip(address), 443), source: source.parse().ok() });
    locals(&choose(host, &servers.collect::<Vec<_>>())).iter().map(ToString::to_string).collect()
}

/// A laptop with Wi-Fi and a phone, with lines of its own.
fn laptop(more: &[(&str, &str)], mut routes: Vec<Route>) -> Host {
    let mut interfaces = vec![("lo", "127.0.0.1"), ("wlan0", "192.168.1.20"), ("usb0", "172.20.10.3")];
    interfaces.extend(more);
    routes.extend([
        default("usb0", 100),
        link("usb0", "172.20.10.0", 28),
        default("wlan0", 600),
        link("wlan0", "192.168.1.0", 24),
    ]);
    host(&interfaces, routes)
}

const CONTAINERS: [(&str, &str); 3] =
    [("docker0", "172.17.0.1"), ("br-0123456789ab", "172.18.0.1"), ("virbr0", "192.168.122.1")];

#[test]
fn laptop_uses_wifi_and_phone_with_the_preferred_one_first() {
    let laptop = laptop(&[], Vec::new());
    assert_eq!(chosen(&laptop, &[(SERVER, "172.20.10.3")]), ["usb0", "wlan0"]);
    assert_eq!(chosen(&laptop, &[(SERVER, "192.168.1.20")]), ["wlan0", "usb0"], "rules may prefer another");
    assert_eq!(chosen(&laptop, &[(SERVER, "")]), ["usb0", "wlan0"], "the metric decides if the source is not known");
}

#[test]
fn interface_that_is_down_is_not_used_and_a_single_one_is_left_to_the_routes() {
    let mut laptop = laptop(&[("eth0", "192.168.7.7")], vec![default("eth0", 50)]);
    assert_eq!(chosen(&laptop, &[(SERVER, "192.168.7.7")]), ["eth0", "usb0", "wlan0"]);
    laptop.interfaces.iter_mut().filter(|other| other.device != device("wlan0")).for_each(|other| other.up = false);
    assert_eq!(chosen(&laptop, &[(SERVER, "192.168.1.20")]), [""; 0]);
}

#[test]
fn preferred_vpn_is_the_only_way_and_another_vpn_is_none() {
    let wireguard = laptop(&[("wg0", "10.9.0.2")], vec![link("wg0", "0.0.0.0", 0)]);
    assert_eq!(chosen(&wireguard, &[(SERVER, "10.9.0.2")]), [""; 0], "alone, it is left to the routes");
    // Its route may be in a table of its own, which is not known here.
    assert_eq!(chosen(&laptop(&[("wg0", "10.9.0.2")], Vec::new()), &[(SERVER, "10.9.0.2")]), [""; 0]);
    // A tunnel to the company's network: the server is elsewhere.
    let split = laptop(&[("tun0", "10.8.0.6")], vec![link("tun0", "10.0.0.0", 8)]);
    assert_eq!(chosen(&split, &[(SERVER, "172.20.10.3")]), ["usb0", "wlan0"]);
    assert_eq!(chosen(&split, &[("10.1.2.3", "10.8.0.6")]), [""; 0]);
    // A tunnel that is up and not preferred.
    let spare = laptop(&[("tun0", "10.8.0.6")], vec![default("tun0", 9000)]);
    assert_eq!(chosen(&spare, &[(SERVER, "172.20.10.3")]), ["usb0", "wlan0"]);
}

#[test]
fn containers_are_never_a_way() {
    let routes = CONTAINERS.map(|(name, address)| link(name, address, 16)).to_vec();
    let laptop = laptop(&CONTAINERS, routes);
    assert_eq!(chosen(&laptop, &[(SERVER, "172.20.10.3")]), ["usb0", "wlan0"]);
    assert_eq!(chosen(&laptop, &[("172.17.0.2", "172.17.0.1")]), [""; 0], "a server in one is left to the routes");
    // Within one, its end of the pair of interfaces is a link like any other.
    let within = host(
        &[("lo", "127.0.0.1"), ("eth0", "172.17.0.2"), ("eth1", "172.18.0.2")],
        vec![default("eth0", 0), default("eth1", 1)],
    );
    assert_eq!(chosen(&within, &[(SERVER, "172.17.0.2")]), ["eth0", "eth1"]);
}

#[test]
fn each_interface_leads_only_to_the_families_that_it_has_routes_for() {
    let routes = vec![default_v6("wlan0", 600), link("wlan0", "2001:db8:1::", 64)];
    let dual = laptop(&[("wlan0", "2001:db8:1::20")], routes);
    let servers =
        [SERVER_V6, SERVER].map(|address| Server { address: SocketAddr::new(ip(address), 443), source: None });
    let paths: Vec<String> = choose(&dual, &servers).iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["[2001:db8:5::5]:443 from wlan0", "203.0.113.5:443 from wlan0", "203.0.113.5:443 from usb0"]);
    let ipv6_only = host(
        &[("wlan0", "2001:db8:1::20"), ("wwan0", "2001:db8:2::7"), ("eth0", "10.0.0.9")],
        vec![default_v6("wlan0", 600), default_v6("wwan0", 700), default("eth0", 100)],
    );
    assert_eq!(chosen(&ipv6_only, &[(SERVER_V6, "2001:db8:1::20")]), ["wlan0", "wwan0"]);
}

#[test]
fn loopback_and_addresses_of_the_host_itself_are_left_to_the_routes() {
    let laptop = laptop(&[("lo", "::1")], Vec::new());
    for (server, source) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.9", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", ""),
        ("192.168.1.20", "192.168.1.20"),
        ("fe80::1", ""),
        ("169.254.3.4", ""),
    ] {
        assert_eq!(chosen(&laptop, &[(server, source)]), [""; 0], "{server}");
    }
    assert_eq!(chosen(&laptop, &[("127.0.0.1", "127.0.0.1"), (SERVER, "")]), ["usb0", "wlan0"]);
}

#[test]
fn neighbour_is_reached_over_its_own_network_alone() {
    let mut laptop = laptop(&[("eth0", "192.168.1.21")], vec![link("eth0", "192.168.1.0", 24)]);
    assert_eq!(chosen(&laptop, &[("192.168.1.5", "192.168.1.21")]), ["eth0", "wlan0"]);
    laptop.routes.retain(|route| route.device != device("eth0"));
    assert_eq!(chosen(&laptop, &[("192.168.1.5", "192.168.1.20")]), [""; 0], "not the phone");
    // A more specific route by a router leaves the default routes as alternatives.
    laptop.routes.push(link("wlan0", "203.0.113.0", 24).by_router(0));
    assert_eq!(chosen(&laptop, &[(SERVER, "192.168.1.20")]), ["wlan0", "usb0"]);
}

#[test]
fn namespace_with_two_pairs_of_virtual_interfaces_has_two_ways() {
    let namespace = host(
        &[("lo", "127.0.0.1"), ("up0", "10.0.1.2"), ("up1", "10.0.2.2")],
        vec![default("up0", 100), default("up1", 200), link("up0", "10.0.1.0", 24), link("up1", "10.0.2.0", 24)],
    );
    assert_eq!(chosen(&namespace, &[("10.9.9.9", "10.0.1.2")]), ["up0", "up1"]);
    // A server with an address in each network, where each is a neighbour, and one elsewhere on the host.
    let servers = ["10.0.1.1", "10.0.2.1", "127.0.0.1"]
        .map(|address| Server { address: SocketAddr::new(ip(address), 443), source: None });
    let paths: Vec<String> = choose(&namespace, &servers).iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["10.0.1.1:443 from up0", "10.0.2.1:443 from up1", "127.0.0.1:443"]);
    assert_eq!(chosen(&Host::default(), &[(SERVER, "10.0.1.2")]), [""; 0], "nothing is known");
}
