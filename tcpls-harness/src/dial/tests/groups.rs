//! Groups of paths, of which one carries data.

use super::*;

/// A server that is reached from two interfaces in a group, and from a third.
fn world(natures: [world::Nature; 3]) -> World {
    let device = |name| Local::from(Device::new(name).unwrap());
    let home = Group::new("home").unwrap();
    let locals = [device("eth0").in_group(home), device("wlan0").in_group(home), device("usb0")];
    let paths = Path::pairs(&[([192, 0, 2, 1], 443).into()], &locals);
    let options = DialOptions { stagger: Duration::ZERO, ..DialOptions::default() };
    let mut world = World::over(paths, &natures, options);
    world.dialer.set_locals(&locals);
    world.run(Duration::from_secs(1));
    world
}

/// The pairs that carry data.
fn carriers(world: &World) -> Vec<usize> {
    let carries = |pair: &usize| world.on_pair(*pair).is_some_and(|tcp| !world.backups.contains(&tcp));
    (0..3).filter(carries).collect()
}

/// A path goes dark, and its TCP connection stalls.
fn stall(world: &mut World, pair: usize) {
    world.set(pair, Dark);
    let tcp = world.on_pair(pair).unwrap();
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp }));
}

/// It goes on.
fn resume(world: &mut World, pair: usize) {
    world.set(pair, Good);
    let tcp = world.on_pair(pair).unwrap();
    world.hear(&Event::Tcp(TcpEvent::Resumed { tcp }));
    world.run(MS);
}

#[test]
fn one_path_of_a_group_carries_data_and_paths_outside_it_do_too() {
    let world = world([Good; 3]);
    assert_eq!((carriers(&world), world.backups.len()), (vec![0, 2], 1));
    assert_eq!(world.dialer.paths().map(|status| status.backup).collect::<Vec<_>>(), [false, true, false]);
    let joins = world.log.iter().filter_map(|(_, action)| match action {
        Action::Join { options, .. } => Some(options.backup),
        _ => None,
    });
    assert_eq!(joins.collect::<Vec<_>>(), [true, false], "it carries nothing from its first byte on");
}

#[test]
fn the_next_of_a_group_takes_over_when_its_carrier_is_stalled_for_200_ms_or_lost() {
    let mut world = world([Good; 3]);
    stall(&mut world, 0);
    world.run(MS * 199);
    assert_eq!(carriers(&world), [0, 2], "it may only be slow: the session uses the backup meanwhile");
    world.run(MS * 2);
    assert_eq!(carriers(&world), [1, 2]);
    stall(&mut world, 1);
    world.run(MS * 300);
    assert_eq!(carriers(&world), [1, 2], "none answers: the last one stays");
    resume(&mut world, 0);
    assert_eq!(carriers(&world), [0, 2]);

    let mut world = self::world([Good; 3]);
    world.set(0, Refusing);
    let first = world.on_pair(0).unwrap();
    world.lose(first, TcpFault::Reset);
    world.run(Duration::from_secs(2));
    assert_eq!(carriers(&world), [1, 2]);
    assert!(world.on_pair(0).is_none());
}

#[test]
fn a_short_stall_does_not_move_the_data_of_a_group() {
    let mut world = world([Good; 3]);
    world.run(Duration::from_secs(15)); // the others have answered for longer than the first will have
    stall(&mut world, 0);
    world.run(MS * 150);
    resume(&mut world, 0);
    world.run(Duration::from_secs(5));
    assert_eq!(carriers(&world), [0, 2]);
    world.run(Duration::from_secs(20));
    assert_eq!(carriers(&world), [0, 2]);
    assert!(world.times(|action| matches!(action, Action::SetBackup { .. })).is_empty());
}

#[test]
fn an_interface_that_goes_down_passes_the_data_of_its_group_on_at_once() {
    let mut world = world([Good; 3]);
    world.set(0, Dark);
    let (now, tcp) = (world.now, world.on_pair(0).unwrap());
    world.dialer.handle_network(now, NetworkChange::AddressLost(IpAddr::from([10, 0, 0, 1])), &[tcp]);
    world.run(MS);
    assert!(carriers(&world).contains(&1), "{:?}", carriers(&world));
}

#[test]
fn the_first_of_a_group_that_answers_after_a_suspend_carries_its_data_at_once() {
    let mut world = world([Good; 3]);
    let tcps = [0, 1, 2].map(|pair| world.on_pair(pair).unwrap());
    (0..3).for_each(|pair| world.set(pair, Dark));
    world.dialer.handle_network(world.now, NetworkChange::Resumed, &tcps);
    tcps.iter().for_each(|tcp| world.hear(&Event::Tcp(TcpEvent::Stalled { tcp: *tcp })));
    world.run(MS * 50);
    resume(&mut world, 1);
    assert_eq!(carriers(&world), [1, 2], "the other may be lost: it is not waited for");
}

#[test]
fn the_first_of_a_group_carries_data_again_after_it_has_answered_for_10_s() {
    let mut world = world([Good; 3]);
    stall(&mut world, 0);
    world.run(MS * 201);
    resume(&mut world, 0);
    world.run(Duration::from_secs(10) - MS * 2);
    assert_eq!(carriers(&world), [1, 2]);
    world.run(MS * 2);
    assert_eq!(carriers(&world), [0, 2]);

    // A new TCP connection, too; an interruption begins the time again.
    let first = world.on_pair(0).unwrap();
    world.lose(first, TcpFault::Reset);
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(0).is_some_and(|new| new != first));
    stall(&mut world, 0);
    world.run(MS);
    resume(&mut world, 0);
    world.run(Duration::from_secs(9));
    assert_eq!(carriers(&world), [1, 2]);
    world.run(Duration::from_secs(2));
    assert_eq!(carriers(&world), [0, 2]);
}

#[test]
fn session_that_starts_on_a_later_path_of_a_group_moves_to_the_first() {
    let mut world = world([Dark, Good, Good]);
    assert_eq!(carriers(&world), [1, 2]);
    world.set(0, Good);
    world.run(Duration::from_secs(5));
    assert!(world.on_pair(0).is_some());
    assert_eq!((carriers(&world), world.backups.len()), (vec![1, 2], 1));
    world.run(Duration::from_secs(11));
    assert_eq!(carriers(&world), [0, 2]);
}

#[test]
fn tcp_connections_that_join_at_the_same_time_do_not_both_carry_data() {
    let mut world = world([Good; 3]);
    for pair in 0..3 {
        let tcp = world.on_pair(pair).unwrap();
        world.lose(tcp, TcpFault::Reset);
    }
    assert_eq!(carriers(&world), Vec::<usize>::new());
    world.view.tokens = 3;
    world.run(Duration::from_secs(1));
    assert_eq!((carriers(&world).len(), world.backups.len() - 1), (2, 1), "one of them was lost as a backup");
    assert!(carriers(&world).contains(&2));
}

#[test]
fn application_decides_about_backups_of_a_group_itself() {
    let mut world = world([Good; 3]);
    let tcp = [0, 1].map(|pair| world.on_pair(pair).unwrap());
    world.dialer.set_backup(tcp[0], true);
    world.backups.push(tcp[0]);
    world.run(MS);
    assert_eq!(carriers(&world), [1, 2], "another of the group carries data");
    world.dialer.set_backup(tcp[0], false);
    world.backups.retain(|backup| *backup != tcp[0]);
    world.run(Duration::from_secs(20));
    assert_eq!(carriers(&world), [0, 1, 2], "it has left the group");
}

#[test]
fn data_of_a_group_moves_back_after_10_s_and_one_always_carries_it() {
    let mut world = world([Good; 3]);
    stall(&mut world, 0);
    world.run(MS * 201);
    let tcp = [0, 1].map(|pair| world.on_pair(pair).unwrap());
    let resumed = world.now;
    resume(&mut world, 0);
    world.log.clear();
    world.run(Duration::from_secs(30));
    let moves = |action: &Action| match *action {
        Action::SetBackup { tcp, backup } => Some((tcp, backup)),
        _ => None,
    };
    let moves: Vec<_> = world.log.iter().filter_map(|(at, action)| Some((*at, moves(action)?))).collect();
    let back = resumed + Duration::from_secs(10);
    assert_eq!(moves, [(back, (tcp[0], false)), (back, (tcp[1], true))]);
}
