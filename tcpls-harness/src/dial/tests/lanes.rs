//! Lanes: when one is dialed, and when it is left.

use std::time::Duration;

use tcpls_core::error::TcpFault;
use tcpls_core::time::Time;

use super::world::{Closing, Dark, FIRST, Good, RTT, World};
use crate::dial::{Action, Backup, DialOptions, Keep};

const SECOND: Duration = Duration::from_secs(1);

/// A session with a TCP connection on each of `pairs` pairs, of which the first is busy.
fn busy(pairs: usize) -> World {
    let mut world = World::established(pairs, DialOptions::default());
    world.view.wants_lane = Some(FIRST);
    world.view.lanes_until = Some(Time::MAX);
    world
}

/// The joins so far: whether each is one of a lane.
fn lanes(world: &World) -> Vec<bool> {
    let joins = world.log.iter().filter_map(|(_, action)| match action {
        Action::Join { options, .. } => Some(options.lane),
        _ => None,
    });
    joins.collect()
}

fn retired(world: &World) -> usize {
    world.times(|action| matches!(action, Action::Retire { .. })).len()
}

#[test]
fn lane_is_dialed_on_the_busy_pair_and_retired_when_it_is_not_needed() {
    let mut world = busy(2);
    world.view.lanes_until = Some(world.now + SECOND * 10);
    world.run(SECOND * 5);
    assert_eq!((world.dials(0).len(), world.dials(1).len(), lanes(&world)), (1, 0, vec![true]));
    assert_eq!((retired(&world), world.on.len()), (0, 3));
    world.run(SECOND * 10);
    assert_eq!((retired(&world), world.on.len()), (1, 2));
    assert_eq!(world.dials(0).len(), 1, "and not dialed again");
}

#[test]
fn lane_takes_neither_the_last_token_nor_the_last_place() {
    for (tokens, limit) in [(1, 8), (2, 2)] {
        let mut world = busy(1);
        (world.view.tokens, world.view.limit) = (tokens, limit);
        world.run(SECOND * 5);
        assert_eq!(world.dials(0).len(), 0, "{tokens} tokens, {limit} TCP connections");
    }
}

#[test]
fn no_lane_is_dialed_for_a_backup_or_if_the_application_opens_all_tcp_connections() {
    let mut world = busy(1);
    world.dialer.set_backups(vec![Backup::Remote(world.paths[0].remote)]);
    world.run(SECOND * 5);
    assert_eq!(world.dials(0).len(), 0);
    let mut world = World::established(1, DialOptions::default().with(|dial| dial.keep = Keep::Nothing));
    (world.view.wants_lane, world.view.lanes_until) = (Some(FIRST), Some(Time::MAX));
    world.run(SECOND * 5);
    assert_eq!(world.dials(0).len(), 0);
}

#[test]
fn lane_that_fails_is_dialed_again_at_growing_intervals() {
    for nature in [Closing, Dark] {
        let mut world = busy(1);
        world.set(0, nature);
        world.run(SECOND * 100);
        let dials = world.dials(0);
        assert!((5..=8).contains(&dials.len()), "{dials:?}");
        let gaps: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
        world.set(0, Good);
        world.run(SECOND * 100);
        assert_eq!(world.on.len(), 2);
    }
}

#[test]
fn lost_tcp_connection_is_replaced_at_once_although_its_lane_lives() {
    let mut world = busy(1);
    world.run(SECOND);
    world.log.clear();
    let before = world.now;
    world.lose(FIRST, TcpFault::Reset);
    world.run(RTT * 4);
    assert_eq!(lanes(&world), [false]);
    assert_eq!(world.joined.last().map(|(at, _)| *at), Some(before + RTT * 2));
}

#[test]
fn session_that_ends_leaves_no_lane_behind_that_is_connecting() {
    let mut world = busy(1);
    world.set(0, Dark);
    world.run(SECOND);
    world.view.open = false;
    world.run(SECOND);
    assert_eq!(world.times(|action| matches!(action, Action::Abandon { .. })).len(), 1);
}
