//! Lost and found local addresses, and the host's sleep.

use std::net::{IpAddr, SocketAddr};

use tcpls_core::connection::TcpEnd;
use tcpls_core::event::{Event, TcpEvent};

use super::world::{FIRST, Good, MS, RTT, Refusing, World};
use super::*;
use crate::dial::NetworkChange::{AddressFound, AddressLost, DeviceFound, DeviceLost, Resumed};

/// How long a local address may be away.
const ABSENCE: Duration = Duration::from_secs(5);

fn local(number: usize) -> IpAddr {
    IpAddr::from([10, 0, number as u8, 2])
}

/// A session with a TCP connection from each of these local addresses.
fn world(locals: usize, keep: Keep) -> World {
    let from = |number| Path { local: Some(SocketAddr::new(local(number), 0)), ..path(number) };
    let options = DialOptions { keep, ..DialOptions::default() };
    let mut world = World::over((0..locals).map(from).collect(), &vec![Good; locals], options);
    world.run(Duration::from_secs(1));
    world.log.clear();
    world
}

impl World {
    /// What the operating system reports; the session stalls TCP connections.
    fn change(&mut self, change: NetworkChange, pairs: &[usize]) {
        let tcps: Vec<ConnectionId> = pairs.iter().filter_map(|pair| self.on_pair(*pair)).collect();
        self.dialer.handle_network(self.now, change, &tcps);
        if matches!(change, AddressLost(_) | Resumed) {
            tcps.iter().for_each(|tcp| self.hear(&Event::Tcp(TcpEvent::Stalled { tcp: *tcp })));
        }
    }

    fn resets(&self) -> usize {
        self.times(|action| matches!(action, Action::Reset { .. })).len()
    }
}

#[test]
fn tcp_connection_without_a_link_is_closed_at_once_if_another_works() {
    let mut world = world(2, Keep::Paths);
    let lost = world.on_pair(0).unwrap();
    world.change(AddressLost(local(0)), &[0]);
    world.run(Duration::ZERO);
    assert!(
        world.log.iter().any(|(_, action)| *action == Action::Reset { tcp: lost, why: TcpEnd::PathDown }),
        "{:?}",
        world.log
    );
    world.run(Duration::from_secs(60));
    assert_eq!((world.dials(0).len(), world.on_pair(0)), (0, None), "no dial without a local address");
    assert!(world.dialer.poll_timeout().is_none(), "an address that is away costs no wakeups");
    world.change(AddressFound(local(0)), &[]);
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some(), "it is dialed as soon as the address is back: {:?}", world.log);
}

#[test]
fn session_without_streams_rejoins_from_an_address_that_is_back() {
    let mut world = world(2, Keep::Paths);
    (world.view.streams, world.view.has_data) = (0, false);
    world.change(AddressLost(local(0)), &[0]);
    world.run(Duration::from_secs(60));
    world.change(AddressFound(local(0)), &[]);
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some(), "{:?}", world.log);
    // Without a change of the network it still waits for a stream.
    let tcp = world.on_pair(0).unwrap();
    world.log.clear();
    world.lose(tcp, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    assert_eq!(world.dials(0).len(), 0, "{:?}", world.log);
}

#[test]
fn pair_of_an_interface_waits_until_that_is_up() {
    let device = Device::new("wlan0").unwrap();
    let on_device = Path { device: Some(device), ..path(0) };
    let mut world = World::over(vec![on_device, path(1)], &[Good; 2], DialOptions::default());
    world.run(Duration::from_secs(1));
    world.log.clear();
    // The address of the TCP connection is reported first.
    world.change(AddressLost(local(0)), &[0]);
    world.change(DeviceLost(device), &[]);
    world.run(Duration::from_secs(60));
    assert_eq!((world.dials(0).len(), world.on_pair(0)), (0, None));
    assert!(world.dialer.poll_timeout().is_none());
    world.change(DeviceFound(device), &[]);
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some(), "{:?}", world.log);
}

#[test]
fn address_that_returns_within_five_seconds_keeps_its_tcp_connection() {
    for keep in [Keep::Session, Keep::Paths] {
        let mut world = world(1, keep);
        world.change(AddressLost(local(0)), &[0]);
        world.run(ABSENCE - MS);
        assert_eq!((world.on_pair(0), world.resets(), world.dials(0).len()), (Some(FIRST), 0, 0), "{keep:?}");
        world.change(AddressFound(local(0)), &[0]);
        world.hear(&Event::Tcp(TcpEvent::Resumed { tcp: FIRST }));
        world.run(Duration::from_secs(60));
        assert_eq!((world.on_pair(0), world.resets()), (Some(FIRST), 0), "{keep:?}: {:?}", world.log);
    }
}

#[test]
fn tcp_connection_whose_address_is_away_for_five_seconds_is_closed() {
    let mut world = world(1, Keep::Paths);
    world.change(AddressLost(local(0)), &[0]);
    world.run(ABSENCE);
    assert_eq!((world.on_pair(0), world.resets()), (None, 1));
    world.run(Duration::from_secs(30));
    assert_eq!(world.dials(0).len(), 0);
    world.change(AddressFound(local(0)), &[]);
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some(), "{:?}", world.log);
}

#[test]
fn session_that_keeps_one_tcp_connection_moves_to_another_address_at_once() {
    let mut world = world(2, Keep::Session);
    assert_eq!(world.on_pair(1), None);
    world.change(AddressLost(local(0)), &[0]);
    world.run(RTT * 2);
    assert!(world.on_pair(1).is_some(), "{:?}", world.log);
    assert_eq!((world.on_pair(0), world.resets()), (None, 1), "the old one is closed when the new one works");
}

#[test]
fn after_a_suspend_every_pair_is_dialed_at_once_and_what_answers_stays() {
    for keep in [Keep::Session, Keep::Paths] {
        let mut world = world(2, keep);
        world.view.streams = 1;
        let before = world.on_pair(0);
        world.change(Resumed, &[0, 1]);
        world.run(Duration::ZERO);
        assert!(!world.dials(0).is_empty(), "{keep:?}: {:?}", world.log);
        world.hear(&Event::Tcp(TcpEvent::Resumed { tcp: before.unwrap() }));
        world.run(Duration::from_secs(1));
        assert_eq!((world.on_pair(0), world.resets()), (before, 0), "{keep:?}: {:?}", world.log);
    }
}

#[test]
fn client_whose_peer_has_given_up_rejoins_within_a_second_of_waking() {
    for keep in [Keep::Session, Keep::Paths] {
        let mut world = world(1, keep);
        world.change(Resumed, &[0]);
        world.run(RTT * 2);
        assert_ne!(world.on_pair(0), Some(FIRST), "{keep:?}: {:?}", world.log);
        assert!(world.on_pair(0).is_some(), "{keep:?}: {:?}", world.log);
    }
}

/// A DHCP client gets the address some seconds after the interface is up with a link-local one.
#[test]
fn path_without_an_address_is_dialed_as_soon_as_one_is_found() {
    for device in [None, Device::new("wlan0")] {
        let mut world = World::over(vec![Path { device, ..path(0) }], &[Good], DialOptions::default());
        world.run(Duration::from_secs(1));
        world.change(AddressLost(local(0)), &[0]);
        world.natures[0] = Refusing;
        device.into_iter().for_each(|device| world.change(DeviceFound(device), &[]));
        world.run(Duration::from_secs(600));
        let next = world.dialer.poll_timeout().unwrap();
        assert!(next > world.now + RTT * 5, "dials are rare by now: {next:?}");
        world.natures[0] = Good;
        let before = world.dials(0).len();
        for other in ["fe80::7", "169.254.0.7", "2001:db8::7"] {
            world.change(AddressFound(other.parse().unwrap()), &[]);
        }
        world.run(RTT * 2);
        assert_eq!((world.dials(0).len(), world.on_pair(0)), (before, None), "these lead elsewhere");
        world.change(AddressFound(local(7)), &[]);
        world.run(RTT * 2);
        assert!(world.on_pair(0).is_some(), "{device:?}: {:?}", world.log);
    }
}

#[test]
fn unbound_path_is_dialed_at_once_when_the_address_that_it_used_is_lost() {
    let mut world = World::new(&[Good], DialOptions::default());
    world.run(Duration::from_secs(1));
    world.change(AddressLost(local(0)), &[0]);
    world.run(RTT * 2);
    let new = world.on_pair(0).expect("the routes lead over another interface now");
    assert_ne!(new, FIRST);
    world.run(Duration::from_secs(60));
    assert_eq!(world.on_pair(0), Some(new), "it lasts");
}

#[test]
fn interface_that_appears_after_the_start_is_dialed_at_once() {
    let device = Device::new("usb0").unwrap();
    let absent = Path { device: Some(device), ..path(0) };
    // A socket cannot be bound to what does not exist.
    let mut world = World::over(vec![absent, path(1)], &[Refusing, Good], DialOptions::default());
    world.run(Duration::from_secs(600));
    assert_eq!((world.on_pair(0), world.since_start()), (None, Some(RTT * 3)), "the session starts on the other path");
    assert!(world.dials(0).len() < 300, "{} dials", world.dials(0).len());
    let next = world.dialer.poll_timeout().unwrap();
    assert!(next > world.now + RTT * 5, "dials are rare by now: {next:?}");
    world.set(0, Good);
    world.change(DeviceFound(device), &[]);
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some(), "{:?}", world.log);
}
