//! Real TCP over links, with a sender that always has more.

use std::time::Duration;

use super::*;
use crate::sim::scenario::{FaultKind, Scenario};

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// Bytes that a client gets through a path in `millis`, faults (at, kind, over) included; what arrived, and the
/// longest pause.
fn transfer(options: &str, millis: u64, faults: &[(u64, FaultKind, bool)]) -> (usize, Duration, Packets) {
    let text = format!("title = \"t\"\ntransport = \"packets\"\n[[path]]\nname = \"a\"\n{options}");
    let mut net = Packets::new(&Scenario::parse(&text).unwrap().path, 1);
    let socket = net.connect(Time::ZERO, 0);
    let (mut arrived, mut last, mut gap) = (BytesMut::new(), None, Duration::ZERO);
    let mut faults = faults.iter().peekable();
    loop {
        let next = net.next().unwrap_or(Time::MAX);
        if let Some((when, kind, over)) = faults.next_if(|(when, ..)| at(*when) <= next) {
            let fault = Fault {
                at: Default::default(),
                until: None,
                kind: *kind,
                path: Some("a".to_owned()),
                tcp: None,
                direction: None,
                rate: None,
                delay: None,
            };
            net.fault(at(*when), 0, &fault, *over);
            continue;
        }
        if next > at(millis) {
            break;
        }
        net.advance(next);
        _ = net.accept();
        if net.opening(socket) == Opening::Connected {
            while net.is_writable(Side::Client, socket) && net.end(Side::Client, socket).is_none() {
                net.write(next, Side::Client, socket, &[7; 10_000]);
            }
        }
        if net.read(next, Side::Server, socket, &mut arrived) > 0 {
            gap = last.map_or(gap, |last| gap.max(next - last));
            last = Some(next);
        }
    }
    assert!(arrived.iter().filter(|byte| **byte != 7).count() <= 1);
    (arrived.len(), gap, net)
}

const PATH: &str = "rate = \"8Mbit/s\"\ndelay = \"10ms\"\n";

#[test]
fn tcp_fills_the_path() {
    let (len, _, net) = transfer(PATH, 3000, &[]);
    assert!((2_600_000..3_000_000).contains(&len), "{len}");
    let info = net.tcps[&0].ends[UP].observer.info();
    assert!(info.unacked > 10 && info.rtt > Duration::from_millis(20), "{info:?}");
    assert!(info.min_rtt >= Duration::from_millis(20) && info.min_rtt < Duration::from_millis(25), "{info:?}");
}

#[test]
fn tcp_repairs_losses_and_keeps_the_order() {
    let (len, _, _) = transfer(&format!("{PATH}loss = 0.01\nreorder = 0.01\n"), 3000, &[]);
    assert!(len > 500_000, "{len}");
}

#[test]
fn tcp_resumes_after_a_black_hole_at_its_next_retransmission() {
    let hole = [(1000, FaultKind::BlackHole, false), (1500, FaultKind::BlackHole, true)];
    let (len, gap, _) = transfer(PATH, 5000, &hole);
    assert!(gap >= Duration::from_millis(490) && gap < Duration::from_millis(2500), "{gap:?}");
    assert!(len > 2_000_000, "{len}");
}

#[test]
fn reset_reaches_the_ends_that_it_is_for() {
    for (kind, client, server) in [
        (FaultKind::Reset, Some(TcpEnd::Reset), Some(TcpEnd::Reset)),
        (FaultKind::ResetClient, Some(TcpEnd::Reset), None),
        (FaultKind::ResetServer, None, Some(TcpEnd::Reset)),
        (FaultKind::Fin, Some(TcpEnd::Fin), Some(TcpEnd::Fin)),
        (FaultKind::Forget, None, None),
    ] {
        let (_, _, net) = transfer(PATH, 1000, &[(500, kind, false)]);
        let ends = [Side::Client, Side::Server].map(|side| net.end(side, SocketId(0)));
        assert_eq!(ends, [client, server], "{kind:?}");
    }
}

#[test]
fn a_path_that_is_down_refuses_until_it_is_up() {
    let (_, _, mut net) = transfer(PATH, 500, &[(400, FaultKind::Down, false)]);
    let socket = net.connect(at(500), 0);
    while let Some(next) = net.next().filter(|next| *next < at(700)) {
        net.advance(next);
    }
    assert_eq!(net.opening(socket), Opening::Failed);
}

#[test]
fn a_path_that_was_down_twice_at_once_accepts_again() {
    use FaultKind::Down;
    let (_, _, mut net) =
        transfer(PATH, 500, &[(100, Down, false), (150, Down, false), (200, Down, true), (300, Down, true)]);
    let socket = net.connect(at(500), 0);
    while let Some(next) = net.next().filter(|next| *next < at(700)) {
        net.advance(next);
    }
    assert_eq!(net.opening(socket), Opening::Connected);
    assert_eq!(net.accept(), Some((socket, 0)));
}

#[test]
fn a_flipped_bit_gets_past_the_checksum() {
    let (len, _, mut net) = transfer(PATH, 500, &[(400, FaultKind::Corrupt, false)]);
    assert!(len > 100_000);
    assert_eq!(net.paths[0].links[UP].corrupts, 0);
    net.close(at(500), Side::Client, SocketId(0));
}

#[test]
fn router_drops_packets_beyond_its_queue_and_tcp_repairs_it() {
    let sent = |bottleneck| {
        let (len, _, net) = transfer(&format!("{PATH}queue = \"15kB\"\nbottleneck = \"{bottleneck}\"\n"), 3000, &[]);
        (len, net.paths[0].links[UP].dropped)
    };
    let (len, dropped) = sent("router");
    assert!(dropped > 0 && len > 1_000_000, "{dropped} were dropped, {len} bytes arrived");
    assert_eq!(sent("host").1, 0, "who waits for room loses nothing");
}
