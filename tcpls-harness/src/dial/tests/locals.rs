//! Local ends: interfaces that share the wanted TCP connections, and metered ones.

use super::*;

fn device(name: &str) -> Local {
    Local::from(Device::new(name).unwrap())
}

/// A server with an IPv6 and an IPv4 address, of which one TCP connection from each of `locals` is wanted.
fn dual_stack(locals: &[Local], natures: &[world::Nature]) -> World {
    let remotes = [([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443).into(), ([192, 0, 2, 1], 443).into()];
    let paths = Path::pairs(&remotes, locals);
    let options = DialOptions { wanted: locals.len(), stagger: Duration::ZERO, ..DialOptions::default() };
    let mut world = World::over(paths, natures, options);
    world.dialer.set_locals(locals);
    world
}

/// The pairs that have a TCP connection.
fn in_use(world: &World) -> Vec<usize> {
    (0..world.paths.len()).filter(|pair| world.on_pair(*pair).is_some()).collect()
}

#[test]
fn each_interface_has_its_share_of_tcp_connections_whichever_family_works_there() {
    let locals = [device("wlan0"), device("usb0")];
    let paths = Path::pairs(&[([0; 16], 443).into(), ([127, 0, 0, 1], 443).into()], &locals);
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["[::]:443 from wlan0", "127.0.0.1:443 from wlan0", "[::]:443 from usb0", "127.0.0.1:443 from usb0"]
    );
    for (natures, expected) in [
        ([Good, Good, Good, Good], [0, 2]),
        ([Good, Good, Refusing, Good], [0, 3]),
        ([Refusing, Good, Refusing, Good], [1, 3]),
        ([Dark, Good, Good, Dark], [1, 2]),
    ] {
        let mut world = dual_stack(&locals, &natures);
        world.run(Duration::from_secs(10));
        assert_eq!(in_use(&world), expected, "{natures:?}");
    }
    let mut world = dual_stack(&locals, &[Good, Good, Dark, Dark]);
    world.run(Duration::from_secs(10));
    assert_eq!(in_use(&world).len(), 1, "one interface does not get the share of another");
    world.set(3, Good);
    world.run(Duration::from_secs(10));
    assert_eq!(in_use(&world)[1..], [3]);
}

#[test]
fn tcp_connections_that_the_application_adds_go_beyond_the_share() {
    let locals = [device("wlan0")];
    let mut world = dual_stack(&locals, &[Good, Good]);
    world.run(Duration::from_secs(1));
    assert_eq!(in_use(&world).len(), 1);
    let (now, other) = (world.now, world.paths[1 - in_use(&world)[0]]);
    world.dialer.add(now, other);
    world.run(Duration::from_secs(1));
    assert_eq!(in_use(&world), [0, 1]);
}

#[test]
fn metered_path_is_dialled_only_while_no_other_answers_and_is_a_backup() {
    let locals = [device("usb0").metered(), device("wlan0")];
    let mut world = dual_stack(&locals, &[Good; 4]);
    assert_eq!(world.dialer.paths().map(|status| status.metered).collect::<Vec<_>>(), [false, false, true, true]);
    // The dialer takes the metered ones last.
    world.paths = world.dialer.paths().map(|status| status.path).collect();
    world.run(Duration::from_secs(60));
    assert!(world.dials(2).is_empty() && world.dials(3).is_empty());

    let wifi = in_use(&world)[0];
    let tcp = world.on_pair(wifi).unwrap();
    [0, 1].iter().for_each(|pair| world.set(*pair, Dark));
    world.hear(&Event::Tcp(TcpEvent::Stalled { tcp }));
    world.run(RTT * 2);
    assert_eq!(in_use(&world).len(), 2, "at once");
    let join = world.log.iter().rev().find_map(|(_, action)| match action {
        Action::Join { options, .. } => Some(*options),
        _ => None,
    });
    assert!(join.unwrap().backup);

    // One of the interface, as it has one; and it does not keep the other from coming back.
    world.run(Duration::from_secs(10));
    assert_eq!(in_use(&world).iter().filter(|pair| **pair >= 2).count(), 1);
    world.set(0, Good);
    world.run(Duration::from_secs(10));
    assert!(world.on_pair(0).is_some_and(|new| new != tcp));

    // Lost while the other answers, it is not dialed again.
    let metered = in_use(&world).into_iter().find(|pair| *pair >= 2).unwrap();
    let lost = world.on_pair(metered).unwrap();
    world.log.clear();
    world.lose(lost, TcpFault::Reset);
    world.run(Duration::from_secs(60));
    assert!(world.dials(2).is_empty() && world.dials(3).is_empty());
}

#[test]
fn session_starts_on_a_metered_path_where_no_other_works() {
    for (nature, delay) in [(Refusing, RTT), (Dark, Duration::from_secs(1))] {
        let mut world = dual_stack(&[device("wlan0"), device("usb0").metered()], &[nature, nature, Good, Good]);
        world.paths = world.dialer.paths().map(|status| status.path).collect();
        world.run(Duration::from_secs(2));
        assert_eq!(world.since_start(), Some(delay + RTT * 2), "{nature:?}");
    }
    let mut world = dual_stack(&[device("usb0").metered()], &[Good, Good]);
    world.run(Duration::from_secs(1));
    assert_eq!(world.since_start(), Some(RTT * 2), "it is all there is");
    assert!(world.dialer.paths().all(|status| status.backup));
}
