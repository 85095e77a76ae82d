//! Servers that accept joins only at addresses that they advertise.

use tcpls_core::wire::ids::AddressId;

use super::world::{Nature, Unroutable};
use super::*;
use crate::dial::keep::LAST_RESORT;

/// A session over the first of `paths` begins at a server that accepts joins only at advertised addresses. The client knows
/// the first `known` paths.
fn world_over(paths: Vec<Path>, known: usize, options: DialOptions) -> World {
    let natures = vec![Good; paths.len()];
    let mut world = World::over(paths, &natures, options);
    world.dialer = Dialer::new(world.now, &world.paths[..known], options, &Seed([1; 32]));
    world.advertised_only = true;
    world
}

/// The same, established over the only path that the client knows; the server advertises the others.
fn established(paths: usize) -> World {
    let mut world = world_over((0..paths).map(path).collect(), 1, DialOptions::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.on.len(), 1);
    for path in world.paths.clone().into_iter().skip(1) {
        world.dialer.offer(world.now, path);
    }
    world.log.clear();
    world
}

#[test]
fn lost_tcp_connection_is_replaced_at_an_advertised_address_and_nowhere_else() {
    let mut world = established(3);
    world.run(Duration::from_secs(10));
    assert_eq!(world.log, [], "they are alternatives, not more to keep");
    world.lose(FIRST, TcpFault::Reset);
    let lost = world.now;
    world.run(Duration::from_secs(30));
    assert_eq!(world.joined[1].0, lost + RTT * 2);
    assert!(world.on_pair(1).is_some() || world.on_pair(2).is_some());
    assert!(world.dials(0).is_empty());
}

#[test]
fn stalled_tcp_connection_to_the_balancer_is_replaced_at_an_advertised_address() {
    let mut world = established(2);
    world.set(0, Dark);
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: FIRST }));
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(1).is_some());
    assert!(world.dials(0).is_empty());
}

#[test]
fn tcp_connections_that_have_connected_meanwhile_do_not_join_at_other_addresses() {
    let mut world = world_over((0..3).map(path).collect(), 3, DialOptions::default());
    world.run(Duration::from_secs(5));
    assert_eq!((world.joins(), world.on.len()), (0, 1));
    // Of those that the client knows by itself, the server advertises one.
    world.dialer.offer(world.now, path(2));
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(2).is_some() && world.on_pair(1).is_none());
}

#[test]
fn without_an_advertised_address_nothing_is_dialed() {
    let mut world = established(1);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    assert_eq!(world.log, []);
    world.dialer.add(world.now, path(0));
    world.run(Duration::from_secs(60));
    assert_eq!(world.log, [], "nor because the application wants it");
}

#[test]
fn withdrawn_address_is_not_dialed_until_it_is_advertised_again() {
    let mut world = established(2);
    let (id, address) = (AddressId(0), path(1).remote);
    world.hear(&Event::AddressWithdrawn { id, address });
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(30));
    assert_eq!(world.log, []);
    world.hear(&Event::AddressAdvertised { id: AddressId(1), address });
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(1).is_some());
}

#[test]
fn each_interface_leads_to_the_advertised_address() {
    let locals = ["wlan0", "usb0"].map(|name| Local::from(Device::new(name).unwrap()));
    let paths = [path(0), path(1)].map(|path| path.remote);
    let paths = paths.iter().flat_map(|remote| locals.map(|local| local.to(*remote))).collect();
    let options = DialOptions { wanted: 2, stagger: Duration::ZERO, ..DialOptions::default() };
    let mut world = world_over(paths, 2, options);
    world.dialer.set_locals(&locals);
    world.run(Duration::from_secs(1));
    let first = if world.on_pair(0).is_some() { 0 } else { 1 };
    assert_eq!(world.on.len(), 1);
    (2..4).for_each(|pair| world.dialer.offer(world.now, world.paths[pair]));
    world.run(Duration::from_secs(1));
    let other = 3 - first;
    assert!(world.on_pair(other).is_some() && world.on.len() == 2, "the interface that has no TCP connection gets one");
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(2).is_some() && world.on_pair(3).is_some());
}

#[test]
fn interface_that_comes_up_later_leads_to_the_advertised_address() {
    let mut world = established(2);
    let phone = Local::from(Device::new("usb0").unwrap()).to(path(1).remote);
    world.paths.push(phone);
    world.natures.push(Good);
    world.set(1, Dark);
    world.dialer.add(world.now, phone);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(2).is_some());
}

#[test]
fn no_lane_is_dialed_where_the_server_accepts_no_joins() {
    let mut world = established(2);
    (world.view.wants_lane, world.view.lanes_until) = (Some(FIRST), Some(Time::MAX));
    world.run(Duration::from_secs(5));
    assert_eq!(world.log, []);
}

/// A session that has just lost its only TCP connection, to a balancer (pair 0). The server's own address (pair 1) is as
/// given, and the client has `tokens`.
fn asking(own: Nature, tokens: usize) -> World {
    let mut world = established(2);
    (world.view.can_ask, world.view.tokens) = (true, tokens);
    world.set(1, own);
    world.lose(FIRST, TcpFault::Reset);
    world
}

/// How long after the loss, which is 1 s after the start, `pair` was first dialed.
fn first_dial(world: &World, pair: usize) -> Option<Duration> {
    world.dials(pair).first().map(|at| *at - Duration::from_secs(1))
}

#[test]
fn client_asks_at_the_balancer_once_when_the_servers_own_address_refuses() {
    let mut world = asking(Refusing, 4);
    world.run(Duration::from_millis(900));
    let asked = first_dial(&world, 0).unwrap();
    assert!((Duration::from_millis(300)..Duration::from_millis(600)).contains(&asked), "{asked:?}");
    assert_eq!((world.dials(0).len(), world.joins()), (1, 1));
    let early = |action: &Action| matches!(action, Action::Join { options, .. } if options.zero_rtt);
    assert!(world.times(early).is_empty(), "another server needs no data");
    assert!(world.on_pair(0).is_some(), "the balancer has led to the server itself");
}

#[test]
fn clients_of_a_dead_server_do_not_all_ask_at_once() {
    // The pauses between dials differ as well, but not where the round-trip time is known from before.
    for has_joined in [false, true] {
        let asked = |seed: u8| {
            let own = if has_joined { Good } else { Refusing };
            let mut world = World::over(vec![path(0), path(1)], &[Good, own], DialOptions::default());
            world.advertised_only = true;
            world.dialer = Dialer::new(world.now, &[path(0)], DialOptions::default(), &Seed([seed; 32]));
            world.run(Duration::from_secs(1));
            world.dialer.offer(world.now, path(1));
            world.view.can_ask = true;
            if has_joined {
                world.dialer.add(world.now, path(1));
                world.run(Duration::from_secs(1));
                let joined = world.on_pair(1).unwrap();
                world.set(1, Refusing);
                world.lose(joined, TcpFault::Reset);
            }
            world.log.clear();
            world.lose(FIRST, TcpFault::Reset);
            let lost = world.now - Time::from_millis(1000);
            world.run(Duration::from_secs(1));
            *world.dials(0).first().unwrap() - lost
        };
        let all: Vec<_> = (1..=32).map(asked).collect();
        let (first, last) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(*last - *first > Duration::from_millis(100), "{first:?} to {last:?}");
    }
}

#[test]
fn client_does_not_ask_unless_all_addresses_of_the_server_refuse() {
    for (other, asks) in [(Refusing, true), (Unroutable, true), (Dark, false), (Swallowing, false)] {
        let mut world = established(3);
        (world.view.can_ask, world.view.tokens) = (true, 4);
        world.set(1, Refusing);
        world.set(2, other);
        world.lose(FIRST, TcpFault::Reset);
        world.run(Duration::from_secs(20));
        assert_eq!(first_dial(&world, 0).is_some(), asks, "{other:?}");
    }
    let mut world = asking(Unroutable, 4);
    world.run(Duration::from_secs(20));
    assert!(world.dials(0).is_empty(), "this host has no network");
}

#[test]
fn client_does_not_ask_without_resumed_joins() {
    let mut world = established(2);
    world.set(1, Refusing);
    world.view.tokens = 4;
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    assert!(world.dials(0).is_empty() && world.dials(1).len() > 20);
}

#[test]
fn last_token_is_for_the_server_until_a_last_resort() {
    let mut world = asking(Refusing, 1);
    world.run(LAST_RESORT - Duration::from_millis(1));
    assert!(world.dials(0).is_empty() && world.dials(1).len() > 4);
    world.run(Duration::from_secs(1));
    assert_eq!((world.dials(0).len(), world.joins()), (1, 1));
}

#[test]
fn questions_without_a_decisive_answer_are_few_and_leave_a_token() {
    for (tokens, expected) in [(10, 4), (3, 2)] {
        let mut world = asking(Refusing, tokens);
        world.set(0, Alerting);
        world.run(Duration::from_secs(60));
        assert_eq!(world.joins(), expected, "{tokens} tokens");
        world.set(1, Good);
        world.run(Duration::from_secs(2));
        assert!(world.on_pair(1).is_some(), "the server is back");
    }
}

#[test]
fn question_that_is_answered_late_is_not_asked_again_before_the_session_gives_it_up() {
    let mut world = asking(Refusing, 4);
    world.set(0, Swallowing);
    world.run(Duration::from_secs(4));
    assert_eq!((world.dials(0).len(), world.joins()), (1, 1), "many clients may ask at once");
    assert!(world.dials(1).len() > 4, "the server may come back");
}

#[test]
fn addresses_that_refuse_while_another_tcp_connection_answers_do_not_count() {
    let mut world = established(2);
    (world.view.can_ask, world.view.tokens) = (true, 4);
    world.set(1, Refusing);
    world.dialer.add(world.now, path(1));
    world.run(Duration::from_secs(5));
    assert!(world.dials(1).len() > 2 && world.dials(0).is_empty());
    world.set(1, Dark);
    world.log.clear();
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(5));
    assert!(!world.dials(1).is_empty() && world.dials(0).is_empty());
}
