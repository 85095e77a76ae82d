//! The dialer in a world of virtual time.

mod direct;
mod groups;
mod lanes;
mod locals;
mod network;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tcpls_core::error::TcpFault;

use self::world::{
    Alerting, Closing, Dark, DropsEarlyData, FIRST, Good, MS, RTT, Refusing, Slow, Swallowing, Untrusted, World, path,
};
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
fn a_box_that_drops_data_ahead_of_the_answer_is_passed_without() {
    let mut world = World::established(1, DialOptions::default());
    world.set(0, DropsEarlyData);
    let reset = world.now;
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(2));
    let kinds: Vec<bool> = world
        .log
        .iter()
        .filter_map(|(_, action)| if let Action::Join { options, .. } = action { Some(options.zero_rtt) } else { None })
        .collect();
    assert_eq!(kinds, [true, false]);
    assert!(world.joined[1].0 <= reset + RTT * 6 + DialOptions::default().patience);
    // It is remembered.
    let tcp = world.on_pair(0).unwrap();
    world.lose(tcp, TcpFault::Reset);
    world.log.clear();
    world.run(Duration::from_secs(2));
    assert!(world.log.iter().all(|(_, action)| !matches!(action, Action::Join { options, .. } if options.zero_rtt)));
    assert!(world.on_pair(0).is_some());
}

#[test]
fn path_that_drops_joins_gets_no_last_token_while_another_answers() {
    let mut world = World::established(2, DialOptions::default());
    world.set(0, Swallowing);
    world.lose(FIRST, TcpFault::Reset);
    for _ in 0..600 {
        world.run(Duration::from_millis(1000));
        assert!(world.view.tokens >= 1);
    }
    assert!((5..20).contains(&world.joins()), "ten minutes cost {} tokens", world.joins());
    world.set(0, Good);
    world.run(Duration::from_secs(80));
    assert!(world.on_pair(0).is_some(), "it is used again when it works again");
}

#[test]
fn the_last_token_is_kept_for_a_path_that_has_not_swallowed_one() {
    let mut world = World::established(2, DialOptions::default());
    let second = world.on_pair(1).unwrap();
    (world.natures[0], world.natures[1]) = (Swallowing, Dark);
    world.lose(FIRST, TcpFault::Reset);
    world.lose(second, TcpFault::Reset);
    world.run(Duration::from_secs(2));
    assert_eq!((world.joins(), world.view.tokens), (1, 1));
    world.set(1, Good);
    world.run(Duration::from_secs(1));
    assert!(world.on_pair(1).is_some());
}

#[test]
fn but_not_for_ever() {
    let mut world = World::established(2, DialOptions::default());
    let second = world.on_pair(1).unwrap();
    (world.natures[0], world.natures[1]) = (DropsEarlyData, Dark);
    world.lose(FIRST, TcpFault::Reset);
    world.lose(second, TcpFault::Reset);
    world.run(Duration::from_secs(6));
    assert!(world.on_pair(0).is_some());
}

/// A session with `tokens` on `pairs` pairs loses all its TCP connections; the pairs are of this nature from now on.
fn stranded(pairs: usize, nature: world::Nature, tokens: usize) -> World {
    let mut world = World::established(pairs, DialOptions::default());
    (world.view.tokens, world.dialer.most_tokens) = (tokens, tokens);
    world.view.until = Some(world.now + Duration::from_secs(60));
    (0..pairs).for_each(|pair| world.set(pair, nature));
    let live: Vec<_> = world.on.iter().map(|(tcp, _)| *tcp).collect();
    live.into_iter().for_each(|tcp| world.lose(tcp, TcpFault::Reset));
    world
}

#[test]
fn balancer_that_closes_every_join_for_55_s_uses_no_tokens_up() {
    for (pairs, tokens) in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (6, 4)] {
        let mut world = stranded(pairs, Closing, tokens);
        world.run(Duration::from_secs(55));
        assert!(world.view.tokens > 0, "{pairs} pairs, {tokens} tokens");
        assert!((20..60 * pairs).contains(&world.joins()), "{pairs} pairs: {} joins", world.joins());
        (0..pairs).for_each(|pair| world.set(pair, Good));
        let back = world.now;
        world.run(Duration::from_secs(5));
        let joined = world.joined.iter().find(|(at, _)| *at > back).expect("it comes back");
        assert!(joined.0 - back < Duration::from_secs(3), "{pairs} pairs, {tokens} tokens: {:?}", joined.0 - back);
    }
}

#[test]
fn joins_that_are_closed_or_refused_are_not_repeated_in_a_burst() {
    for nature in [Closing, Alerting] {
        let mut world = stranded(1, nature, 4);
        let lost = world.now - Time::from_millis(1000);
        world.run(Duration::from_secs(20));
        let joins: Vec<_> =
            world.times(|action| matches!(action, Action::Join { .. })).into_iter().map(|at| at - lost).collect();
        let least = [0, 180, 550, 1300].map(Duration::from_millis);
        assert!(joins.iter().zip(least).all(|(at, least)| *at >= least), "{nature:?}: {joins:?}");
    }
}

#[test]
fn refusals_on_one_path_leave_the_last_token_to_a_path_that_is_away() {
    let mut world = stranded(2, Alerting, 4);
    world.set(1, Dark);
    world.run(Duration::from_secs(40));
    assert_eq!((world.joins(), world.view.tokens), (3, 1));
    world.set(1, Good);
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(1).is_some());
}

#[test]
fn where_all_paths_refuse_the_last_token_is_tried_within_seconds() {
    let mut world = stranded(2, Alerting, 4);
    world.run(Duration::from_secs(6));
    assert_eq!((world.joins(), world.view.tokens), (4, 0));
}

#[test]
fn join_after_one_that_was_closed_carries_no_data_until_one_has_succeeded() {
    let mut world = stranded(1, Closing, 4);
    world.run(Duration::from_millis(300));
    world.set(0, Good);
    world.run(Duration::from_secs(3));
    let tcp = world.on_pair(0).unwrap();
    world.view.tokens = 4;
    world.lose(tcp, TcpFault::Reset);
    world.run(Duration::from_secs(1));
    let kind = |(_, action): &(Time, Action)| match action {
        Action::Join { options, .. } => Some(options.zero_rtt),
        _ => None,
    };
    let kinds: Vec<bool> = world.log.iter().filter_map(kind).collect();
    assert_eq!(kinds, [true, false, true]);
}

#[test]
fn join_that_may_still_be_answered_is_kept_if_there_is_no_other_token() {
    let mut world = World::established(1, DialOptions::default());
    world.view.tokens = 1;
    world.set(0, Swallowing);
    world.lose(FIRST, TcpFault::Reset);
    world.run(Duration::from_secs(30));
    assert_eq!(world.joins(), 1);
    assert_eq!(world.times(|action| matches!(action, Action::Reset { .. })).len(), 0);
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
