//! Joins that fail, and what tokens are spent on.

use super::*;

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
