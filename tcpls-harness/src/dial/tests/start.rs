//! The start of a session: races of paths and of handshakes.

use super::*;

#[test]
fn pairs_take_families_in_turns_and_have_little_in_common_at_first() {
    let v4 = |n: u8| SocketAddr::from(([192, 0, 2, n], 443));
    let v6 = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 443));
    let remotes = |pairs: Vec<Path>| pairs.iter().map(|path| path.remote).collect::<Vec<_>>();
    assert_eq!(remotes(Path::pairs(&[v6(1), v6(2), v4(1), v4(2)], &[])), [v6(1), v4(1), v6(2), v4(2)]);
    assert_eq!(remotes(Path::pairs(&[v4(1), v4(2), v6(1)], &[])), [v4(1), v6(1), v4(2)]);

    let local = |n: u8| Local::from(IpAddr::from([10, 0, 0, n]));
    let pairs = Path::pairs(&[v4(1), v4(2), v6(1)], &[local(1), local(2), local(3)]);
    let last = |path: &Path| match (path.remote.ip(), path.local.map(|local| local.ip())) {
        (IpAddr::V4(remote), Some(IpAddr::V4(local))) => (local.octets()[3], remote.octets()[3]),
        other => panic!("{other:?}"),
    };
    assert_eq!(pairs.iter().map(last).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 1), (1, 2), (2, 1), (3, 2)]);
}

#[test]
fn all_pairs_are_joined_two_round_trips_after_the_first_dial() {
    let mut world = World::new(&[Good; 3], DialOptions { stagger: Duration::ZERO, ..DialOptions::default() });
    world.run(RTT * 2);
    assert_eq!(world.since_start(), Some(RTT * 2));
    assert_eq!(world.joins(), 1, "TCP was connected meanwhile; of two tokens one is kept");
    world.run(RTT * 2);
    assert_eq!(world.on.len(), 3);
}

#[test]
fn the_others_connect_while_the_first_shakes_hands() {
    let mut world = World::new(&[Good; 3], DialOptions::default());
    world.run(RTT * 2);
    assert_eq!((world.dials(0), world.dials(1), world.dials(2)), (vec![Duration::ZERO], vec![RTT], vec![RTT]));
    assert_eq!(world.joins(), 1);
}

#[test]
fn dead_first_pair_delays_the_start_by_one_stagger() {
    for (dead, cost) in [(Dark, DialOptions::default().stagger), (Refusing, RTT)] {
        let mut world = World::new(&[dead, Good], DialOptions::default());
        world.run(Duration::from_secs(2));
        assert_eq!(world.since_start(), Some(cost + RTT * 2), "{dead:?}");
    }
    for dead in [Dark, Refusing] {
        let mut world = World::new(&[dead, Good], DialOptions { stagger: Duration::ZERO, ..DialOptions::default() });
        world.run(Duration::from_secs(2));
        assert_eq!(world.since_start(), Some(RTT * 2), "{dead:?}");
    }
}

#[test]
fn dead_pair_among_working_ones_causes_no_delay() {
    for dead in [Dark, Refusing, Swallowing, Untrusted] {
        let mut world = World::new(&[Good, dead, Good], DialOptions::default());
        world.run(Duration::from_secs(1));
        assert_eq!(world.since_start(), Some(RTT * 2), "{dead:?}");
        assert!(world.on_pair(2).is_some(), "{dead:?}");
    }
}

#[test]
fn handshake_starts_on_another_path_if_the_first_drops_it() {
    let mut world = World::new(&[Swallowing, Good], DialOptions::default());
    world.run(Duration::from_secs(1));
    let patience = DialOptions::default().patience + RTT * 2;
    assert_eq!(world.since_start(), Some(RTT + patience + RTT), "connect, wait, shake hands on the other");
    let first = world.log[0].1;
    let Action::Connect { attempt, .. } = first else { panic!("{first:?}") };
    assert!(world.log.iter().any(|(_, action)| *action == Action::Abandon { attempt, timed_out: false }));
}

#[test]
fn a_handshake_that_makes_progress_is_waited_for() {
    let mut world = World::new(&[Swallowing, Good], DialOptions::default());
    world.run(Duration::from_millis(300));
    let slow = AttemptId(1);
    world.dialer.handle_progress(world.now, slow, 4000);
    world.run(Duration::from_millis(400));
    assert_eq!(world.since_start(), None, "bytes came");
    world.dialer.handle_progress(world.now, slow, 4000);
    world.run(Duration::from_millis(200));
    assert!(world.since_start().is_some(), "no more came");
}

#[test]
fn a_pair_that_cannot_be_trusted_is_left_at_once() {
    let mut world = World::new(&[Untrusted, Good], DialOptions::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.since_start(), Some(RTT * 3));
}

#[test]
fn start_fails_once_every_pair_has_failed() {
    let mut world = World::new(&[Refusing, Untrusted, Dark], DialOptions::default());
    world.run(Duration::from_secs(60));
    assert_eq!(world.times(|action| *action == Action::GiveUp).len(), 1);
    assert_eq!(world.log.last().map(|(_, action)| *action), Some(Action::GiveUp));
    let timed_out = |action: &Action| matches!(action, Action::Abandon { timed_out: true, .. });
    assert_eq!(world.times(timed_out).len(), 1);
    assert_eq!(world.dialer.poll_timeout(), None);
}
