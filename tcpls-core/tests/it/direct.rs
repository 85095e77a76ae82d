//! Servers behind a load balancer: joins at addresses of the server's own alone.

use std::net::SocketAddr;
use std::time::Duration;

use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::{Config, Lanes};

use crate::support::{Client, Pair, Server, Setup};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn balancer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 443))
}

fn own() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 8443))
}

/// A session of a server that accepts joins only at addresses that it advertises.
fn behind_a_balancer() -> Pair {
    let server = Config::default().with(|config| config.joins_at_advertised_only = true);
    Setup { server, ..Setup::default() }.established()
}

#[test]
fn client_learns_at_which_addresses_it_may_join_and_when_no_longer() {
    let mut pair = behind_a_balancer();
    assert!(pair.client().joins_at_advertised_only());
    assert!(!pair.client().may_join_at(balancer()) && !pair.client().may_join_at(own()));
    let id = pair.server().advertise(own()).unwrap();
    pair.drive();
    assert!(pair.client().may_join_at(own()));
    assert!(!pair.client().may_join_at(balancer()));
    let other_port = SocketAddr::new(own().ip(), 443);
    assert!(!pair.client().may_join_at(other_port));
    pair.server().withdraw(id).unwrap();
    pair.drive();
    assert!(!pair.client().may_join_at(own()));
}

#[test]
fn server_may_advertise_the_address_that_the_client_came_to() {
    let mut pair = behind_a_balancer();
    pair.server().advertise(balancer()).unwrap();
    pair.drive();
    assert!(pair.client().may_join_at(balancer()));
}

#[test]
fn other_servers_accept_joins_at_any_address() {
    let mut pair = Pair::established();
    assert!(!pair.client().joins_at_advertised_only());
    assert!(pair.client().may_join_at(balancer()));
    pair.server().advertise(own()).unwrap();
    pair.drive();
    assert!(pair.client().may_join_at(balancer()) && pair.client().may_join_at(own()));
}

#[test]
fn servers_ignore_the_parameter_of_a_client() {
    let client = Config::default().with(|config| config.joins_at_advertised_only = true);
    let mut pair = Setup { client, ..Setup::default() }.established();
    assert!(!pair.client().joins_at_advertised_only());
    pair.join();
    pair.transfer(Server, b"as ever");
}

#[test]
fn lane_is_wanted_only_where_joins_are_accepted() {
    let lanes = |config: &mut Config| config.lanes = Lanes::Always;
    let mut setup = Setup::default().both(lanes);
    setup.server.joins_at_advertised_only = true;
    let mut pair = setup.established();
    let local = SocketAddr::from(([203, 0, 113, 1], 50_000));
    pair.client().set_tcp_addresses(FIRST, Some(local), Some(balancer()));
    assert_eq!(pair.client().wants_lane(), None);
    pair.server().advertise(own()).unwrap();
    pair.drive();
    let direct = pair.join();
    pair.client().set_tcp_addresses(direct, Some(local), Some(own()));
    assert_eq!(pair.client().wants_lane(), Some(direct));
}

#[test]
fn session_continues_at_the_address_of_its_server() {
    let mut pair = behind_a_balancer();
    pair.server().advertise(own()).unwrap();
    pair.drive();
    pair.cut(FIRST);
    pair.drive_for(Duration::from_secs(1));
    pair.join();
    pair.transfer(Client, b"past the balancer");
}
