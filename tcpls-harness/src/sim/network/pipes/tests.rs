//! Pipes on their own, with a sender that always has more.

use super::*;
use crate::sim::scenario::{Direction, FaultKind, Middlebox, Rate, Role, Size, Span};

const MS: Duration = Duration::from_millis(1);

fn path() -> Path {
    Path {
        name: "a".to_owned(),
        rate: Some(Rate(1_000_000)),
        up_rate: None,
        delay: Span(10 * MS),
        jitter: Span::default(),
        queue: Some(Size(20_000)),
        bottleneck: Default::default(),
        loss: 0.0,
        burst: None,
        reorder: 0.0,
        mtu: 1500,
        role: Role::Active,
        group: None,
        middleboxes: Vec::new(),
    }
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn fault(kind: FaultKind, direction: Option<Direction>) -> Fault {
    let (at, path) = (Span::default(), Some("a".to_owned()));
    Fault { at, until: None, kind, path, tcp: None, direction, rate: None, delay: None }
}

/// A client that writes as much as fits, a server that reads all.
struct World {
    net: Pipes,
    socket: SocketId,
    arrived: BytesMut,
    /// When bytes arrived.
    times: Vec<Time>,
    accepted: bool,
    writes: bool,
}

impl World {
    fn new(path: Path) -> Self {
        let mut net = Pipes::new(&[path], 1);
        let socket = net.connect(Time::ZERO, 0);
        Self { net, socket, arrived: BytesMut::new(), times: Vec::new(), accepted: false, writes: true }
    }

    fn run_until(&mut self, end: Time) {
        while let Some(now) = self.net.next().filter(|now| *now <= end) {
            self.net.advance(now);
            self.accepted |= self.net.accept().is_some();
            if self.writes && self.net.opening(self.socket) == Opening::Connected {
                while self.net.is_writable(Side::Client, self.socket) {
                    self.net.write(now, Side::Client, self.socket, &[7; 1000]);
                }
            }
            if self.net.read(now, Side::Server, self.socket, &mut self.arrived) > 0 {
                self.times.push(now);
            }
        }
    }

    /// The longest time between two arrivals.
    fn gap(&self) -> Duration {
        self.times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

#[test]
fn a_path_carries_its_rate_after_a_round_trip_for_the_handshake_and_its_delay() {
    let mut world = World::new(path());
    world.run_until(at(1030));
    assert!(world.accepted);
    assert!(world.times[0] >= at(30) && world.times[0] < at(33), "{:?}", world.times[0]);
    assert!(world.arrived.len().abs_diff(1_000_000) < 3_000, "{}", world.arrived.len());
    assert!(world.arrived.iter().all(|byte| *byte == 7));
}

#[test]
fn bytes_in_a_black_hole_flow_again_at_tcps_retransmission() {
    let mut world = World::new(path());
    world.run_until(at(500));
    world.net.fault(at(500), 0, &fault(FaultKind::BlackHole, None), false);
    world.run_until(at(1000));
    assert!(*world.times.last().unwrap() <= at(512), "nothing gets through");
    world.net.fault(at(1000), 0, &fault(FaultKind::BlackHole, None), true);
    world.writes = false;
    world.run_until(at(5000));
    // Timeouts of 200, 400 and 800 ms after the first loss: tries at 700, 1100.
    assert!(world.gap() >= 590 * MS && world.gap() <= 625 * MS, "{:?}", world.gap());
    assert!(world.arrived.len() > 480_000, "nothing is lost");
}

#[test]
fn sender_without_acknowledgments_stops_after_a_flight() {
    let mut world = World::new(path());
    world.run_until(at(500));
    let before = world.arrived.len();
    world.net.fault(at(500), 0, &fault(FaultKind::BlackHole, Some(Direction::Down)), false);
    world.run_until(at(3000));
    let flight = world.arrived.len() - before;
    assert!((20_000..90_000).contains(&flight), "{flight}");
}

#[test]
fn reset_reaches_the_ends_that_it_is_for() {
    for (kind, client, server) in [
        (FaultKind::Reset, Some(TcpEnd::Reset), Some(TcpEnd::Reset)),
        (FaultKind::ResetClient, Some(TcpEnd::Reset), None),
        (FaultKind::ResetServer, None, Some(TcpEnd::Reset)),
        (FaultKind::Fin, Some(TcpEnd::Fin), Some(TcpEnd::Fin)),
    ] {
        let mut world = World::new(path());
        world.run_until(at(100));
        world.net.fault(at(100), 0, &fault(kind, None), false);
        world.run_until(at(300));
        let ends = [Side::Client, Side::Server].map(|side| world.net.end(side, world.socket));
        assert_eq!(ends, [client, server], "{kind:?}");
        assert!(world.times.last().is_none_or(|last| *last <= at(112)), "nothing gets through any more");
    }
}

#[test]
fn fin_arrives_after_all_bytes() {
    let mut world = World::new(path());
    world.run_until(at(100));
    world.writes = false;
    world.net.close(at(100), Side::Client, world.socket);
    assert_eq!(world.net.end(Side::Server, world.socket), None);
    world.run_until(at(2000));
    assert_eq!(world.net.end(Side::Server, world.socket), Some(TcpEnd::Fin));
    assert!(world.arrived.len() > 256_000, "what was in the socket's buffer came first");
}

#[test]
fn down_path_refuses_connections_and_dark_path_does_not_answer() {
    let mut down = World::new(path());
    down.net.fault(Time::ZERO, 0, &fault(FaultKind::Down, None), false);
    let second = down.net.connect(Time::ZERO, 0);
    down.run_until(at(100));
    assert_eq!(down.net.opening(second), Opening::Failed);
    let mut dark = World::new(path());
    dark.net.fault(Time::ZERO, 0, &fault(FaultKind::BlackHole, None), false);
    let second = dark.net.connect(at(5), 0);
    dark.run_until(at(900));
    assert_eq!(dark.net.opening(second), Opening::Waiting);
    dark.net.fault(at(900), 0, &fault(FaultKind::BlackHole, None), true);
    dark.run_until(at(1030));
    assert_eq!(dark.net.opening(second), Opening::Connected, "the second SYN gets through");
}

#[test]
fn one_bit_is_flipped_and_pieces_have_any_size() {
    let mut world = World::new(path());
    world.net.fault(Time::ZERO, 0, &fault(FaultKind::Corrupt, Some(Direction::Up)), false);
    world.net.fault(Time::ZERO, 0, &fault(FaultKind::Shred, None), false);
    world.run_until(at(500));
    let wrong: Vec<u8> = world.arrived.iter().copied().filter(|byte| *byte != 7).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0] ^ 7).count_ones(), 1);
    assert!(world.arrived.len() > 300_000);
}

#[test]
fn stall_shows_in_tcp_info() {
    let mut world = World::new(path());
    world.run_until(at(500));
    let info = world.net.tcp_info(at(500), Side::Client, world.socket).unwrap();
    assert!(at(500) - info.heard < 5 * MS && info.unacked > 20, "{info:?}");
    assert!(info.rtt >= 35 * MS && info.rtt <= 45 * MS && info.min_rtt <= 25 * MS, "{info:?}");
    world.net.fault(at(500), 0, &fault(FaultKind::BlackHole, None), false);
    world.run_until(at(700));
    let info = world.net.tcp_info(at(700), Side::Client, world.socket).unwrap();
    assert!(info.heard <= at(522) && info.unacked > 20, "{info:?}");
}

#[test]
fn tls_aware_box_resets_both_ends_of_a_non_tls_tcp_connection() {
    let mut world = World::new(Path { middleboxes: vec![Middlebox::TlsAware], ..path() });
    world.run_until(at(100));
    let ends = [Side::Client, Side::Server].map(|side| world.net.end(side, world.socket));
    assert_eq!((ends, world.arrived.len()), ([Some(TcpEnd::Reset); 2], 0));
    let killed = world.net.take_killed();
    assert_eq!(killed, ["TCP connection 0 on path 0: no record begins with [07, 07, 07, 07, 07]"]);
}

#[test]
fn a_proxy_delays_what_arrives_and_its_end_and_loses_nothing() {
    let proxy = Middlebox::Proxy { hold: Span(50 * MS), most: Size(1 << 20) };
    let mut world = World::new(Path { middleboxes: vec![proxy], ..path() });
    world.run_until(at(200));
    world.writes = false;
    world.net.close(at(200), Side::Client, world.socket);
    world.run_until(at(2000));
    assert_eq!(world.net.end(Side::Server, world.socket), Some(TcpEnd::Fin));
    assert!(world.times.len() < 40, "in few pieces: {}", world.times.len());
    assert!(world.arrived.len() > 256_000 && world.arrived.iter().all(|byte| *byte == 7));
}

#[test]
fn balancer_without_its_backend_accepts_and_closes_and_bothers_no_server() {
    let mut world = World::new(path());
    world.run_until(at(100));
    world.net.fault(at(100), 0, &fault(FaultKind::BackendAway, None), false);
    assert_eq!(world.net.end(Side::Server, world.socket), Some(TcpEnd::Fin));
    world.accepted = false;
    let turned_away = world.net.connect(at(100), 0);
    world.run_until(at(300));
    assert_eq!(world.net.opening(turned_away), Opening::Connected);
    assert_eq!(world.net.end(Side::Client, turned_away), Some(TcpEnd::Fin));
    assert!(!world.accepted);
    world.net.fault(at(300), 0, &fault(FaultKind::BackendAway, None), true);
    let accepted = world.net.connect(at(300), 0);
    world.run_until(at(500));
    assert!(world.accepted);
    assert_eq!(world.net.end(Side::Client, accepted), None);
}
