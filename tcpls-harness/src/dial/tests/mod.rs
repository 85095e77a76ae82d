//! The dialer in a world of virtual time.

mod application;
mod direct;
mod groups;
mod lanes;
mod locals;
mod network;
mod start;
mod tokens;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tcpls_core::error::TcpFault;

use self::world::{
    Alerting, Closing, Dark, DropsEarlyData, FIRST, Good, MS, RTT, Refusing, Slow, Swallowing, Untrusted, World, path,
};
use super::*;

#[test]
fn after_a_reset_without_standby_the_redial_is_at_once() {
    let mut world = World::established(1, DialOptions::default());
    let reset = world.now;
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(1));
    assert_eq!(world.log[0].0, reset);
    assert_eq!(world.joined[1].0, reset + RTT * 2, "connect, join; data goes with the join");
}

#[test]
fn path_that_has_become_slow_gets_longer_timeouts() {
    let mut world = World::established(1, DialOptions::default());
    world.set(0, Slow);
    let reset = world.now;
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(20));
    let back = world.joined.get(1).expect("it is joined again").0 - reset;
    assert!(back < Duration::from_secs(5), "{back:?}");
}

#[test]
fn a_server_that_is_away_is_dialled_less_and_less_often() {
    let mut world = World::established(1, DialOptions::default());
    world.set(0, Refusing);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(50));
    let dials = world.dials(0);
    let gaps: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 75 * MS && *gap <= 1250 * MS), "{gaps:?}");
    assert!(gaps.first() < Some(&(126 * MS)) && gaps.last() > Some(&(700 * MS)), "{gaps:?}");
    assert!(dials.len() < 160, "{}", dials.len());
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "there is jitter");
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    let story = |seed: u8| {
        let mut world = World::established(2, DialOptions::default());
        world.dialer.rng = Rng::new(&Seed([seed; 32]), b"tcpls dial");
        world.set(0, Refusing);
        world.lose(FIRST, TcpFault::Reset);
        world.run(Duration::from_secs(10));
        world.log
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}

#[test]
fn lost_path_is_used_again_within_a_fortieth_of_its_absence_while_data_waits() {
    let mut world = World::established(2, DialOptions::default());
    world.set(0, Dark);
    world.lose(FIRST, TcpFault::UserTimeout);
    world.run(Duration::from_secs(20));
    assert_eq!(world.on_pair(0), None);
    world.set(0, Good);
    world.run(Duration::from_millis(625) + RTT * 2);
    assert!(world.on_pair(0).is_some());
}

#[test]
fn dead_path_is_dialled_one_at_a_time_and_at_most_once_a_minute_while_nothing_moves() {
    for streams in [0, 1] {
        let mut world = World::new(&[Good, Dark], DialOptions::default());
        world.run(Duration::from_secs(1));
        (world.view.streams, world.view.has_data) = (streams, false);
        world.run(Duration::from_secs(54));
        assert!((6..=12).contains(&world.dials(1).len()), "{:?}", world.dials(1));
        world.run(Duration::from_secs(600));
        let dials = world.dials(1);
        assert!(dials.len() <= 24 && dials[dials.len() - 1] - dials[dials.len() - 2] > Duration::from_secs(44));
        assert!(world.dialer.pairs[1].attempts.len() <= 1);
    }
}

#[test]
fn dead_path_is_dialled_one_at_a_time_while_data_waits_elsewhere() {
    let mut world = World::new(&[Good, Dark], DialOptions::default());
    let mut most = 0;
    for _ in 0..550 {
        world.run(Duration::from_millis(100));
        most = most.max(world.dialer.pairs[1].attempts.len());
    }
    assert_eq!(most, 1);
    assert!((60..130).contains(&world.dials(1).len()), "{:?}", world.dials(1));
}

#[test]
fn postponed_path_is_dialed_at_once_when_data_waits() {
    let mut world = World::new(&[Good, Dark], DialOptions::default());
    world.run(Duration::from_secs(1));
    (world.view.streams, world.view.has_data) = (1, false);
    world.run(Duration::from_secs(300));
    world.set(1, Good);
    world.view.has_data = true;
    let (waits, dials) = (world.now, world.dials(1).len());
    world.run(RTT * 2);
    assert_eq!(world.dials(1).len(), dials + 1);
    assert_eq!(world.joined.last().map(|(at, _)| *at), Some(waits + RTT * 2));
}

#[test]
fn data_that_moves_keeps_the_session_busy_for_two_seconds() {
    let mut world = World::established(2, DialOptions::default());
    world.set(0, Dark);
    world.view.has_data = false;
    world.lose(FIRST, TcpFault::Reset);
    for moved in 0..200 {
        world.view.delivered = moved;
        world.run(Duration::from_millis(100));
    }
    let dials = world.dials(0).len();
    assert!(dials > 30, "as while data waits: {dials}");
    world.run(Duration::from_secs(60));
    assert!(world.dials(0).len() < dials + 8);
}

#[test]
fn session_without_streams_keeps_one_tcp_connection_until_the_next_stream() {
    let mut world = World::established(3, DialOptions::default());
    (world.view.streams, world.view.has_data) = (0, false);
    let (second, third) = (world.on_pair(1).unwrap(), world.on_pair(2).unwrap());
    world.lose(FIRST, TcpFault::Fin);
    world.lose(second, TcpFault::Fin);
    world.run(Duration::from_secs(60));
    assert_eq!(world.log, []);
    world.lose(third, TcpFault::Fin);
    world.run(Duration::from_secs(60));
    assert_eq!(world.on.len(), 1, "the first that connects");
    world.view.streams = 1;
    world.run(Duration::from_secs(1));
    assert_eq!(world.on.len(), 3);
}

#[test]
fn dials_of_a_stranded_session_without_streams_become_rarer() {
    let mut world = World::established(1, DialOptions::default());
    (world.view.streams, world.view.has_data) = (0, false);
    world.set(0, Dark);
    world.lose(FIRST, TcpFault::Fin);
    world.run(Duration::from_secs(55));
    assert!(world.dials(0).len() < 50, "{}", world.dials(0).len());
    world.set(0, Good);
    world.run(Duration::from_secs(7));
    assert!(world.on_pair(0).is_some());
}

#[test]
fn a_path_that_loses_its_tcp_connections_at_once_is_dialled_less_and_less_often() {
    let mut world = World::established(2, DialOptions::default());
    world.lose(FIRST, TcpFault::Reset);
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        if let Some(tcp) = world.on_pair(0) {
            world.lose(tcp, TcpFault::Reset);
        }
    }
    assert!(world.dials(0).len() < 12, "{:?}", world.dials(0));
}

#[test]
fn a_silent_tcp_connection_is_replaced_by_the_first_that_joins_on_its_path() {
    let mut world = World::established(2, DialOptions::default());
    world.set(0, Dark);
    let silent = world.now;
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: FIRST }));
    world.run(Duration::from_secs(2));
    assert!(world.log[0].0 >= silent + Duration::from_millis(200), "most were only slow");
    world.set(0, Good);
    world.run(Duration::from_millis(300));
    assert_eq!(world.times(|action| *action == Action::Retire { tcp: FIRST }).len(), 1);
    assert!(world.on_pair(0).is_some_and(|tcp| tcp != FIRST));
}

#[test]
fn backup_that_stalls_while_nothing_else_answers_is_dialed_at_once() {
    let mut world = World::new(&[Good; 2], DialOptions::default());
    world.dialer.set_backups(vec![Backup::Remote(path(1).remote)]);
    world.run(Duration::from_secs(60));
    world.log.clear();
    let backup = world.on_pair(1).unwrap();
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: backup }));
    world.run(MS * 199);
    assert_eq!(world.log, [], "it may only be slow, and the other answers");
    world.hear(&Event::Tcp(TcpEvent::Resumed { tcp: backup }));
    (0..2).for_each(|pair| world.set(pair, Dark));
    for tcp in [FIRST, backup] {
        world.hear(&Event::Tcp(TcpEvent::Stalled { tcp }));
    }
    world.run(Duration::ZERO);
    assert_eq!((world.dials(0).len(), world.dials(1).len()), (0, 1), "{:?}", world.log);
}

#[test]
fn slow_path_is_not_crowded_with_dials_while_its_answer_is_waited_for() {
    for (join_time, most) in [(Duration::ZERO, 200), (Duration::from_secs(4), 6)] {
        let mut world = World::established(1, DialOptions::default());
        world.view.join_time = join_time;
        world.set(0, Dark);
        world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: FIRST }));
        world.run(Duration::from_secs(20));
        let dials = world.dials(0).len();
        assert!((most / 4..=most).contains(&dials), "{join_time:?}: {dials} dials");
    }
}

#[test]
fn join_timeout_grows_with_the_time_of_its_hellos_on_a_slow_path() {
    for (join_time, joins) in [(Duration::ZERO, 2), (Duration::from_secs(4), 1)] {
        let mut world = World::established(2, DialOptions::default());
        world.view.join_time = join_time;
        world.set(0, Swallowing);
        world.lose(FIRST, TcpFault::Reset);
        world.run(Duration::from_secs(3));
        assert!(world.joins() >= joins && (joins > 1 || world.joins() == 1), "{join_time:?}: {}", world.joins());
    }
}

#[test]
fn one_that_answers_again_is_not_replaced() {
    for pairs in [1, 2] {
        assert_not_replaced(World::established(pairs, DialOptions::default()));
    }
}

fn assert_not_replaced(mut world: World) {
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: FIRST }));
    world.run(Duration::from_millis(100));
    world.hear(&Event::Tcp(TcpEvent::Resumed { tcp: FIRST }));
    world.run(Duration::from_secs(5));
    assert_eq!(world.log, []);
}

#[test]
fn postponed_pairs_are_dialed_at_once_when_no_tcp_connection_answers() {
    let mut world = World::established(2, DialOptions::default());
    world.set(0, Dark);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    world.set(0, Good);
    let (dark, second) = (world.now, world.on_pair(1).unwrap());
    world.set(1, Dark);
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: second }));
    world.run(Duration::from_secs(1));
    let (at, tcp) = *world.joined.last().unwrap();
    assert!(world.on_pair(0) == Some(tcp) && at <= dark + RTT * 2 + Duration::from_millis(100));
}

#[test]
fn retired_path_is_replaced_only_when_no_other_is_live() {
    let mut world = World::established(2, DialOptions::default());
    world.lose(FIRST, TcpFault::Retired);
    world.run(Duration::from_secs(30));
    assert_eq!(world.log, []);
    let second = world.on_pair(1).unwrap();
    world.set(1, Dark);
    world.lose(second, TcpFault::Reset);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(0).is_some());
}

#[test]
fn a_withdrawn_address_is_not_dialled() {
    let mut world = World::established(2, DialOptions::default());
    let event = Event::AddressWithdrawn { id: tcpls_core::wire::ids::AddressId(0), address: path(0).remote };
    world.hear(&event);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(30));
    assert!(world.dials(0).is_empty());
}

#[test]
fn alternatives_are_dialled_only_as_far_as_they_are_needed() {
    let options = DialOptions { wanted: 1, ..DialOptions::default() };
    let mut world = World::new(&[Good; 3], options);
    world.run(Duration::from_secs(5));
    assert_eq!((world.dials(0).len(), world.dials(1).len(), world.dials(2).len()), (1, 0, 0));

    let options = DialOptions { wanted: 2, ..DialOptions::default() };
    let mut world = World::established(3, options);
    assert_eq!(world.on.len(), 2);
    world.set(0, Dark);
    world.lose(FIRST, TcpFault::Reset);
    let lost = world.now;
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(2).is_some());
    let alternative = world.joined.last().unwrap().0;
    assert_eq!(alternative, lost + options.stagger + RTT * 2);
    let dials = world.log.len();
    world.run(Duration::from_secs(60));
    assert_eq!(world.log.len(), dials, "there are as many as wanted");
}

#[test]
fn no_more_are_dialled_than_the_session_may_have() {
    let mut world = World::new(&[Good; 20], DialOptions::default());
    world.run(Duration::from_secs(10));
    assert_eq!(world.on.len(), 8);
    let dials = world.log.len();
    world.run(Duration::from_secs(60));
    assert_eq!(world.log.len(), dials);
}

/// The TCP connection on the first pair falls silent; how long it takes until another is joined.
fn silence_until_join(world: &mut World) -> Duration {
    let (tcp, silent, joins) = (world.on_pair(0).unwrap(), world.now, world.joins());
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp }));
    while world.joins() == joins {
        world.run(Duration::from_millis(10));
    }
    world.now - silent
}

#[test]
fn where_a_session_may_have_one_the_next_takes_its_place_later_and_later() {
    let mut world = World::established(1, DialOptions::default());
    world.view.limit = 1;
    let mut waited = Vec::new();
    for _ in 0..7 {
        let tcp = world.on_pair(0).unwrap();
        waited.push(silence_until_join(&mut world));
        world.lose(tcp, TcpFault::Fin); // the server has left it for the new one
        world.run(Duration::from_secs(1));
    }
    let expected = [200, 400, 800, 1600, 3200, 6400, 8000].map(Duration::from_millis);
    let is_so = |(waited, expected): (&Duration, &Duration)| (*expected..*expected * 5 / 4).contains(waited);
    assert!(waited.iter().zip(&expected).all(is_so), "{waited:?}");
}

#[test]
fn each_attempt_on_a_path_that_keeps_falling_silent_gets_more_time() {
    let mut world = World::established(1, DialOptions::default());
    let mut waited = Vec::new();
    for _ in 0..4 {
        waited.push(silence_until_join(&mut world));
        world.run(Duration::from_secs(1));
    }
    let expected = [200, 400, 800, 1600].map(Duration::from_millis);
    let is_so = |(waited, expected): (&Duration, &Duration)| (*expected..*expected * 3 / 2).contains(waited);
    assert!(waited.iter().zip(&expected).all(is_so), "{waited:?}");
    world.run(Duration::from_secs(10)); // this one lasts
    assert!(silence_until_join(&mut world) < Duration::from_millis(300));
}

#[test]
fn those_that_keep_only_the_session_dial_when_nothing_is_left() {
    let options = DialOptions { keep: Keep::Session, ..DialOptions::default() };
    let mut world = World::established(2, options);
    assert_eq!(world.on.len(), 1);
    world.run(Duration::from_secs(60));
    assert_eq!(world.log, []);
    world.set(0, Dark);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(1).is_some());

    let options = DialOptions { keep: Keep::Nothing, ..DialOptions::default() };
    let mut world = World::established(2, options);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    assert_eq!(world.log, []);
}

#[test]
fn backup_path_is_dialled_last_and_a_backup_again_whenever_it_is_joined() {
    let mut world = World::new(&[Good; 3], DialOptions::default());
    world.dialer.set_backups(vec![Backup::Remote(path(0).remote)]);
    world.run(Duration::from_secs(1));
    assert_eq!(world.on_pair(1), Some(FIRST), "the handshake is on the first that is no backup");
    world.dialer.set_backup(FIRST, true);
    for _ in 0..3 {
        let live: Vec<_> = world.on.iter().map(|(tcp, _)| *tcp).collect();
        live.into_iter().for_each(|tcp| world.lose(tcp, TcpFault::Reset));
        world.run(Duration::from_secs(1));
    }
    let mut joined = [Vec::new(), Vec::new(), Vec::new()];
    let mut connects = std::collections::BTreeMap::new();
    for (_, action) in &world.log {
        match action {
            Action::Connect { attempt, path } => _ = connects.insert(*attempt, *path),
            Action::Join { attempt, options } => {
                let pair = world.paths.iter().position(|other| *other == connects[attempt]).unwrap();
                joined[pair].push(options.backup);
            }
            _ => {}
        }
    }
    assert_eq!(
        joined.map(|backup| (backup.len() >= 3, backup.iter().all(|is| *is), backup.contains(&true))),
        [(true, true, true), (true, true, true), (true, false, false)]
    );
}

#[test]
fn paths_from_a_metered_address_are_backups() {
    let mut world = World::established(1, DialOptions::default());
    world.dialer.set_backups(vec![Backup::Local(IpAddr::from([10, 0, 0, 1]))]);
    let metered = Path { local: Some(SocketAddr::from(([10, 0, 0, 1], 0))), ..path(0) };
    assert!(world.dialer.join_options(metered).backup && !world.dialer.join_options(path(0)).backup);
    world.dialer.add(world.now, metered);
    let backups: Vec<bool> = world.dialer.paths().map(|status| status.backup).collect();
    assert_eq!(backups, [false, true]);
}
