//! TCP connections that the application joins itself.

use super::*;

#[test]
fn tcp_connections_of_the_application_are_kept() {
    let mut world = World::established(1, DialOptions::default());
    let extra = Path { local: Some(SocketAddr::from(([10, 0, 0, 1], 0))), ..path(0) };
    world.paths.push(extra);
    world.natures.push(Good);
    world.dialer.adopt(world.now, extra, ConnectionId(7));
    world.on.push((ConnectionId(7), 1));
    world.hear(&Event::Tcp(TcpEvent::Joined { tcp: ConnectionId(7) }));
    world.run(Duration::from_secs(10));
    assert_eq!(world.log, []);
    world.lose(ConnectionId(7), TcpFault::Reset);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(1).is_some());
}

#[test]
fn path_that_the_application_adds_again_is_dialled_although_there_is_no_stream() {
    let mut world = World::established(2, DialOptions::default());
    (world.view.streams, world.view.has_data) = (0, false);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(10));
    assert_eq!(world.log, []);
    world.dialer.add(world.now, path(0));
    world.run(RTT * 2);
    assert!(world.on_pair(0).is_some());
}

#[test]
fn join_that_the_application_wants_is_given_up_only_for_another_on_its_path() {
    for (keep, is_replaced) in [(Keep::Session, false), (Keep::Paths, true)] {
        let mut world = World::established(1, DialOptions { keep, ..DialOptions::default() });
        let extra = Path { local: Some(SocketAddr::from(([10, 0, 0, 1], 0))), ..path(0) };
        world.paths.push(extra);
        world.natures.push(Good);
        world.dialer.adopt(world.now, extra, ConnectionId(7));
        world.run(Duration::from_secs(4));
        let given_up = |action: &Action| matches!(action, Action::Reset { tcp: ConnectionId(7), .. });
        assert_eq!(
            (world.times(given_up).len() == 1, world.on_pair(1).is_some()),
            (is_replaced, is_replaced),
            "{keep:?}"
        );
    }
}
