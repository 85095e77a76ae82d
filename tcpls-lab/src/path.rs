//! A path: a link in each direction, and what is wrong with it. No sockets, no clock of its own: `wire` has them.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use crate::forge;
use crate::link::{Link, LinkSpec};

/// Towards the client.
pub(crate) const DOWN: usize = 0;
/// Towards the server.
pub(crate) const UP: usize = 1;

/// What a path is like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct PathSpec {
    /// In Mbit/s, of whole IP packets.
    pub(crate) rate: f64,
    /// Round-trip time in milliseconds while nothing waits.
    pub(crate) rtt: f64,
    /// How long a packet that finds the queue almost full waits, in milliseconds.
    pub(crate) queue: f64,
}

impl PathSpec {
    fn link(&self) -> LinkSpec {
        let rate = bits_per_second(self.rate);
        LinkSpec {
            rate,
            delay: Duration::from_secs_f64(self.rtt / 2e3),
            queue: (self.rate * 1e3 * self.queue / 8.0) as usize,
        }
    }
}

fn bits_per_second(mbit: f64) -> u64 {
    ((mbit * 1e6) as u64).max(1)
}

/// What happens to a path at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Nothing is delivered any more, in the directions that are true.
    Dark { down: bool, up: bool },
    /// Nothing is delivered any more, and each TCP segment is answered with a reset.
    Resets,
    /// Everything is delivered again.
    Well,
    /// A new rate in both directions, as a part of what it was at first. The queue keeps its size.
    Rate(f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Dark,
    Resets,
}

/// A path with what is under way on it.
#[derive(Debug)]
pub(crate) struct Path {
    spec: PathSpec,
    links: [Link; 2],
    faults: [Fault; 2],
    ends: [Ipv4Addr; 2],
    /// Payload of TCP delivered to the client and to the server, with what was sent twice.
    pub(crate) delivered: [u64; 2],
}

impl Path {
    /// A path between the addresses of a client and a server.
    pub(crate) fn new(spec: PathSpec, client: Ipv4Addr, server: Ipv4Addr) -> Self {
        let links = [Link::new(spec.link()), Link::new(spec.link())];
        Self { spec, links, faults: Default::default(), ends: [client, server], delivered: [0; 2] }
    }

    /// A packet enters. What is not from one end to the other has no business here.
    pub(crate) fn enter(&mut self, now: Duration, direction: usize, packet: Vec<u8>) {
        let expected = (self.ends[1 - direction], self.ends[direction]);
        if forge::addresses(&packet) == Some(expected) {
            self.links[direction].push(now, packet);
        }
    }

    /// The next packet that is to be delivered by `now`, and when it should have been. Faults strike here, at the far end: what
    /// is under way when a path goes dark is lost.
    pub(crate) fn leave(&mut self, now: Duration, direction: usize) -> Option<(Duration, Vec<u8>)> {
        while let Some((at, packet)) = self.links[direction].pop(now) {
            match self.faults[direction] {
                Fault::None => {
                    self.delivered[direction] += forge::payload(&packet) as u64;
                    return Some((at, packet));
                }
                Fault::Dark => {}
                // Resets pass, also those forged at the other end.
                Fault::Resets => {
                    if let Some(reset) = forge::reset(&packet) {
                        self.links[1 - direction].push(now, reset);
                    } else if forge::is_reset(&packet) {
                        return Some((at, packet));
                    }
                }
            }
        }
        None
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.links.iter().filter_map(Link::next_arrival).min()
    }

    /// Changes the path.
    pub(crate) fn change(&mut self, now: Duration, change: Change) {
        let dark = |dark| if dark { Fault::Dark } else { Fault::None };
        match change {
            Change::Dark { down, up } => self.faults = [dark(down), dark(up)],
            Change::Resets => self.faults = [Fault::Resets; 2],
            Change::Well => self.faults = [Fault::None; 2],
            Change::Rate(part) => {
                let rate = bits_per_second(self.spec.rate * part);
                self.links.iter_mut().for_each(|link| link.set_rate(now, rate));
            }
        }
    }

    /// How long a small packet there and its answer back would take now.
    pub(crate) fn round_trip(&self, now: Duration) -> Duration {
        self.links.iter().map(|link| link.delay(now)).sum()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);

    fn path() -> Path {
        Path::new(PathSpec { rate: 8.0, rtt: 20.0, queue: 50.0 }, CLIENT, SERVER)
    }

    /// From the server to the client, 1000 bytes in all.
    fn data() -> Vec<u8> {
        segment(SERVER, CLIENT, &[7; 960])
    }

    fn segment(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(443, 1234, 1, 500).ack(9);
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn what_fits_the_path_is_delivered_and_counted() {
        let mut path = path();
        path.enter(Duration::ZERO, DOWN, data());
        path.enter(Duration::ZERO, DOWN, segment(Ipv4Addr::new(10, 0, 2, 2), CLIENT, b"stray"));
        assert_eq!(path.next(), Some(11 * MS));
        assert_eq!(path.leave(11 * MS, DOWN), Some((11 * MS, data())));
        assert_eq!(path.leave(99 * MS, DOWN), None);
        assert_eq!(path.delivered, [960, 0]);
    }

    #[test]
    fn what_is_under_way_when_a_path_goes_dark_is_lost() {
        let mut path = path();
        path.enter(Duration::ZERO, DOWN, data());
        path.enter(Duration::ZERO, UP, segment(CLIENT, SERVER, b"request"));
        path.change(5 * MS, Change::Dark { down: true, up: false });
        assert_eq!(path.leave(30 * MS, DOWN), None);
        assert!(path.leave(30 * MS, UP).is_some());
        path.change(40 * MS, Change::Well);
        path.enter(40 * MS, DOWN, data());
        assert!(path.leave(51 * MS, DOWN).is_some());
    }

    #[test]
    fn a_path_that_resets_drops_the_segment_and_tells_its_sender() {
        let mut path = path();
        path.change(Duration::ZERO, Change::Resets);
        path.enter(Duration::ZERO, DOWN, data());
        assert_eq!(path.leave(11 * MS, DOWN), None);
        // 40 bytes at 8 Mbit/s, and half a round trip.
        let (at, reset) = path.leave(99 * MS, UP).unwrap();
        assert_eq!(at, 21 * MS + MS / 25);
        assert_eq!(forge::addresses(&reset), Some((CLIENT, SERVER)));
        assert!(forge::is_reset(&reset));
    }

    #[test]
    fn a_path_that_gets_slow_keeps_its_queue() {
        let mut path = path();
        (0..50).for_each(|_| path.enter(Duration::ZERO, DOWN, data()));
        assert_eq!(path.round_trip(Duration::ZERO), 70 * MS);
        path.change(Duration::ZERO, Change::Rate(0.01));
        assert_eq!(path.round_trip(Duration::ZERO), 5020 * MS);
    }
}
